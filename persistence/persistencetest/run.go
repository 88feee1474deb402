package persistencetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// Open makes an empty store with the options. reopen ends the store, as a
// restart of the program does, and returns the one that goes on with its state;
// calling it again restarts that one.
type Open func(t *testing.T, o persistence.Options) (store persistence.Store, reopen func() persistence.Store)

// Run tests stores made by open, each in a subtest.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Order", testOrder},
		{"Fields", testFields},
		{"PacketIsCopied", testPacketIsCopied},
		{"Done", testDone},
		{"Released", testReleased},
		{"Identifiers", testIdentifiers},
		{"ResetSession", testResetSession},
		{"Streams", testStreams},
		{"EpochAndBoot", testEpochAndBoot},
		{"Limits", testLimits},
		{"Misuse", testMisuse},
		{"Closed", testClosed},
		{"Concurrent", testConcurrent},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

// message has a packet that says which message it is.
func message(n uint64, size int) *persistence.Message {
	m := &persistence.Message{Packet: make([]byte, max(size, 8))}
	binary.BigEndian.PutUint64(m.ID[8:], n)
	binary.BigEndian.PutUint64(m.Packet, n)
	for i := 8; i < len(m.Packet); i++ {
		m.Packet[i] = byte(n) + byte(i)
	}
	return m
}

func appendN(t *testing.T, s persistence.Store, n int) {
	t.Helper()
	from := s.Stats().Accepted
	for i := range uint64(n) {
		seq, err := s.Append(message(from+i+1, 20))
		if err != nil || seq != from+i+1 {
			t.Fatalf("Append = %d, %v; want sequence %d", seq, err, from+i+1)
		}
	}
}

// drain returns the sequences that Next shows, and checks order and content.
func drain(t *testing.T, s persistence.Store) (seqs []uint64) {
	t.Helper()
	var e persistence.Entry
	for {
		after := e.Seq
		ok, err := s.Next(after, &e)
		if err != nil {
			t.Fatalf("Next(%d): %v", after, err)
		}
		if !ok {
			return seqs
		}
		if e.Seq <= after {
			t.Fatalf("Next(%d) = %d", after, e.Seq)
		}
		if want := message(e.Seq, len(e.Packet)); !bytes.Equal(e.Packet, want.Packet) || e.ID != want.ID {
			t.Fatalf("message %d came back changed", e.Seq)
		}
		seqs = append(seqs, e.Seq)
	}
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

func expectList[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func acked(t *testing.T, s persistence.Store, seq uint64) {
	t.Helper()
	must(t, s.Done(seq, persistence.Outcome{Kind: persistence.Acked}))
}

// sum checks the promise that no message leaves the totals.
func sum(t *testing.T, s persistence.Store) persistence.Stats {
	t.Helper()
	c := s.Stats()
	if c.Accepted != c.Acked+c.Refused+c.Expired+c.Dropped+c.Pending {
		t.Fatalf("the sum does not hold: %+v", c)
	}
	return c
}

func testOrder(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	expect(t, "messages in a new store", len(drain(t, s)), 0)
	expect(t, "LastSeq of a new store", s.LastSeq(), 0)
	var last persistence.Ticket
	for n := range uint64(10) {
		ticket, err := s.Enqueue(message(n+1, 30))
		must(t, err)
		expect(t, "Ticket.Seq", ticket.Seq, n+1)
		last = ticket
	}
	must(t, s.Wait(last))
	must(t, s.Wait(last))
	expectList(t, "Next", drain(t, s), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	s = reopen()
	expectList(t, "Next after reopening", drain(t, s), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	expect(t, "LastSeq", s.LastSeq(), 10)
	appendN(t, s, 1)
	acked(t, s, 11)
	s = reopen()
	appendN(t, s, 1) // as 12: 11 is never used again
	expectList(t, "Next", drain(t, s), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12})
	var e persistence.Entry
	for _, after := range []uint64{12, 13, 1 << 63, 1<<64 - 1} {
		ok, err := s.Next(after, &e)
		must(t, err)
		expect(t, "Next behind the end", ok, false)
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
		_, err := s.Append(m)
		must(t, err)
	}
	check := func() {
		t.Helper()
		var e persistence.Entry
		for i, c := range times {
			ok, err := s.Next(uint64(i), &e)
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
	seq, err := s.Append(&persistence.Message{})
	must(t, err)
	var e persistence.Entry
	_, err = s.Next(seq-1, &e)
	must(t, err)
	if e.Accepted.Before(before) || e.Accepted.After(time.Now()) || !e.Expires.IsZero() || len(e.Packet) != 0 {
		t.Fatalf("a zero message came back as %+v", e)
	}
}

func testPacketIsCopied(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{})
	m := message(1, 50)
	ticket, err := s.Enqueue(m)
	must(t, err)
	clear(m.Packet)
	must(t, s.Wait(ticket))
	expectList(t, "Next", drain(t, s), []uint64{1})
}

func testDone(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 6)
	outcomes := []persistence.Outcome{
		{Kind: persistence.Acked}, {Kind: persistence.Refused, Reason: 0x97},
		{Kind: persistence.Expired}, {Kind: persistence.Dropped},
	}
	for i, o := range outcomes {
		must(t, s.Done(uint64(i+1), o))
		must(t, s.Done(uint64(i+1), persistence.Outcome{Kind: persistence.Acked})) // no effect
	}
	for range 3 {
		c := sum(t, s)
		want := persistence.Stats{Accepted: 6, Acked: 1, Refused: 1, Expired: 1, Dropped: 1, Pending: 2, PendingBytes: 40}
		got := persistence.Stats{Accepted: c.Accepted, Acked: c.Acked, Refused: c.Refused, Expired: c.Expired, Dropped: c.Dropped, Pending: c.Pending, PendingBytes: c.PendingBytes}
		expect(t, "Stats", got, want)
		expectList(t, "Next", drain(t, s), []uint64{5, 6})
		s = reopen()
		must(t, s.Done(2, persistence.Outcome{Kind: persistence.Acked})) // no effect
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

func released(t *testing.T, s persistence.Store) (seqs []uint64) {
	t.Helper()
	var e persistence.Entry
	for {
		ok, err := s.Next(e.Seq, &e)
		must(t, err)
		if !ok {
			return seqs
		}
		if e.Released {
			seqs = append(seqs, e.Seq)
		}
	}
}

func testReleased(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 4)
	for _, seq := range []uint64{2, 3, 3} {
		must(t, s.Release(seq))
	}
	expectList(t, "released", released(t, s), []uint64{2, 3})
	must(t, s.Sync())
	acked(t, s, 3)
	must(t, s.Release(3)) // no effect
	s = reopen()
	expectList(t, "released", released(t, s), []uint64{2})
	expectList(t, "Next", drain(t, s), []uint64{1, 2, 4})
}

func testIdentifiers(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	expect(t, "SeenIDs of a new store", len(s.SeenIDs()), 0)
	for _, id := range []uint16{65535, 7, 1, 7, 300} {
		must(t, s.Seen(id))
	}
	must(t, s.Cleared(7))
	must(t, s.Cleared(8)) // was not seen
	must(t, s.Sync())
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{1, 300, 65535})
	s = reopen()
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{1, 300, 65535})
	must(t, s.Cleared(1))
	must(t, s.Seen(7))
	must(t, s.Sync())
	s = reopen()
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{7, 300, 65535})
}

func testResetSession(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 3)
	must(t, s.Release(1))
	must(t, s.Release(2))
	must(t, s.Seen(9))
	must(t, s.Sync())
	s = reopen()
	must(t, s.ResetSession())
	for range 2 {
		expect(t, "released", len(released(t, s)), 0)
		expect(t, "seen", len(s.SeenIDs()), 0)
		expectList(t, "Next", drain(t, s), []uint64{1, 2, 3})
		s = reopen()
	}
	must(t, s.Release(2))
	must(t, s.Seen(10))
	s = reopen()
	expectList(t, "released", released(t, s), []uint64{2})
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{10})
}

func testStreams(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{MaxStreams: 2})
	a, last, err := s.Stream("a")
	must(t, err)
	expect(t, "last of a new stream", last, 0)
	b, _, err := s.Stream("b")
	must(t, err)
	if a == 0 || b == 0 || a == b {
		t.Fatalf("Stream gave the IDs %d and %d", a, b)
	}
	_, _, err = s.Stream("c")
	expect(t, "a third of two streams is ErrFull", errors.Is(err, persistence.ErrFull), true)
	for n, c := range []struct {
		id  uint32
		seq uint64
	}{{a, 1}, {b, 10}, {a, 2}, {a, 3}, {0, 99}} {
		m := message(uint64(n+1), 8)
		m.Stream, m.StreamSeq = c.id, c.seq
		seq, err := s.Append(m)
		must(t, err)
		acked(t, s, seq) // the counter stays when the messages go
	}
	for range 3 {
		for _, c := range []struct {
			name string
			id   uint32
			last uint64
		}{{"a", a, 3}, {"b", b, 10}} {
			id, last, err := s.Stream(c.name)
			must(t, err)
			expect(t, "ID of "+c.name, id, c.id)
			expect(t, "last of "+c.name, last, c.last)
		}
		var names []string
		s.Streams(func(name string, id uint32, last uint64) bool {
			again, l, err := s.Stream(name)
			must(t, err)
			expect(t, "ID", id, again)
			expect(t, "last", last, l)
			names = append(names, name)
			return true
		})
		expectList(t, "Streams", names, []string{"a", "b"})
		s.Streams(func(name string, _ uint32, _ uint64) bool {
			expect(t, "the first stream", name, "a")
			return false
		})
		s = reopen()
	}
	for _, name := range []string{"", string(make([]byte, 1025))} {
		_, _, err = s.Stream(name)
		expect(t, "a bad name is ErrStreamName", errors.Is(err, persistence.ErrStreamName), true)
	}
}

func testEpochAndBoot(t *testing.T, open Open) {
	before := uint64(time.Now().UnixMilli())
	s, reopen := open(t, persistence.Options{})
	epoch := s.Epoch()
	if epoch < before || epoch > uint64(time.Now().UnixMilli()) {
		t.Fatalf("Epoch = %d, want the time of creation", epoch)
	}
	for boot := range uint64(4) {
		expect(t, "Boot", s.Boot(), boot+1)
		expect(t, "Epoch", s.Epoch(), epoch)
		s = reopen()
	}
}

func testLimits(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{MaxMessages: 3, MaxBytes: 100, MaxPacket: 60})
	enqueue := func(size int) error {
		_, err := s.Append(message(s.Stats().Accepted+1, size))
		return err
	}
	var large *persistence.PacketTooLargeError
	if err := enqueue(61); !errors.As(err, &large) || !errors.Is(err, persistence.ErrPacketTooLarge) || large.Max != 60 || large.Size != 61 {
		t.Fatalf("a packet over MaxPacket: %v", err)
	}
	full := func(limit string, size int) {
		t.Helper()
		before := s.Stats()
		err := enqueue(size)
		var e *persistence.FullError
		if !errors.As(err, &e) || !errors.Is(err, persistence.ErrFull) || e.Limit != limit {
			t.Fatalf("Append = %v, want ErrFull by %s", err, limit)
		}
		expect(t, "Accepted", s.Stats().Accepted, before.Accepted)
	}
	must(t, enqueue(60))
	full("MaxBytes", 41)
	must(t, enqueue(20))
	must(t, enqueue(20))
	full("MaxMessages", 8)
	s = reopen()
	full("MaxMessages", 8)
	acked(t, s, 2)
	full("MaxBytes", 21)
	must(t, enqueue(20))
	expectList(t, "Next", drain(t, s), []uint64{1, 3, 4})
}

func testMisuse(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{})
	appendN(t, s, 1)
	done := persistence.Outcome{Kind: persistence.Acked}
	for _, seq := range []uint64{0, 2, 1<<64 - 1} {
		expect(t, "Done of an unknown sequence", errors.Is(s.Done(seq, done), persistence.ErrUnknownSequence), true)
		expect(t, "Release of an unknown sequence", errors.Is(s.Release(seq), persistence.ErrUnknownSequence), true)
	}
	for _, k := range []persistence.OutcomeKind{0, persistence.Dropped + 1} {
		expect(t, "Done with no outcome", errors.Is(s.Done(1, persistence.Outcome{Kind: k}), persistence.ErrNoOutcome), true)
	}
	expect(t, "Seen(0)", errors.Is(s.Seen(0), persistence.ErrPacketID), true)
	expect(t, "Cleared(0)", errors.Is(s.Cleared(0), persistence.ErrPacketID), true)
	m := message(2, 8)
	m.Stream = 1
	_, err := s.Enqueue(m)
	expect(t, "Enqueue with an unknown stream", errors.Is(err, persistence.ErrUnknownStream), true)
	expectList(t, "Next", drain(t, s), []uint64{1})
}

func testClosed(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{})
	ticket, err := s.Enqueue(message(1, 8))
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	must(t, s.Wait(ticket)) // Close made it durable
	_, enqueue := s.Enqueue(message(2, 8))
	_, app := s.Append(message(2, 8))
	_, next := s.Next(0, new(persistence.Entry))
	_, _, stream := s.Stream("a")
	for i, err := range []error{
		enqueue, app, next, stream, s.Release(1), s.Done(1, persistence.Outcome{Kind: persistence.Acked}),
		s.Seen(1), s.Cleared(1), s.ResetSession(), s.Sync(),
	} {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("method %d after Close: %v, want ErrClosed", i, err)
		}
	}
	expect(t, "Accepted", sum(t, s).Accepted, 1)
	expect(t, "Boot", s.Boot(), 1)
}

func testConcurrent(t *testing.T, open Open) {
	const writers, each = 8, 200
	s, reopen := open(t, persistence.Options{BufferBytes: 4 << 10, SegmentBytes: 16 << 10})
	var mu sync.Mutex // makes the packet say its sequence
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				mu.Lock()
				ticket, err := s.Enqueue(message(s.Stats().Accepted+1, 50))
				mu.Unlock()
				if err == nil {
					err = s.Wait(ticket)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Go(func() {
		var e persistence.Entry
		for after := uint64(0); after < writers*each; {
			ok, err := s.Next(after, &e)
			if err != nil {
				t.Error(err)
				return
			}
			if !ok {
				_ = s.Sync() // blocks while there is something to come
				continue
			}
			if e.Seq != after+1 || binary.BigEndian.Uint64(e.Packet) != e.Seq {
				t.Errorf("Next(%d) = %d", after, e.Seq)
				return
			}
			after = e.Seq
			if after%3 != 0 {
				if err := errors.Join(s.Release(after), s.Seen(uint16(after)), s.Done(after, persistence.Outcome{Kind: persistence.Acked}), s.Cleared(uint16(after))); err != nil {
					t.Error(err)
				}
			}
			sum(t, s)
		}
	})
	group.Wait()
	s = reopen()
	expect(t, "accepted", sum(t, s).Accepted, writers*each)
	expect(t, "pending", len(drain(t, s)), writers*each/3)
	expect(t, "seen", len(s.SeenIDs()), 0)
}
