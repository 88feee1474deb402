package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestDropOldest_DropsOneSegmentAtATime fills logs with the default segment size and messages of
// random sizes. One call of Enqueue drops at most 1/16 of the limit. After each drop, the log still
// uses almost all the space that messages of its priority may use.
func TestDropOldest_DropsOneSegmentAtATime(t *testing.T) {
	for _, c := range []struct {
		limit    int64
		reserved int
		size     int // of the largest packet
		alarms   int // one in this many messages is Urgent; 0: none
	}{
		{16 << 20, 20, 30_000, 0},
		{16 << 20, 20, 30_000, 20},
		{16 << 20, 0, 30_000, 0},
		{1 << 20, 20, 200, 0},
		{1 << 20, 0, 5_000, 5},
		{1 << 20, 80, 5_000, 0},
		{256 << 10, 50, 1_000, 10},
	} {
		t.Run(fmt.Sprintf("%d KiB, %d%% reserved, packets up to %d, alarm 1/%d", c.limit>>10, c.reserved, c.size, c.alarms), func(t *testing.T) {
			o := Options{Sync: SyncNever, Limits: Limits{MaxDiskBytes: c.limit, Reserved: c.reserved, WhenFull: DropOldest}}
			l := open(t, newMemFS(), o)
			defer l.Close()
			rng := rand.New(rand.NewPCG(1, uint64(c.limit)))
			segment, share := l.o.Files.SegmentBytes, l.o.Limits.share(Normal, l.state.room)
			sizes := map[uint64]int64{}
			var alarms []uint64
			written, drops := int64(0), 0
			for written < 3*c.limit {
				m := &Message{Packet: make([]byte, c.size/2+rng.IntN(c.size/2))}
				if c.alarms > 0 && rng.IntN(c.alarms) == 0 {
					m.Priority, m.Packet = Urgent, m.Packet[:50]
				}
				ticket, err := l.Enqueue(context.Background(), m)
				if err == nil {
					err = l.Wait(context.Background(), ticket)
				}
				if err != nil {
					t.Fatalf("after %d bytes: %v; %+v", written, err, l.Stats())
				}
				written += int64(len(m.Packet))
				sizes[ticket.Seq] = int64(len(m.Packet))
				if m.Priority == Urgent {
					alarms = append(alarms, ticket.Seq)
				}
				if len(alarms) > 100 { // alarms end, so that their number does not grow
					if err := l.Done(alarms[0], Result{Kind: Acked}); err != nil {
						t.Fatal(err)
					}
					alarms = alarms[1:]
				}
				if len(ticket.Drops) == 0 {
					continue
				}
				drops++
				dropped := int64(0)
				for _, d := range ticket.Drops {
					dropped += sizes[d.Seq]
				}
				if dropped > c.limit/16 {
					t.Errorf("message %d dropped %d messages of %d bytes, want at most %d", ticket.Seq, len(ticket.Drops), dropped, c.limit/16)
				}
				if used := l.Stats().DiskBytes; used < share-3*segment {
					t.Errorf("after message %d dropped %d messages, the log has %d bytes; want at least %d - 3 * %d", ticket.Seq, len(ticket.Drops), used, share, segment)
				}
			}
			if drops < 10 {
				t.Errorf("%d drops", drops)
			}
		})
	}
}

// TestMaxDiskBytes_IncludesAllFiles gives a log a disk of exactly MaxDiskBytes. The log is filled
// while it is offline, drained and filled again, with each policy and with receipts. The disk is
// never full.
func TestMaxDiskBytes_IncludesAllFiles(t *testing.T) {
	const limit = 1 << 20
	for name, o := range map[string]Options{
		"reject":        {},
		"drop":          {Limits: Limits{WhenFull: DropOldest}},
		"drop reserved": {Limits: Limits{WhenFull: DropOldest, Reserved: 20}},
		"interval":      {Sync: SyncInterval, Limits: Limits{WhenFull: DropOldest, Reserved: 20}},
		"receipts":      {Limits: Limits{WhenFull: DropOldest}, Retention: Retention{MaxReceipts: 1 << 20}},
		"large files":   {Limits: Limits{WhenFull: DropOldest}, Files: Files{SegmentBytes: limit / 4}},
	} {
		for _, size := range []int{100, 5_000} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				disk := &partition{FS: newMemFS().FS, free: limit, sizes: map[string]*int64{}}
				o.Limits.MaxDiskBytes = limit
				l := open(t, disk, o)
				defer func() { l.Close() }()
				rng := rand.New(rand.NewPCG(1, uint64(size)))
				for round := range 3 {
					written := 0
					for written < 2*limit {
						m := numbered(l.LastSeq()+1, size/2+rng.IntN(size/2))
						if rng.IntN(20) == 0 {
							m.Priority = Urgent
						}
						written += len(m.Packet)
						ticket, err := l.Enqueue(context.Background(), m)
						if err == nil && rng.IntN(10) == 0 { // the others wait for a full buffer
							err = l.Wait(context.Background(), ticket)
						}
						if errors.Is(err, ErrFull) {
							break
						} else if err != nil {
							t.Fatalf("round %d, after %d bytes: %v; %+v", round, written, err, l.Stats())
						}
					}
					if used := l.Stats().DiskBytes; used < limit/4 {
						t.Errorf("round %d: %d bytes are in use", round, used)
					}
					if err := l.Sync(); err != nil {
						t.Fatal(err)
					}
					var e Entry
					for c := (Cursor{}); ; c.Pass(&e) {
						ok, err := l.Next(&c, &e)
						if err != nil {
							t.Fatal(err)
						}
						if !ok || rng.IntN(2000) == 0 {
							break
						}
						err = errors.Join(l.Release(e.Seq), l.Done(e.Seq, Result{Kind: Acked}))
						if err == nil && e.Seq%100 == 0 {
							err = l.Sync()
						}
						if err != nil {
							t.Fatal(err)
						}
					}
					if s := l.Stats(); s.Outages != 0 {
						t.Fatalf("round %d: %+v", round, s)
					}
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					l = open(t, disk, o)
				}
			})
		}
	}
}

// TestReserved_TelemetryReplacesTelemetry fills most of a store with alarms, so that more than the
// unreserved part is in use. New telemetry then replaces older telemetry, and takes no room from
// alarms.
func TestReserved_TelemetryReplacesTelemetry(t *testing.T) {
	const size = 500
	for name, limits := range map[string]Limits{
		"MaxMessages":  {MaxMessages: 1000},
		"MaxBytes":     {MaxBytes: 1000 * size},
		"MaxDiskBytes": {MaxDiskBytes: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			limits.Reserved, limits.WhenFull = 20, DropOldest
			l := open(t, newMemFS(), Options{Limits: limits})
			defer l.Close()
			add := func(p Priority) ([]Drop, error) {
				m := numbered(l.LastSeq()+1, size)
				m.Priority = p
				ticket, err := l.Enqueue(context.Background(), m)
				if err == nil {
					err = l.Wait(context.Background(), ticket)
				}
				return ticket.Drops, err
			}
			var drops []Drop
			for len(drops) == 0 { // until telemetry takes the unreserved part
				var err error
				if drops, err = add(Normal); err != nil {
					t.Fatal(err)
				}
			}
			room := int(l.Stats().Pending) * 100 / 80
			for range room * 85 / 100 {
				if _, err := add(Urgent); err != nil {
					t.Fatal(err)
				}
			}
			before := l.Stats()
			if before.PendingOf[Normal] < uint64(room/20) {
				t.Fatalf("%d readings are left", before.PendingOf[Normal])
			}
			for range 2 * room {
				if _, err := add(Normal); err != nil {
					t.Fatalf("%v; %+v", err, l.Stats())
				}
			}
			after := l.Stats()
			if after.PendingOf[Urgent] != before.PendingOf[Urgent] || after.PendingOf[Normal] > before.PendingOf[Normal] || after.PendingOf[Normal] < uint64(room/100) {
				t.Errorf("pending: %v before, %v after", before.PendingOf, after.PendingOf)
			}
			if after.DiskBytes > before.DiskBytes+2*l.o.Files.SegmentBytes {
				t.Errorf("%d bytes on disk before, %d after", before.DiskBytes, after.DiskBytes)
			}
			newest := l.LastSeq()
			if m := l.state.catalog.Find(newest); !m.Alive() {
				t.Error("the newest reading was dropped")
			}
			for range after.PendingOf[Normal] { // without telemetry, nothing can be replaced
				seq, _ := l.state.victim(Normal, 0)
				if err := l.Done(seq, Result{Kind: Acked}); err != nil {
					t.Fatal(err)
				}
			}
			for err := error(nil); err == nil; {
				_, err = add(Urgent)
				if err != nil && !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			var full *FullError
			if drops, err := add(Normal); !errors.As(err, &full) || full.Reserved != 20 || len(drops) > 0 {
				t.Errorf("a reading in a store full of alarms: %v, %v", drops, err)
			}
		})
	}
}
