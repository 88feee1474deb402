package persistence

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestOpen_DiskRefusesWrites opens a log while each operation fails with each error. Pending
// messages can be read and ended. When the disk works again, messages are accepted; or everything
// is found after a restart.
func TestOpen_DiskRefusesWrites(t *testing.T) {
	const n = 30
	for _, cause := range append(outageErrors[:len(outageErrors):len(outageErrors)], syscall.EACCES) {
		for _, op := range []string{"create", "write", "sync", "syncdir"} {
			for _, lasts := range []time.Duration{0, time.Second, 30 * time.Second} { // 0: permanently
				t.Run(fmt.Sprint(op, ", ", cause, ", ", lasts), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						disk := newMemFS()
						l := open(t, disk, small)
						for seq := uint64(1); seq <= n; seq++ {
							if _, err := Append(l, numbered(seq, 300)); err != nil {
								t.Fatal(err)
							}
						}
						if err := errors.Join(l.SetSent(Normal, 10), l.Release(2), l.Sync()); err != nil {
							t.Fatal(err)
						}
						disk = disk.killed() // without the reserve, which a full disk would use
						_ = disk.Remove("log/RESERVE")
						var fails atomic.Bool
						fails.Store(true)
						disk.setFault(func(is, _ string, n int) (int, error) {
							if fails.Load() && (is == op || op == "sync" && is == "write") {
								return 0, cause
							}
							return n, nil
						})
						o := with(small, func(o *Options) { o.FS = disk })
						l, err := Open("log", o)
						if op == "sync" && err != nil { // the existing segments cannot be synced
							fails.Store(false)
							l, err = Open("log", o)
							if seqs, _ := contents(t, l); err != nil || len(seqs) != n {
								t.Errorf("then: %v, %v", seqs, err)
							}
							_ = l.Close()
							return
						}
						if err != nil {
							t.Fatal(err)
						}
						if _, err := l.Enqueue(t.Context(), numbered(1, 8)); !errors.Is(err, ErrDegraded) || !errors.Is(err, cause) || !l.Stats().Degraded {
							t.Errorf("Enqueue: %v", err)
						}
						seqs, released := contents(t, l)
						if len(seqs) != n || !slices.Equal(released, []uint64{2}) || l.Sent(Normal) != 10 {
							t.Errorf("%v are pending, %v released, sent up to %d", seqs, released, l.Sent(Normal))
						}
						for _, seq := range []uint64{1, 29, 30} {
							if err := l.Done(seq, Result{Kind: Acked}); err != nil {
								t.Error(err)
							}
						}
						if lasts == 0 {
							time.Sleep(time.Minute)
							if err := l.Close(); !errors.Is(err, cause) {
								t.Errorf("Close: %v", err)
							}
							fails.Store(false)
							l = open(t, disk, small)
							if seqs, _ := contents(t, l); len(seqs) != n { // the results could not be written
								t.Errorf("after a restart, %v are pending", seqs)
							}
						} else {
							time.Sleep(lasts)
							fails.Store(false)
							time.Sleep(6 * time.Second)
							if _, err := Append(l, numbered(n+1, 8)); err != nil {
								t.Fatalf("after the outage: %v", err)
							}
							if s := l.Stats(); s.Degraded || s.Outages != 1 {
								t.Errorf("%+v", s)
							}
							if err := l.Close(); err != nil {
								t.Error(err)
							}
							l = open(t, onMemFS(disk.FS.Killed()), small)
							if seqs, _ := contents(t, l); len(seqs) != n-2 || seqs[0] != 2 || seqs[len(seqs)-1] != n+1 {
								t.Errorf("after a restart, %v are pending", seqs)
							}
						}
						if s := l.Stats(); s.Lost+s.Corruptions > 0 {
							t.Errorf("%+v", s)
						}
						if err := l.Close(); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

// The outage begins at the opening and ends before a power failure. No message that was accepted
// before or after the outage may be lost, and messages that ended during it must have ended.
func TestOpen_PowerFailureAfterOutage(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			disk := manySegments(t, 60)
			var fails atomic.Bool
			fails.Store(true)
			disk.setFault(func(is, _ string, n int) (int, error) {
				if fails.Load() && is != "sync" {
					return 0, syscall.ENOSPC
				}
				return n, nil
			})
			l := open(t, disk, small)
			for _, seq := range []uint64{1, 3, 59} {
				if err := l.Done(seq, Result{Kind: Acked}); err != nil {
					t.Fatal(err)
				}
			}
			fails.Store(false)
			time.Sleep(6 * time.Second)
			if _, err := Append(l, numbered(61, 8)); err != nil {
				t.Fatal(err)
			}
			after := open(t, disk.powerCut(rand.New(rand.NewPCG(seed, 1))), small)
			if seqs, _ := contents(t, after); len(seqs) != 28 || seqs[0] != 5 || seqs[27] != 61 {
				t.Errorf("%v are pending", seqs)
			}
			for _, l := range []*Log{l, after} {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
