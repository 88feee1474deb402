package persistence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// writeIdle makes the idle write at once.
func writeIdle(l *Log) {
	l.mu.Lock()
	if b := takeIdle(l); b != nil && l.usable() == nil {
		_ = lead(l, b)
		return
	}
	l.mu.Unlock()
}

// operations counts the operations of a file system.
func operations(fs *memFS, kind faultfs.Kind) (n int) {
	for _, op := range fs.Trace().Ops {
		if op.Kind == kind {
			n++
		}
	}
	return n
}

// A killed process loses no record that is older than twice idleAfter, although no commit followed.
// The log writes the records without a sync, and then it is idle.
func TestIdle_WritesRecordsForAKill(t *testing.T) {
	for _, policy := range []SyncPolicy{SyncEveryCommit, SyncInterval, SyncNever} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := newMemFS()
				fs.idle = true
				o := Options{Sync: policy, Interval: time.Hour, Retention: Retention{MaxDeadLetters: 5}}
				l := open(t, fs, o)
				for seq := range uint64(6) {
					if _, err := Append(l, numbered(seq+1, 10)); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(l.Done(5, Result{Kind: DeadLettered}), l.Seen(8, 1), l.Sync()); err != nil {
					t.Fatal(err)
				}
				writes, syncs := operations(fs, faultfs.Write), operations(fs, faultfs.Sync)
				since := time.UnixMilli(1_700_000_000_000)
				_, _, err := l.Stream("s")
				err = errors.Join(err, l.Done(1, Result{Kind: Acked}), l.Release(2), l.Defer(3, Deferral{Since: since}), l.Discard(5), l.Seen(7, 1), l.Cleared(8))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * idleAfter)
				synctest.Wait()
				if n := operations(fs, faultfs.Write) - writes; n != 1 {
					t.Errorf("%d writes, want 1", n)
				}
				killed := fs.killed() // all writes, whether or not they were synced
				time.Sleep(time.Minute)
				if w, s := operations(fs, faultfs.Write)-writes, operations(fs, faultfs.Sync)-syncs; w != 1 || s != 0 {
					t.Errorf("%d writes and %d syncs in an idle minute, want 1 and 0", w, s)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = open(t, killed, o)
				defer l.Close()
				streams := 0
				eachStream(l, func(string, uint32, uint64) bool { streams++; return true })
				if s := l.Stats(); s.Acked != 1 || s.DeadLetters != 0 || s.Pending != 4 || s.Deferred != 1 || streams != 1 {
					t.Errorf("after a kill: %+v, %d streams", s, streams)
				}
				if r, seen := l.Released(), l.SeenIDs(); len(r) != 1 || r[0].Seq != 2 || len(seen) != 1 || seen[7] != 1 {
					t.Errorf("after a kill: released %v, seen %v", r, seen)
				}
			})
		})
	}
}

// Sync after an idle write makes its records durable. A message enqueued beside such records is
// durable when Wait returns.
func TestIdle_SyncAndWaitAreDurable(t *testing.T) {
	fs := newMemFS()
	l := open(t, fs, small)
	defer l.Close()
	if _, err := Append(l, numbered(1, 10)); err != nil {
		t.Fatal(err)
	}
	check := func(what string, want int) {
		t.Helper()
		before := operations(fs, faultfs.Sync)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if n := operations(fs, faultfs.Sync) - before; n != want {
			t.Errorf("%s: Sync has made %d fsyncs, want %d", what, n, want)
		}
	}
	if err := l.Release(1); err != nil {
		t.Fatal(err)
	}
	writeIdle(l)
	check("after an idle write", 1)
	check("again", 0)
	ticket, err := l.Enqueue(context.Background(), numbered(2, 10))
	if err != nil {
		t.Fatal(err)
	}
	writeIdle(l)
	before := operations(fs, faultfs.Sync)
	if err := l.Wait(context.Background(), ticket); err != nil || operations(fs, faultfs.Sync) != before {
		t.Errorf("Wait: %v", err)
	}
	check("after an idle write with a message", 0)
}

// While commits carry the records, there are no idle writes.
func TestIdle_NoWritesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		fs.idle = true
		l := open(t, fs, Options{Files: Files{PreallocateBytes: -1}})
		before, n := operations(fs, faultfs.Write), 100
		for seq := range uint64(n) {
			if _, err := Append(l, numbered(seq+1, 10)); err != nil {
				t.Fatal(err)
			}
			if err := l.Done(seq+1, Result{Kind: Acked}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(idleAfter / 3)
		}
		if w := operations(fs, faultfs.Write) - before; w != n {
			t.Errorf("%d writes for %d commits", w, n)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A failed idle write begins an outage. The log retries with a backoff, and loses no record.
func TestIdle_FailedWriteBeginsOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		fs.idle = true
		l := open(t, fs, Options{})
		for seq := range uint64(3) {
			if _, err := Append(l, numbered(seq+1, 10)); err != nil {
				t.Fatal(err)
			}
		}
		failed := 0
		fs.setFault(func(_, _ string, _ int) (int, error) {
			failed++
			return 0, syscall.EIO
		})
		if err := l.Done(1, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if s := l.Stats(); !s.Degraded || s.Outages != 1 {
			t.Fatalf("%+v", s)
		}
		if failed < 5 || failed > 100 {
			t.Errorf("%d operations failed in a minute", failed)
		}
		if err := l.Done(2, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		fs.setFault(func(_, _ string, n int) (int, error) { return n, nil })
		time.Sleep(2 * lastTry)
		if s := l.Stats(); s.Degraded {
			t.Fatalf("%+v", s)
		}
		if err := l.Done(3, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * idleAfter)
		synctest.Wait()
		killed := fs.killed()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, killed, Options{})
		defer l.Close()
		if s := l.Stats(); s.Acked != 3 || s.Pending != 0 {
			t.Errorf("after a kill: %+v", s)
		}
	})
}

// endOneAndIdle stores a message, ends it, prints the number of messages that were pending before,
// and waits to be killed.
func endOneAndIdle(dir string) error {
	l, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	pending := l.Stats().Pending
	seq, err := Append(l, numbered(l.LastSeq()+1, 100))
	if err != nil {
		return err
	}
	if err := l.Done(seq, Result{Kind: Acked}); err != nil {
		return err
	}
	fmt.Println(pending)
	time.Sleep(time.Hour)
	return nil
}

// A process ends one message and is killed when it has been idle for a short time. No such message
// is pending in the next process.
func TestIdle_KilledProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var before []string
	for range 4 {
		cmd := exec.Command(self)
		cmd.Env, cmd.Stderr = append(os.Environ(), idleEnv+"="+dir), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		time.Sleep(10 * idleAfter)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, line)
	}
	if want := slices.Repeat([]string{"0\n"}, 4); !slices.Equal(before, want) {
		t.Errorf("pending at each start: %q, want none", before)
	}
}
