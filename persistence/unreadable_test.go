package persistence

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// oldest is the first segment.
const oldest = "log/0000000000000001.mlog"

// TestNext_UnreadableMessage makes reads fail in each way, for some time or permanently.
func TestNext_UnreadableMessage(t *testing.T) {
	const n, forever = 40, 0
	place := func(op faultfs.Op) bool { return op.Name == oldest && op.Off > 0 && op.Off < 1000 } // contains two messages
	file := func(op faultfs.Op) bool { return op.Name == oldest }
	all := func(faultfs.Op) bool { return true }
	for _, c := range []struct {
		name  string
		cause error
		fails func(faultfs.Op) bool
		lasts time.Duration
		lost  int
		took  time.Duration // at most
	}{
		{"a place, for 1 s", syscall.EIO, place, time.Second, 0, 2 * time.Second},
		{"a place, for good", syscall.EIO, place, forever, 2, 5 * time.Second},
		{"a place, unknown error, for good", errors.New("medium error"), place, forever, 2, 5 * time.Second},
		{"a file, for 1 s", syscall.EIO, file, time.Second, 0, 2 * time.Second},
		{"a file, for good", syscall.EIO, file, forever, 9, 5 * time.Second},
		{"the disk, for 1 s", syscall.EIO, all, time.Second, 0, 2 * time.Second},
		{"the disk, for 30 s", syscall.EIO, all, 30 * time.Second, 0, 32 * time.Second},
		{"the device is gone for 30 s", syscall.ENODEV, all, 30 * time.Second, 0, 32 * time.Second},
		{"no descriptors for 30 s", syscall.EMFILE, all, 30 * time.Second, 0, 32 * time.Second},
		{"no descriptors in the system for 30 s", syscall.ENFILE, file, 30 * time.Second, 0, 32 * time.Second},
		{"no memory for 30 s", syscall.ENOMEM, file, 30 * time.Second, 0, 32 * time.Second},
		{"no permission for 30 s", syscall.EACCES, file, 30 * time.Second, 0, 32 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := newMemFS()
				var reported []Corruption
				o := with(small, func(o *Options) { o.OnCorruption = func(x Corruption) { reported = append(reported, x) } })
				l := open(t, disk, o)
				for seq := uint64(1); seq <= n; seq++ {
					if _, err := Append(l, numbered(seq, 400)); err != nil {
						t.Fatal(err)
					}
				}
				begin := time.Now()
				disk.SetFault(func(op faultfs.Op) (int, error) {
					if (op.Kind == faultfs.Read || op.Kind == faultfs.Open) && c.fails(op) && (c.lasts == forever || time.Since(begin) < c.lasts) {
						return 0, c.cause
					}
					return op.Len, nil
				})
				var e Entry
				var cursor Cursor
				read := 0
				for {
					ok, err := l.Next(&cursor, &e)
					if unread := (*ReadError)(nil); errors.As(err, &unread) && errors.Is(err, c.cause) {
						if _, err := l.Enqueue(t.Context(), numbered(1, 8)); err != nil && time.Since(begin) < time.Minute { // other calls must not block
							t.Fatal(err)
						}
						if time.Since(begin) > time.Minute {
							t.Fatalf("after a minute: %v", err)
						}
						time.Sleep(500 * time.Millisecond)
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if !ok || e.Seq > n {
						break
					}
					cursor.Pass(&e)
					read++
				}
				s := l.Stats()
				if read != n-c.lost || int(s.Lost) != c.lost || len(reported) != c.lost {
					t.Errorf("%d were read, %d are lost, %d reported; want %d lost", read, s.Lost, len(reported), c.lost)
				}
				for _, x := range reported {
					if !errors.Is(x.Err, c.cause) || x.Seq == 0 || x.File != oldest {
						t.Errorf("reported %+v", x)
					}
				}
				if took := time.Since(begin); took > c.took || c.lasts > 0 && took < c.lasts || c.lost > 0 && took < giveUpAfter {
					t.Errorf("it took %v", took)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A message is not given up while the disk also refuses writes, because the whole disk may be
// unavailable for some time.
func TestNext_UnreadableMessageDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newMemFS()
		l := open(t, disk, small)
		for seq := uint64(1); seq <= 40; seq++ {
			if _, err := Append(l, numbered(seq, 400)); err != nil {
				t.Fatal(err)
			}
		}
		var fails atomic.Bool
		fails.Store(true)
		disk.SetFault(func(op faultfs.Op) (int, error) { // the headers are in the memory of the system
			if fails.Load() && !(op.Kind == faultfs.Open || op.Kind == faultfs.Read && op.Off == 0) {
				return 0, syscall.EIO
			}
			return op.Len, nil
		})
		var e Entry
		for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(time.Second) {
			if _, err := l.Next(&Cursor{}, &e); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
		}
		fails.Store(false)
		time.Sleep(10 * time.Second)
		if seqs, _ := contents(t, l); len(seqs) != 40 || l.Stats().Lost > 0 || l.Stats().Degraded {
			t.Errorf("%v are left, %+v", seqs, l.Stats())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A segment that was removed counts as damage if the folder still exists.
func TestNext_RemovedSegment(t *testing.T) {
	dir := t.TempDir()
	var reported []string
	l, err := Open(dir, with(small, func(o *Options) {
		o.OnCorruption = func(x Corruption) { reported = append(reported, fmt.Sprint(x.Err)) }
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for seq := uint64(1); seq <= 40; seq++ {
		if _, err := Append(l, numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(dir + strings.TrimPrefix(oldest, "log")); err != nil {
		t.Fatal(err)
	}
	if seqs, _ := contents(t, l); len(seqs) != 31 || l.Stats().Lost != 9 || len(reported) != 9 {
		t.Errorf("%v are left, %+v, %q", seqs, l.Stats(), reported)
	}
}
