package persistence

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// This file tests which events begin a new epoch: a power failure, a clock that is set, or another
// host. The tests of copied files are in renewal_copy_test.go.

// onHost is a file system that reports another host than the file system below it.
type onHost struct {
	*memFS
	host fsys.Host
}

func (o onHost) Host() fsys.Host { return o.host }

// life opens the log and numbers some messages. It leaves the log as a running process does.
func life(t *testing.T, fs fsys.FS, sync SyncPolicy) *Log {
	t.Helper()
	l := open(t, fs, Options{Sync: sync, Interval: 24 * time.Hour})
	id, last, err := l.Stream("s")
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 3; n++ {
		m := numbered(l.LastSeq()+1, 50)
		m.Stream, m.StreamSeq = id, last+n
		if _, err := Append(l, m); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// power simulates a power failure after which no unsynced data is left.
func power(t *testing.T, fs *memFS) *memFS {
	t.Helper()
	for state := range fs.Trace().States(faultfs.Plan{}) {
		if state.Cut == fs.Len() { // the first state has no unsynced data
			return onMemFS(state.FS())
		}
	}
	t.Fatal("no state at the end of the trace")
	return nil
}

// TestRenewal_BySyncPolicy checks that a new epoch begins if a power failure may have removed
// numbers, under the policy with which they were written. In all other cases, the epoch must
// continue.
func TestRenewal_BySyncPolicy(t *testing.T) {
	const killed, cut, closed = "killed", "power cut", "closed, power cut"
	for _, c := range []struct {
		sync SyncPolicy
		end  string
		want Renewal
	}{
		{SyncEveryCommit, killed, Continued}, {SyncEveryCommit, cut, Continued}, {SyncEveryCommit, closed, Continued},
		{SyncInterval, killed, Continued}, {SyncInterval, cut, TailLost}, {SyncInterval, closed, Continued},
		{SyncNever, killed, Continued}, {SyncNever, cut, TailLost}, {SyncNever, closed, Continued},
	} {
		for next := range SyncNever + 1 {
			t.Run(fmt.Sprint(c.sync, " ", c.end, ", then ", next), func(t *testing.T) {
				disk := newMemFS()
				l := life(t, disk, c.sync)
				epoch, left := l.Epoch(), disk
				switch c.end {
				case killed:
					left = disk.killed()
				case cut:
					left = power(t, disk)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if c.end == closed {
					left = power(t, disk)
				}
				l = life(t, left, next)
				if l.Renewal() != c.want || (l.Epoch() == epoch) != (c.want == Continued) || l.Epoch() < epoch {
					t.Errorf("%v, epoch %d, it was %d; want %v", l.Renewal(), l.Epoch(), epoch, c.want)
				}
				// From now on, the policy of this opening is in force.
				epoch, left = l.Epoch(), power(t, left)
				l.Close()
				want := TailLost
				if next == SyncEveryCommit {
					want = Continued
				}
				l = life(t, left, SyncEveryCommit)
				defer l.Close()
				if l.Renewal() != want || (l.Epoch() == epoch) != (want == Continued) {
					t.Errorf("the second time %v, epoch %d, it was %d; want %v", l.Renewal(), l.Epoch(), epoch, want)
				}
			})
		}
	}
}

// TestRenewal_UnknownBoot checks that, if the boot of the system is unknown, the end of a process
// may have been a power failure.
func TestRenewal_UnknownBoot(t *testing.T) {
	for _, c := range []struct {
		before, after uint64
		want          Renewal
	}{{0, 0, TailLost}, {0, 1, TailLost}, {1, 0, TailLost}, {1, 2, TailLost}, {1, 1, Continued}} {
		disk := newMemFS()
		l := life(t, onHost{disk, fsys.Host{Boot: c.before}}, SyncInterval)
		left := disk.killed()
		l.Close()
		l = life(t, onHost{left, fsys.Host{Boot: c.after}}, SyncInterval)
		if l.Renewal() != c.want {
			t.Errorf("boot %d, then %d: %v, want %v", c.before, c.after, l.Renewal(), c.want)
		}
		l.Close()
	}
}

// TestRenewal_NoNumberTwice checks that no number of an epoch is assigned to two messages that a
// process may have sent. It tests any state after a power failure, also with a clock that was never
// set.
func TestRenewal_NoNumberTwice(t *testing.T) {
	lives := func(t *testing.T) {
		for seed := range uint64(50) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			disk, used := newMemFS(), map[string]bool{}
			for range 6 {
				sync := SyncPolicy(rnd.IntN(int(SyncNever) + 1))
				l := open(t, disk, Options{Sync: sync, Interval: 24 * time.Hour})
				id, last, _ := l.Stream("s")
				for n := last + 1; n <= last+uint64(rnd.IntN(4)); n++ {
					m := numbered(l.LastSeq()+1, 50)
					m.Stream, m.StreamSeq = id, n
					if _, err := Append(l, m); err != nil {
						t.Fatal(err)
					}
					number := fmt.Sprint(l.Epoch(), "/", n)
					if used[number] {
						t.Fatalf("seed %d: %s is used twice", seed, number)
					}
					used[number] = true
				}
				left := disk
				switch rnd.IntN(3) {
				case 0:
					left = disk.killed()
				case 1:
					left = disk.powerCut(rnd)
				}
				l.Close()
				disk = left
			}
		}
	}
	t.Run("clock set", lives)
	t.Run("clock never set", func(t *testing.T) { synctest.Test(t, lives) }) // it always shows the same moment of the year 2000
}

// TestEpoch_ClockNeverSet checks stores that are created, restored or declared copies at the same
// moment of a clock that was never set. They must have different epochs, and an epoch must never
// decrease.
func TestEpoch_ClockNeverSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epochs := map[uint64]bool{}
		disk := newMemFS()
		l := life(t, disk, SyncEveryCommit)
		l.Close()
		for range 50 {
			m := NewMemory(Options{})
			epochs[m.Epoch()] = true
			m.Close()
			copied := disk.killed()
			if err := DeclareCopy("log", Options{FS: copied}, KeepPending); err != nil {
				t.Fatal(err)
			}
			c := life(t, copied, SyncEveryCommit)
			if c.Epoch() <= l.Epoch() {
				t.Errorf("the copy has epoch %d, the original %d", c.Epoch(), l.Epoch())
			}
			epochs[c.Epoch()] = true
			c.Close()
		}
		if len(epochs) != 100 {
			t.Errorf("100 stores have %d epochs", len(epochs))
		}
	})
}

// TestRenewal_ClockSet checks that an epoch of a clock that was never set ends once, when the clock
// is set. The new epoch is the time of that clock.
func TestRenewal_ClockSet(t *testing.T) {
	disk := newMemFS()
	synctest.Test(t, func(t *testing.T) { life(t, disk, SyncEveryCommit).Close() })
	now := uint64(time.Now().UnixMilli())
	for _, want := range []Renewal{ClockSet, Continued} {
		l := life(t, disk, SyncEveryCommit)
		if l.Renewal() != want || l.Epoch() < now {
			t.Errorf("%v, epoch %d; want %v, now %d", l.Renewal(), l.Epoch(), want, now)
		}
		l.Close()
	}
}

// TestRenewal_OtherHost opens a log that another machine wrote. A machine that is unknown for some
// time does not count as another machine.
func TestRenewal_OtherHost(t *testing.T) {
	disk := newMemFS()
	for i, c := range []struct {
		machine uint64
		want    Renewal
	}{{0, Continued}, {1, Continued}, {1, Continued}, {0, Continued}, {1, Continued}, {0, Continued}, {2, OtherHost}, {2, Continued}, {1, OtherHost}} {
		l := open(t, onHost{disk, fsys.Host{Machine: c.machine}}, Options{})
		if l.Renewal() != c.want {
			t.Errorf("%d: machine %d: %v, want %v", i, c.machine, l.Renewal(), c.want)
		}
		if _, known := l.Session(); known != (i > 0 && c.want == Continued) {
			t.Errorf("%d: a session is known: %t", i, known)
		}
		if err := l.ResetSession("c"); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
