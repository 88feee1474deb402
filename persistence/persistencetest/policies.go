package persistencetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// testRoom: Room waits until a message ends, or the context does.
func testRoom(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{MaxMessages: 2, MaxBytes: 100})
	must(t, s.Room(t.Context(), 100))
	appendN(t, s, 2)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	expect(t, "Room under a context that is over", s.Room(ctx, 8), cause)
	got := make(chan error)
	go func() { got <- s.Room(t.Context(), 8) }()
	acked(t, s, 1)
	must(t, <-got)
	appendN(t, s, 1)
	go func() { got <- s.Room(t.Context(), 70) }() // 40 of 100 bytes are taken
	acked(t, s, 2)
	must(t, <-got)
	go func() { got <- s.Room(t.Context(), 90) }()
	must(t, s.Close())
	expect(t, "Room of a store that is being closed", errors.Is(<-got, persistence.ErrClosed), true)
}

// testDropNewest: the new message is refused and counted.
func testDropNewest(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{MaxMessages: 2, WhenFull: persistence.DropNewest})
	appendN(t, s, 2)
	for range 3 {
		_, err := s.Append(message(3, 8))
		expect(t, "a third of two is ErrFull", errors.Is(err, persistence.ErrFull), true)
	}
	c := sum(t, s)
	expect(t, "DroppedNewest", c.DroppedNewest, 3)
	expect(t, "Accepted", c.Accepted, 2)
}

// testDropOldestBytes: as many go as it takes, and none for a packet that could
// never be stored.
func testDropOldestBytes(t *testing.T, open Open) {
	var drops []persistence.Drop
	s, _ := open(t, persistence.Options{MaxBytes: 100, WhenFull: persistence.DropOldest, OnDrop: func(d persistence.Drop) { drops = append(drops, d) }})
	appendN(t, s, 5) // of 20 bytes
	_, err := s.Append(message(6, 101))
	expect(t, "more than all", errors.Is(err, persistence.ErrPacketTooLarge), true)
	expect(t, "drops", len(drops), 0)
	_, err = s.Append(message(6, 60))
	must(t, err)
	expectList(t, "pending", drain(t, s), []uint64{4, 5, 6})
	expectList(t, "drops", drops, []persistence.Drop{{Seq: 1}, {Seq: 2}, {Seq: 3}})
	expect(t, "DroppedOldest", s.Stats().DroppedOldest, 3)
	must(t, s.MarkSent(persistence.Normal, 6))
	_, err = s.Append(message(7, 8))
	expect(t, "what may have been sent is not dropped", errors.Is(err, persistence.ErrFull), true)
}

// testDropOldestPriority: the lowest priority gives way first, also a message that
// was accepted a moment ago and that nobody has waited for.
func testDropOldestPriority(t *testing.T, open Open) {
	var drops []persistence.Drop
	s, _ := open(t, persistence.Options{MaxMessages: 2, WhenFull: persistence.DropOldest, OnDrop: func(d persistence.Drop) { drops = append(drops, d) }})
	add := func(n uint64, p persistence.Priority) {
		t.Helper()
		m := message(n, 8)
		m.Priority = p
		_, err := s.Enqueue(m)
		must(t, err)
	}
	add(1, persistence.High)
	must(t, s.Sync())
	add(2, persistence.Normal)
	add(3, persistence.High)
	add(4, persistence.High)
	must(t, s.Sync())
	expectList(t, "drops", drops, []persistence.Drop{{Seq: 2}, {Seq: 1}})
}

// testPriorityMisuse: what is no priority, no policy, or too long a key, is refused.
func testPriorityMisuse(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{})
	m := message(1, 8)
	m.Priority = persistence.Priorities
	_, err := s.Append(m)
	expect(t, "error", err, persistence.ErrPriority)
	expect(t, "MarkSent", s.MarkSent(persistence.Priorities, 1), persistence.ErrPriority)
	expect(t, "Sent", s.Sent(persistence.Priorities), 0)
	expect(t, "First", s.First(persistence.Priorities), 0)
	m.Priority, m.Key = persistence.Normal, string(make([]byte, 1025))
	_, err = s.Append(m)
	expect(t, "error", err, persistence.ErrKey)
	m.Key, m.OnSessionLost = "", persistence.FailInFlight+1
	_, err = s.Append(m)
	expect(t, "error", err, persistence.ErrSessionLostPolicy)
	expect(t, "Discard", s.Discard(1), persistence.ErrUnknownSequence)
	_, ok, err := s.Receipt([16]byte{1})
	must(t, err)
	expect(t, "a receipt of nothing", ok, false)
}

// testReceiptAge: a receipt is not found any more when it is too old.
func testReceiptAge(t *testing.T, open Open) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, persistence.Options{SegmentBytes: 4 << 10, BufferBytes: 4 << 10, MaxReceipts: 1000, ReceiptAge: time.Hour})
		for n := range uint64(40) {
			_, err := s.Append(message(n+1, 400))
			must(t, err)
			acked(t, s, n+1)
		}
		must(t, s.Sync())
		expect(t, "segments were removed", s.Stats().Receipts > 0, true)
		found := func() bool {
			r, ok, err := s.Receipt(message(1, 0).ID)
			must(t, err)
			return ok && r.Seq == 1 && r.Outcome.Kind == persistence.Acked
		}
		time.Sleep(59 * time.Minute)
		expect(t, "after 59 minutes", found(), true)
		time.Sleep(2 * time.Minute)
		expect(t, "after 61 minutes", found(), false)
		must(t, s.Close())
	})
}
