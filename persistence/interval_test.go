package persistence

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func syncs(l *Log) uint64 { return l.Stats().Syncs }

// TestInterval: Wait does not sync, the clock does, and Close ends the clock.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := newMemFS()
		o := Options{Sync: SyncInterval, Interval: time.Second}
		l := open(t, fsys, o)
		time.Sleep(1500 * time.Millisecond) // the checkpoint of the opening is synced too
		synctest.Wait()
		before := syncs(l)
		for seq := uint64(1); seq <= 5; seq++ {
			if _, err := l.Append(numbered(seq, 50)); err != nil {
				t.Fatal(err)
			}
		}
		if n := syncs(l) - before; n != 0 {
			t.Fatalf("%d syncs before the interval is over", n)
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
		if err := l.Close(); err != nil { // synctest fails when the goroutine stays
			t.Fatal(err)
		}
	})
}

// TestIntervalSyncsLargeAmounts: what is not synced yet is kept in memory, so
// it is bounded.
func TestIntervalSyncsLargeAmounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, newMemFS(), Options{Sync: SyncInterval, Interval: time.Hour, BufferBytes: 4 << 10})
		defer l.Close()
		before := syncs(l)
		for seq := uint64(1); seq <= 100; seq++ {
			if _, err := l.Append(numbered(seq, 400)); err != nil {
				t.Fatal(err)
			}
		}
		if n := syncs(l) - before; n < 8 || n > 11 {
			t.Fatalf("%d syncs for 44 kB with a buffer of 4 KiB", n)
		}
	})
}

// TestIntervalFailedSync: what was written since the last fsync is written
// again, to another file.
func TestIntervalFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := newMemFS()
		l := open(t, fsys, Options{Sync: SyncInterval, Interval: time.Second})
		for seq := uint64(1); seq <= 5; seq++ {
			if _, err := l.Append(numbered(seq, 50)); err != nil {
				t.Fatal(err)
			}
		}
		failed := false
		fsys.setFault(func(op, _ string, n int) (int, error) {
			if op == "sync" && !failed {
				failed = true
				return 0, syscall.EIO
			}
			return n, nil
		})
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if s := l.Stats(); !failed || l.active().number != 2 || s.Pending != 5 {
			t.Fatalf("failed: %v, segment %d, %+v", failed, l.active().number, s)
		}
		if seqs, _ := contents(t, l); len(seqs) != 5 {
			t.Fatalf("Next shows %v", seqs)
		}
		after := open(t, fsys.powerCut(rand.New(rand.NewPCG(1, 1))), Options{})
		if seqs, _ := contents(t, after); len(seqs) != 5 {
			t.Fatalf("after a power cut there are %v", seqs)
		}
		after.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNever: only a full segment and Close sync.
func TestNever(t *testing.T) {
	o := small
	o.Sync = SyncNever
	l := open(t, newMemFS(), o)
	opening := syncs(l)
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := l.Append(numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
	}
	s := l.Stats()
	if n := s.Syncs - opening; n != 2*uint64(s.Segments-1) { // the full one, the new one
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
