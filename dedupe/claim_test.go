package dedupe

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// A Commit whose context ends while another Commit is being written leaves its
// claim as it was.
func TestFile_CommitLeavesTheBatchWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := slowDisk{newFaultDisk(), make(chan struct{})}
		f := openOn(t, testPath(t), d, Options{})
		a, b, c := want(t, f, "a", Fresh), want(t, f, "b", Fresh), want(t, f, "c", Fresh)
		results := make(chan error, 3)
		go func() { results <- f.Commit(t.Context(), a) }()
		synctest.Wait() // at its fsync

		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		go func() { results <- f.Commit(ctx, b) }()
		synctest.Wait()
		go func() { results <- f.Commit(t.Context(), c) }()
		synctest.Wait()
		cancel(stopped)
		if err := <-results; err != stopped {
			t.Errorf("Commit: %v, want the cause of its context", err)
		}
		if _, err := f.Renew(t.Context(), b); err != nil {
			t.Errorf("the claim is lost: %v", err)
		}
		close(d.gate)
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("Commit: %v", err)
			}
		}
		want(t, f, "a", Duplicate)
		want(t, f, "c", Duplicate)
		want(t, f, "b", InFlight)
		if err := f.Commit(ctx, b); err != nil {
			t.Errorf("Commit with an ended context on an idle disk: %v", err)
		}
		want(t, f, "b", Duplicate)
		f.Close()
	})
}

// After the last Commit has left a batch, there is nothing to write.
func TestFile_CommitLeavesAnEmptyBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := slowDisk{newFaultDisk(), make(chan struct{})}
		f := openOn(t, testPath(t), d, Options{})
		a, b := want(t, f, "a", Fresh), want(t, f, "b", Fresh)
		go f.Commit(t.Context(), a)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Commit(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("Commit: %v", err)
		}
		close(d.gate)
		synctest.Wait()
		before := f.Stats().Syncs
		f.writer <- struct{}{}
		f.write()
		<-f.writer
		if n := f.Stats().Syncs - before; n != 0 {
			t.Errorf("an empty batch was written with %d fsyncs", n)
		}
		if err := f.Abort(t.Context(), b); err != nil {
			t.Error(err)
		}
		f.Close()
	})
}

// A claim that is being committed is not taken over, however long its fsync takes.
func TestFile_CommitOutlivesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := slowDisk{newFaultDisk(), make(chan struct{})}
		f := openOn(t, testPath(t), d, Options{Lease: 1})
		a := want(t, f, "a", Fresh)
		result := make(chan error, 2)
		go func() { result <- f.Commit(t.Context(), a) }()
		time.Sleep(time.Second)
		holder := want(t, f, "a", InFlight)
		go func() { result <- f.Wait(t.Context(), holder) }()
		synctest.Wait()
		if len(result) > 0 {
			t.Errorf("Wait returned while the claim was being committed: %v", <-result)
		}
		close(d.gate)
		for range 2 {
			if err := <-result; err != nil {
				t.Error(err)
			}
		}
		want(t, f, "a", Duplicate)
		f.Close()
	})
}

// Tokens grow across a crash, although a claim writes nothing, and across a
// rewrite of the log.
func TestFile_TokensGrowAfterACrash(t *testing.T) {
	d, path := newFaultDisk(), testPath(t)
	last := uint64(0)
	for i := range 5 {
		f := openOn(t, path, d, Options{})
		for range 10 {
			c := want(t, f, "a", Fresh)
			if c.Token <= last {
				t.Fatalf("process %d: token %d after %d", i, c.Token, last)
			}
			last = c.Token
			if err := f.Abort(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if i == 2 {
			if err := f.rewrite(); err != nil {
				t.Fatal(err)
			}
		}
		f.lock.Close() // killed
		d = d.powerCut(0, false)
	}
}

func TestParseRecord_RejectsInvalidOpenRecords(t *testing.T) {
	for base, want := range map[uint64]bool{0: true, maxBaseToken: true, maxBaseToken + 1: false} {
		if r, _, ok := parseRecord(appendOpenRecord(nil, 0, 0, base)); ok != want || ok && r.base != base {
			t.Errorf("base %d: %+v, %v", base, r, ok)
		}
	}
	short := appendRecord(nil, 0, 0, "1234567")
	copy(short, openMagic)
	if r, _, ok := parseRecord(short); ok {
		t.Errorf("an open record of 7 bytes: %+v", r)
	}
}

// A log without open records, as earlier versions wrote it, is continued.
func TestFile_OpensALogWithoutOpenRecords(t *testing.T) {
	path := testPath(t)
	f := openOn(t, path, diskWith(path, appendRecord([]byte(header), 0, 0, "a")), Options{TTL: -1})
	want(t, f, "a", Duplicate)
	if c := want(t, f, "b", Fresh); c.Token != tokensPerOpen+1 {
		t.Errorf("token %d", c.Token)
	}
	f.Close()
}

// The longest lease does not overflow.
func TestMemory_LongestLease(t *testing.T) {
	m := NewMemory(Options{Lease: math.MaxInt64})
	c := want(t, m, "a", Fresh)
	if d := time.Until(c.Expires); d < 50*365*24*time.Hour {
		t.Errorf("the lease ends in %v", d)
	}
	want(t, m, "a", InFlight)
}
