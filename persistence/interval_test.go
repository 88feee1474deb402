package persistence

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func syncs(l *Log) uint64 { return l.Stats().Syncs }

// TestInterval checks that the interval causes syncs, that Wait does not, and that Close ends the
// interval.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := newMemFS()
		o := Options{Sync: SyncInterval, Interval: time.Second}
		l := open(t, fsys, o)
		time.Sleep(1500 * time.Millisecond) // the checkpoint of the opening is also synced
		synctest.Wait()
		before := syncs(l)
		for seq := uint64(1); seq <= 5; seq++ {
			if _, err := Append(l, numbered(seq, 50)); err != nil {
				t.Fatal(err)
			}
		}
		if n := syncs(l) - before; n != 0 {
			t.Fatalf("%d syncs before the interval has ended", n)
		}
		if seqs, _ := contents(t, l); len(seqs) != 5 {
			t.Fatalf("Next shows %v", seqs)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := syncs(l) - before; n != 1 {
			t.Fatalf("%d syncs after the interval, want 1", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := syncs(l) - before; n != 1 {
			t.Fatalf("%d syncs with nothing new", n)
		}
		after := open(t, fsys.powerCut(rand.New(rand.NewPCG(1, 1))), Options{})
		if seqs, _ := contents(t, after); len(seqs) != 5 {
			t.Fatalf("after a power cut there are %v", seqs)
		}
		after.Close()
		if err := l.Close(); err != nil { // synctest fails if the goroutine does not end
			t.Fatal(err)
		}
	})
}

// TestIntervalSyncsLargeAmounts checks that the unsynced bytes are bounded, because they are kept
// in memory.
func TestIntervalSyncsLargeAmounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, newMemFS(), Options{Sync: SyncInterval, Interval: time.Hour, Files: Files{BufferBytes: 4 << 10}})
		defer l.Close()
		before := syncs(l)
		for seq := uint64(1); seq <= 100; seq++ {
			if _, err := Append(l, numbered(seq, 400)); err != nil {
				t.Fatal(err)
			}
		}
		if n := syncs(l) - before; n < 8 || n > 11 {
			t.Fatalf("%d syncs for 44 kB with a buffer of 4 KiB", n)
		}
	})
}

// TestIntervalFailedSync checks that the records since the last fsync are written again, to another
// file. All others stay where they are.
func TestIntervalFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := newMemFS()
		l := open(t, fsys, Options{Sync: SyncInterval, Interval: time.Second})
		appendTo := func(last uint64) {
			for seq := l.LastSeq() + 1; seq <= last; seq++ {
				if _, err := Append(l, numbered(seq, 50)); err != nil {
					t.Fatal(err)
				}
			}
		}
		end := func(seqs ...uint64) {
			for _, seq := range seqs {
				if err := l.Done(seq, Result{Kind: Acked}); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect := func(want ...uint64) {
			t.Helper()
			if seqs, _ := contents(t, l); !slices.Equal(seqs, want) {
				t.Fatalf("Next shows %v, want %v", seqs, want)
			}
		}
		appendTo(5)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		appendTo(10)
		end(2, 7, 9)
		failed := false
		fsys.setFault(func(op, _ string, n int) (int, error) {
			if op == "sync" && !failed {
				failed = true
				return 0, syscall.EIO
			}
			return n, nil
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if s := l.Stats(); !failed || s.Segments != 2 || s.Pending != 7 || len(l.state.catalog.Segments[0].Locs) != 5 {
			t.Fatalf("failed: %v, %+v", failed, s)
		}
		expect(1, 3, 4, 5, 6, 8, 10)
		after := open(t, fsys.powerCut(rand.New(rand.NewPCG(1, 1))), Options{})
		if seqs, _ := contents(t, after); !slices.Equal(seqs, []uint64{1, 3, 4, 5, 6, 8, 10}) {
			t.Fatalf("after a power cut there are %v", seqs)
		}
		after.Close()
		end(1, 3, 4, 5, 6)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := l.Stats(); s.Segments != 1 {
			t.Fatalf("the old segment is still there: %+v", s)
		}
		expect(8, 10)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSyncNever_SyncsOnlyFullSegments checks that only a full segment and Close cause a sync.
func TestSyncNever_SyncsOnlyFullSegments(t *testing.T) {
	o := small
	o.Sync = SyncNever
	l := open(t, newMemFS(), o)
	opening := syncs(l)
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := Append(l, numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
	}
	s := l.Stats()
	if n := s.Syncs - opening; n != 2*uint64(s.Segments-1) { // the full segment and the new one
		t.Fatalf("%d syncs for %d segments", n, s.Segments)
	}
	before := s.Syncs
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if syncs(l) == before {
		t.Fatal("Close did not sync")
	}
}
