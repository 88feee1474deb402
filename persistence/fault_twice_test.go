package persistence

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
)

// TestFailsAfterTheSecondFailure: one failure is survived, two are not, and the
// error says so, and the log is usable again after reopening.
func TestFailsAfterTheSecondFailure(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			fsys := newMemFS()
			l := open(t, fsys, Options{})
			if _, err := Append(l, numbered(1, 10)); err != nil {
				t.Fatal(err)
			}
			failures := 1
			fsys.fault = func(o, _ string, n int) (int, error) {
				if o != op || failures == 0 {
					return n, nil
				}
				failures--
				return 0, syscall.EIO
			}
			if seq, err := Append(l, numbered(2, 10)); err != nil || seq != 2 {
				t.Fatalf("one failure: Append = %d, %v", seq, err)
			}
			if s := l.Stats(); s.Segments != 2 {
				t.Fatalf("after a failure there are %d segments, want a new one", s.Segments)
			}
			failures = 2
			_, err := Append(l, numbered(3, 10))
			var failed *FailedError
			if !errors.Is(err, ErrFailed) || !errors.As(err, &failed) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("two failures: %v, want ErrFailed because of EIO", err)
			}
			_, enqueue := l.Enqueue(numbered(3, 10))
			_, next := l.Next(&Cursor{0}, new(Entry))
			for i, err := range []error{enqueue, next, l.Release(1), l.Done(1, Result{Kind: Acked}), l.Seen(1, 7), l.Sync(), l.ResetSession("c")} {
				if !errors.Is(err, ErrFailed) {
					t.Errorf("method %d of the failed log: %v", i, err)
				}
			}
			if err := l.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("Close of the failed log: %v", err)
			}
			fsys = fsys.powerCut(rand.New(rand.NewPCG(1, 1)))
			l = open(t, fsys, Options{})
			defer l.Close()
			if seqs, _ := contents(t, l); len(seqs) < 2 || seqs[0] != 1 || seqs[1] != 2 {
				t.Fatalf("after reopening there are %v", seqs)
			}
		})
	}
}

// TestRemovalFails: what cannot be removed is tried again, and does no harm.
func TestRemovalFails(t *testing.T) {
	fsys := newMemFS()
	fsys.fault = func(op, _ string, n int) (int, error) {
		if op == "remove" {
			return 0, fmt.Errorf("in use: %w", syscall.EBUSY)
		}
		return n, nil
	}
	l := open(t, fsys, small)
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Stats(); s.Segments < 10 {
		t.Fatalf("%d segments, though none can be removed", s.Segments)
	}
	fsys.fault = nil
	if _, err := Append(l, numbered(101, 500)); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Segments > 2 || s.DiskBytes > 3*small.Files.SegmentBytes {
		t.Fatalf("not removed: %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRemovalWhileReading: Next has a segment open when its last message ends.
func TestRemovalWhileReading(t *testing.T) {
	l := open(t, newMemFS(), small)
	defer l.Close()
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
	}
	var e Entry
	for range 100 {
		if ok, err := l.Next(&Cursor{0}, &e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		before := l.Stats().Segments
		if err := l.Done(e.Seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		last := e.Seq == l.state.catalog.Segments[0].End()-1
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if last && before > 3 && l.Stats().Segments >= before {
			t.Fatalf("the segment that ended with %d is still there", e.Seq)
		}
	}
}
