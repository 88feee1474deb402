package persistencetest

import (
	"context"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

func testOrder(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	expect(t, "messages in a new store", len(drain(t, s)), 0)
	expect(t, "LastSeq of a new store", s.LastSeq(), 0)
	var last persistence.Ticket
	for n := range uint64(10) {
		ticket, err := s.Enqueue(context.Background(), message(n+1, 30))
		must(t, err)
		expect(t, "Ticket.Seq", ticket.Seq, n+1)
		last = ticket
	}
	must(t, s.Wait(context.Background(), last))
	must(t, s.Wait(context.Background(), last))
	expectList(t, "Next", drain(t, s), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	s = reopen()
	expectList(t, "Next after reopening", drain(t, s), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	expect(t, "LastSeq", s.LastSeq(), 10)
	appendN(t, s, 1)
	acked(t, s, 11)
	s = reopen()
	appendN(t, s, 1) // gets 12: 11 must not be reused
	expectList(t, "Next", drain(t, s), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12})
	var e persistence.Entry
	for _, after := range []uint64{12, 13, 1 << 63, 1<<64 - 1} {
		ok, err := s.Next(&persistence.Cursor{after}, &e)
		must(t, err)
		expect(t, "Next after the end", ok, false)
	}
}

func testFields(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	stream, _, err := s.Stream("a")
	must(t, err)
	at := time.Date(2024, 2, 29, 12, 0, 0, 123_456_789, time.UTC)
	times := []struct{ accepted, expires time.Time }{
		{at, time.Time{}},
		{at, at.Add(time.Hour)},
		{at, at.Add(1500 * time.Millisecond)},
		{at, at.Add(-time.Minute)}, // the clock stepped
		{time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
		{time.Date(-200, 1, 1, 0, 0, 0, 0, time.UTC), at},
		{at, time.Date(9_000_000, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	for i, c := range times {
		m := message(uint64(i+1), 8)
		m.Accepted, m.Expires, m.Stream, m.StreamSeq = c.accepted, c.expires, stream, uint64(i)
		_, err := persistence.Append(s, m)
		must(t, err)
	}
	check := func() {
		t.Helper()
		var e persistence.Entry
		for i, c := range times {
			ok, err := s.Next(&persistence.Cursor{uint64(i)}, &e)
			must(t, err)
			expect(t, "Next", ok, true)
			expect(t, "Accepted", e.Accepted.UnixMilli(), c.accepted.UnixMilli())
			expect(t, "Expires is zero", e.Expires.IsZero(), c.expires.IsZero())
			if !c.expires.IsZero() {
				expect(t, "Expires", e.Expires.UnixMilli(), c.expires.UnixMilli())
			}
		}
	}
	check()
	s = reopen()
	check()

	before := time.Now().Truncate(time.Millisecond)
	seq, err := persistence.Append(s, &persistence.Message{})
	must(t, err)
	var e persistence.Entry
	_, err = s.Next(&persistence.Cursor{seq - 1}, &e)
	must(t, err)
	if e.Accepted.Before(before) || e.Accepted.After(time.Now()) || !e.Expires.IsZero() || len(e.Packet) != 0 {
		t.Fatalf("a zero message was read back as %+v", e)
	}
}

func testPacketIsCopied(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{})
	m := message(1, 50)
	ticket, err := s.Enqueue(context.Background(), m)
	must(t, err)
	clear(m.Packet)
	must(t, s.Wait(context.Background(), ticket))
	expectList(t, "Next", drain(t, s), []uint64{1})
}

func testDone(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 6)
	outcomes := []persistence.Result{
		{Kind: persistence.Acked}, {Kind: persistence.Refused, Reason: 0x97},
		{Kind: persistence.Expired}, {Kind: persistence.Dropped},
	}
	for i, o := range outcomes {
		must(t, s.Done(uint64(i+1), o))
		must(t, s.Done(uint64(i+1), persistence.Result{Kind: persistence.Acked})) // no effect
	}
	for range 3 {
		c := sum(t, s)
		want := persistence.Stats{Accepted: 6, Acked: 1, Refused: 1, Expired: 1, Dropped: 1, Pending: 2, PendingBytes: 40}
		got := persistence.Stats{Accepted: c.Accepted, Acked: c.Acked, Refused: c.Refused, Expired: c.Expired, Dropped: c.Dropped, Pending: c.Pending, PendingBytes: c.PendingBytes}
		expect(t, "Stats", got, want)
		expectList(t, "Next", drain(t, s), []uint64{5, 6})
		s = reopen()
		must(t, s.Done(2, persistence.Result{Kind: persistence.Acked})) // no effect
	}
	acked(t, s, 5)
	acked(t, s, 6)
	s = reopen()
	expect(t, "pending", sum(t, s).Pending, 0)
	acked(t, s, 1)
	expect(t, "acked", sum(t, s).Acked, 3)
	appendN(t, s, 1)
	expectList(t, "Next", drain(t, s), []uint64{7})
}
