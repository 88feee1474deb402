package persistencetest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// optional returns an optional interface of a store. It skips the test if the store does not
// implement it.
func optional[T any](t *testing.T, s persistence.Store) T {
	t.Helper()
	part, ok := s.(T)
	if !ok {
		t.Skipf("the store is not a %v", reflect.TypeFor[T]())
	}
	return part
}

// testDropNewest checks that the new message is refused and counted.
func testDropNewest(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{Limits: persistence.Limits{MaxMessages: 2, WhenFull: persistence.DropNewest}})
	if !drops(t, open) {
		t.Skip("the store drops no messages")
	}
	appendN(t, s, 2)
	for range 3 {
		_, err := persistence.Append(s, message(3, 8))
		expect(t, "a third of two is ErrFull", errors.Is(err, persistence.ErrFull), true)
	}
	c := sum(t, s)
	expect(t, "DroppedNewest", c.DroppedNewest, 3)
	expect(t, "Accepted", c.Accepted, 2)
}

// drops reports whether the store implements DropOldest.
func drops(t *testing.T, open Open) bool {
	s, _ := open(t, persistence.Options{Limits: persistence.Limits{MaxMessages: 1, WhenFull: persistence.DropOldest}})
	appendN(t, s, 1)
	_, err := persistence.Append(s, message(2, 8))
	must(t, s.Close())
	return err == nil
}

// dropping opens a store with DropOldest. It skips the test if the store does not implement it.
func dropping(t *testing.T, open Open, o persistence.Options) persistence.Store {
	if !drops(t, open) {
		t.Skip("the store drops no messages")
	}
	o.Limits.WhenFull = persistence.DropOldest
	s, _ := open(t, o)
	return s
}

// testDropOldestBytes checks that DropOldest drops no more messages than necessary. It must drop no
// message for a packet that can never be stored.
func testDropOldestBytes(t *testing.T, open Open) {
	s := dropping(t, open, persistence.Options{Limits: persistence.Limits{MaxBytes: 100}})
	appendN(t, s, 5) // 20 bytes each
	_, err := persistence.Append(s, message(6, 101))
	expect(t, "a packet over MaxBytes", errors.Is(err, persistence.ErrPacketTooLarge), true)
	ticket, err := s.Enqueue(context.Background(), message(6, 60))
	must(t, err)
	must(t, s.Wait(context.Background(), ticket))
	expectList(t, "pending", drain(t, s), []uint64{4, 5, 6})
	expectList(t, "drops", ticket.Drops, []persistence.Drop{{Seq: 1}, {Seq: 2}, {Seq: 3}})
	expect(t, "DroppedOldest", s.Stats().DroppedOldest, 3)
	must(t, s.SetSent(persistence.Normal, 6))
	_, err = persistence.Append(s, message(7, 8))
	expect(t, "a message that may have been sent is not dropped", errors.Is(err, persistence.ErrFull), true)
}

// testDropOldestPriority checks that DropOldest first drops messages of the lowest priority, even
// if these are not durable yet.
func testDropOldestPriority(t *testing.T, open Open) {
	s := dropping(t, open, persistence.Options{Limits: persistence.Limits{MaxMessages: 2}})
	var all []persistence.Drop
	add := func(n uint64, p persistence.Priority) {
		t.Helper()
		m := message(n, 8)
		m.Priority = p
		ticket, err := s.Enqueue(context.Background(), m)
		must(t, err)
		all = append(all, ticket.Drops...)
	}
	add(1, persistence.High)
	must(t, s.Sync())
	add(2, persistence.Normal)
	add(3, persistence.High)
	add(4, persistence.High)
	must(t, s.Sync())
	expectList(t, "drops", all, []persistence.Drop{{Seq: 2}, {Seq: 1, Priority: persistence.High}})
}

// testReceipts checks that Receipt returns false for an unknown message.
func testReceipts(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{Retention: persistence.Retention{MaxReceipts: 10}})
	_, ok, err := optional[persistence.Receipts](t, s).Receipt([16]byte{1})
	must(t, err)
	expect(t, "a receipt of an unknown message", ok, false)
}

// testDeadLetters checks that dead letters survive restarts until they are discarded.
func testDeadLetters(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	optional[persistence.DeadLetters](t, s)
	err := s.(persistence.DeadLetters).Discard(1)
	expect(t, "Discard of an unknown message is ErrUnknownSequence", errors.Is(err, persistence.ErrUnknownSequence), true)
	appendN(t, s, 4)
	for _, seq := range []uint64{1, 3, 4} {
		must(t, s.Done(seq, persistence.Result{Kind: persistence.DeadLettered, Reason: byte(seq)}))
	}
	want := []uint64{1, 3, 4}
	for len(want) > 0 {
		var got []uint64
		must(t, s.(persistence.DeadLetters).DeadLetters(func(e *persistence.Entry, reason byte) bool {
			checkContent(t, e)
			expect(t, "reason", reason, byte(e.Seq))
			got = append(got, e.Seq)
			return true
		}))
		expectList(t, "dead letters", got, want)
		expect(t, "DeadLetters", s.Stats().DeadLetters, uint64(len(want)))
		must(t, s.(persistence.DeadLetters).Discard(want[0]))
		want = want[1:]
		must(t, s.Sync())
		s = reopen()
	}
	expectList(t, "Next", drain(t, s), []uint64{2})
}

// testReceiptAge checks that receipts older than ReceiptAge are not returned.
func testReceiptAge(t *testing.T, open Open) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, persistence.Options{Files: persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}, Retention: persistence.Retention{MaxReceipts: 1000, ReceiptAge: time.Hour}})
		receipts := optional[persistence.Receipts](t, s)
		for n := range uint64(40) {
			_, err := persistence.Append(s, message(n+1, 400))
			must(t, err)
			acked(t, s, n+1)
		}
		must(t, s.Sync())
		found := func() bool {
			r, ok, err := receipts.Receipt(message(1, 0).ID)
			must(t, err)
			return ok && r.Seq == 1 && r.Result.Kind == persistence.Acked
		}
		time.Sleep(59 * time.Minute)
		expect(t, "after 59 minutes", found(), true)
		time.Sleep(2 * time.Minute)
		expect(t, "after 61 minutes", found(), false)
		must(t, s.Close())
	})
}
