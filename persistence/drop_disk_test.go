package persistence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// At MaxDiskBytes, DropOldest drops the oldest messages until a segment can be removed. Messages of
// normal priority do not use the reserved part, and no urgent message is dropped.
func TestDropOldest_AtMaxDiskBytes(t *testing.T) {
	o := small
	o.Limits.MaxDiskBytes, o.Limits.WhenFull, o.Limits.Reserved = 64<<10, DropOldest, 20
	for name, open := range map[string]func() Store{
		"log":    func() Store { return open(t, newMemFS(), o) },
		"memory": func() Store { return NewMemory(o) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open()
			defer s.Close()
			const n = 10_000
			alarms, dropped := map[uint64]bool{}, map[uint64]bool{}
			last := uint64(0)
			for i := 1; i <= n; i++ {
				m := numbered(uint64(i), 500)
				if i%50 == 0 {
					m = numbered(uint64(i), 60)
					m.Priority = Urgent
				}
				ticket, err := s.Enqueue(context.Background(), m)
				if err == nil {
					err = s.Wait(context.Background(), ticket)
				}
				if err != nil {
					t.Fatalf("message %d: %v; %+v", i, err, s.Stats())
				}
				last = ticket.Seq
				if m.Priority == Urgent {
					alarms[ticket.Seq] = true
				}
				for _, d := range ticket.Drops {
					if alarms[d.Seq] || dropped[d.Seq] || d.Cause != DroppedOldest {
						t.Fatalf("dropped %+v: alarm %v, twice %v", d, alarms[d.Seq], dropped[d.Seq])
					}
					dropped[d.Seq] = true
				}
				if size := s.Stats().DiskBytes; size > o.Limits.MaxDiskBytes+3*o.Files.SegmentBytes {
					t.Fatalf("%d bytes on disk after message %d", size, i)
				}
			}
			st := s.Stats()
			if st.Accepted != n || st.Pending+st.Dropped != n || st.Dropped != uint64(len(dropped)) || st.DroppedOldest != st.Dropped {
				t.Errorf("%d dropped, %+v", len(dropped), st)
			}
			left := map[uint64]bool{}
			var e Entry
			for c := (Cursor{}); ; c.Pass(&e) {
				ok, err := s.Next(&c, &e)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				left[e.Seq] = true
			}
			for seq := range alarms {
				if !left[seq] {
					t.Errorf("alarm %d is not there", seq)
				}
			}
			if !left[last] || !left[last-20] || len(left) < 40 {
				t.Errorf("%d are left, the last %v", len(left), left[last])
			}
		})
	}
}

// If no message may be dropped, Enqueue returns ErrFull.
func TestDropOldest_KeepsSentMessages(t *testing.T) {
	o := small
	o.Limits.MaxDiskBytes, o.Limits.WhenFull = 64<<10, DropOldest
	l := open(t, newMemFS(), o)
	defer l.Close()
	if err := l.SetSent(Normal, 1_000_000); err != nil {
		t.Fatal(err)
	}
	var err error
	seq := uint64(1)
	for ; err == nil && seq < 1000; seq++ {
		_, err = Append(l, numbered(seq, 500))
	}
	var full *FullError
	if !errors.As(err, &full) || full.Limit != "MaxDiskBytes" || l.Stats().Dropped != 0 {
		t.Errorf("message %d: %v, %+v", seq, err, l.Stats())
	}
}

func TestReserved_KeepsRoomForUrgent(t *testing.T) {
	for _, policy := range []FullPolicy{Reject, DropOldest, DropNewest} {
		l := open(t, newMemFS(), Options{Limits: Limits{MaxMessages: 10, Reserved: 30, WhenFull: policy}})
		count := func(p Priority) (n int) {
			for range 20 {
				m := numbered(1, 10)
				m.Priority = p
				if _, err := Append(l, m); err == nil {
					n++
				} else if !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			return n
		}
		want := map[FullPolicy][2]int{Reject: {7, 3}, DropOldest: {20, 10}, DropNewest: {7, 3}}[policy]
		if normal, high := count(Normal), count(High); normal != want[0] || high != want[1] {
			t.Errorf("policy %d: %d Normal and %d High were accepted, want %d", policy, normal, high, want)
		}
		if s := l.Stats(); s.PendingOf[High] != uint64(want[1]) {
			t.Errorf("policy %d: %+v", policy, s)
		}
		l.Close()
	}
}

// A FullError names the limit that was set, the reserved share and the priority.
func TestFullError_NamesTheShare(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		size   int
	}{
		{Limits{MaxMessages: 8, Reserved: 25}, 10},
		{Limits{MaxBytes: 4000, Reserved: 25}, 500},
		{Limits{MaxDiskBytes: 64 << 10, Reserved: 25}, 500},
	} {
		o := small
		o.Limits = c.limits
		limit, value := "MaxMessages", int64(c.limits.MaxMessages)
		switch {
		case c.limits.MaxBytes > 0:
			limit, value = "MaxBytes", c.limits.MaxBytes
		case c.limits.MaxDiskBytes > 0:
			limit, value = "MaxDiskBytes", c.limits.MaxDiskBytes
		}
		l := open(t, newMemFS(), o)
		defer l.Close()
		for _, p := range []Priority{Normal, High} {
			var err error
			for err == nil {
				m := numbered(l.LastSeq()+1, c.size)
				m.Priority = p
				_, err = Append(l, m)
			}
			want := FullError{Limit: limit, Max: value, Priority: p}
			parts := []string{fmt.Sprintf("Limits.%s = %d", limit, value)}
			if p == Normal {
				want.Reserved = 25
				parts = append(parts, "75 %", "Limits.Reserved = 25", "priority Normal", "lower Reserved, or raise "+limit)
			}
			var full *FullError
			if !errors.As(err, &full) || *full != want {
				t.Fatalf("%v: %v, want %+v", p, err, want)
			}
			for _, part := range parts {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not contain %q", err, part)
				}
			}
			if p == High && strings.Contains(err.Error(), "Reserved") {
				t.Errorf("%q names Reserved", err)
			}
		}
	}
}

// While segments cannot be removed, Enqueue returns ErrFull and does not retry all the time. When
// they can be removed, messages are accepted.
func TestMaxDiskBytes_WhileSegmentsCannotBeRemoved(t *testing.T) {
	for _, policy := range []FullPolicy{Reject, DropOldest, DropNewest} {
		disk := newMemFS()
		o := small
		o.Limits.MaxDiskBytes, o.Limits.WhenFull = 64<<10, policy
		l := open(t, disk, o)
		defer l.Close()
		var removals atomic.Int64
		var broken atomic.Bool
		broken.Store(true)
		disk.SetFault(func(op faultfs.Op) (int, error) {
			if op.Kind == faultfs.Remove && broken.Load() {
				removals.Add(1)
				return 0, syscall.EIO
			}
			return op.Len, nil
		})
		last := uint64(0)
		for {
			seq, err := Append(l, numbered(last+1, 500))
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil {
				t.Fatalf("policy %d: %v", policy, err)
			}
			last = seq
		}
		for seq := range last {
			if err := l.Done(seq+1, Result{Kind: Acked}); err != nil {
				t.Fatal(err)
			}
		}
		removals.Store(0)
		begin := time.Now()
		for range 100 {
			if _, err := Append(l, numbered(last+1, 500)); !errors.Is(err, ErrFull) {
				t.Fatalf("policy %d: %v", policy, err)
			}
		}
		if n, most := removals.Load(), 5+int64(time.Since(begin)/removeAgain); n > most {
			t.Errorf("policy %d: %d removals were tried, want at most %d", policy, n, most)
		}
		broken.Store(false)
		for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			_, err := Append(l, numbered(last+1, 500))
			if err == nil {
				break
			}
			if !errors.Is(err, ErrFull) || time.Now().After(limit) {
				t.Fatalf("policy %d, the disk is mended: %v", policy, err)
			}
		}
	}
}

// The same, while segments cannot be read, so their remaining messages cannot be moved.
func TestMaxDiskBytes_WhileSegmentsCannotBeRead(t *testing.T) {
	disk := newMemFS()
	o := small
	o.Limits.MaxDiskBytes, o.Limits.WhenFull, o.Limits.Reserved = 64<<10, DropOldest, 20
	l := open(t, disk, o)
	defer l.Close()
	var opened atomic.Int64
	var broken atomic.Bool
	broken.Store(true)
	disk.SetFault(func(op faultfs.Op) (int, error) {
		if op.Kind == faultfs.Open && broken.Load() {
			opened.Add(1)
			return 0, syscall.EMFILE
		}
		return op.Len, nil
	})
	add := func(i int) error {
		m := numbered(uint64(i), 500)
		if i%5 == 0 {
			m.Priority = Urgent
		}
		_, err := Append(l, m)
		return err
	}
	begin, refused := time.Now(), 0
	for i := range 1000 {
		if err := add(i); errors.Is(err, ErrFull) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Fatal("the disk was never full")
	}
	if n, most := opened.Load(), 300+10*int64(time.Since(begin)/removeAgain); n > most {
		t.Errorf("%d files were opened, want at most %d", n, most)
	}
	broken.Store(false)
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := add(1)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFull) || time.Now().After(limit) {
			t.Fatalf("the disk is mended: %v", err)
		}
	}
}

// TestDropOldest_WhileSegmentsAreRemoved publishes while another goroutine removes segments slowly, and
// while kept messages end in the segments that are compacted. Neither is a failure of the disk, so no
// message may be refused.
func TestDropOldest_WhileSegmentsAreRemoved(t *testing.T) {
	o := small
	o.Limits.MaxDiskBytes, o.Limits.WhenFull, o.Limits.Reserved = 64<<10, DropOldest, 20
	fsys := newMemFS()
	fsys.setFault(func(op, _ string, n int) (int, error) {
		if op == "remove" {
			time.Sleep(time.Millisecond)
		}
		return n, nil
	})
	l := open(t, fsys, o)
	defer l.Close()
	alarms := make(chan uint64, 40)
	var publishers, ending sync.WaitGroup
	ending.Go(func() {
		for seq := range alarms {
			if len(alarms) < cap(alarms)/2 {
				time.Sleep(50 * time.Microsecond) // so that alarms are in the oldest segments
			}
			if err := l.Done(seq, Result{Kind: Acked}); err != nil {
				t.Errorf("alarm %d: %v", seq, err)
			}
		}
	})
	for worker := range 4 {
		publishers.Go(func() {
			for i := range 2000 {
				m := numbered(uint64(worker*2000+i+1), 500)
				if i%10 == 0 {
					m = numbered(uint64(worker*2000+i+1), 60)
					m.Priority = Urgent
				}
				ticket, err := l.Enqueue(t.Context(), m)
				if err == nil {
					err = l.Wait(t.Context(), ticket)
				}
				if err != nil {
					t.Errorf("worker %d, message %d: %v", worker, i, err)
					return
				}
				if m.Priority == Urgent {
					alarms <- ticket.Seq
				}
			}
		})
	}
	publishers.Wait()
	close(alarms)
	ending.Wait()
}
