package persistencetest

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

func testStreams(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{Limits: persistence.Limits{MaxStreams: 2}})
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
		seq, err := persistence.Append(s, m)
		must(t, err)
		acked(t, s, seq) // the counter of the stream must stay
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
		s = reopen()
	}
	for _, name := range []string{"", string(make([]byte, 1025))} {
		_, _, err = s.Stream(name)
		expect(t, "a bad name is ErrStreamName", errors.Is(err, persistence.ErrStreamName), true)
	}
}

func testEpoch(t *testing.T, open Open) {
	before := uint64(time.Now().UnixMilli())
	s, reopen := open(t, persistence.Options{})
	epoch := s.Epoch()
	if epoch < before || epoch > uint64(time.Now().UnixMilli()) {
		t.Fatalf("Epoch = %d, want the time of creation", epoch)
	}
	for range 4 {
		expect(t, "Epoch", s.Epoch(), epoch)
		s = reopen()
	}
	// The clock of a bubble shows a time before 2020, so it was never set.
	synctest.Test(t, func(t *testing.T) {
		one, _ := open(t, persistence.Options{})
		two, _ := open(t, persistence.Options{})
		if one.Epoch() == two.Epoch() || max(one.Epoch(), two.Epoch()) >= before {
			t.Errorf("two stores created under a clock that was never set have the epochs %d and %d", one.Epoch(), two.Epoch())
		}
		must(t, one.Close())
		must(t, two.Close())
	})
}

func testLimits(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{Limits: persistence.Limits{MaxMessages: 3, MaxBytes: 100, MaxPacketBytes: 60}})
	enqueue := func(size int) error {
		_, err := persistence.Append(s, message(s.Stats().Accepted+1, size))
		return err
	}
	var large *persistence.PacketTooLargeError
	if err := enqueue(61); !errors.As(err, &large) || !errors.Is(err, persistence.ErrPacketTooLarge) || large.Max != 60 || large.Size != 61 {
		t.Fatalf("a packet over MaxPacketBytes: %v", err)
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
	done := persistence.Result{Kind: persistence.Acked}
	for _, seq := range []uint64{0, 2, 1<<64 - 1} {
		expect(t, "Done of an unknown sequence", errors.Is(s.Done(seq, done), persistence.ErrUnknownSequence), true)
		expect(t, "Release of an unknown sequence", errors.Is(s.Release(seq), persistence.ErrUnknownSequence), true)
	}
	for _, k := range []persistence.ResultKind{0, persistence.DeadLettered + 1} {
		expect(t, "Done with an unknown result", errors.Is(s.Done(1, persistence.Result{Kind: k}), persistence.ErrUnknownResult), true)
	}
	expect(t, "Seen(0)", errors.Is(s.Seen(0, 1), persistence.ErrPacketID), true)
	expect(t, "Cleared(0)", errors.Is(s.Cleared(0), persistence.ErrPacketID), true)
	m := message(2, 8)
	m.Stream = 1
	_, err := s.Enqueue(context.Background(), m)
	expect(t, "Enqueue with an unknown stream", errors.Is(err, persistence.ErrUnknownStream), true)
	m.Stream = 0
	for _, c := range []struct {
		edit func(*persistence.Message)
		want error
	}{
		{func(m *persistence.Message) { m.Priority = persistence.Priorities }, persistence.ErrPriority},
		{func(m *persistence.Message) { m.Key = string(make([]byte, 1025)) }, persistence.ErrKey},
		{func(m *persistence.Message) { m.OnSessionLost = persistence.FailInFlight + 1 }, persistence.ErrSessionLostPolicy},
	} {
		bad := *m
		c.edit(&bad)
		_, err := s.Enqueue(context.Background(), &bad)
		expect(t, "Enqueue is "+c.want.Error(), errors.Is(err, c.want), true)
	}
	expect(t, "SetSent with an unknown priority", errors.Is(s.SetSent(persistence.Priorities, 1), persistence.ErrPriority), true)
	expect(t, "Sent", s.Sent(persistence.Priorities), 0)
	expect(t, "First", s.First(persistence.Priorities), 0)
	expectList(t, "Next", drain(t, s), []uint64{1})
}

func testClosed(t *testing.T, open Open) {
	s, _ := open(t, persistence.Options{})
	ticket, err := s.Enqueue(context.Background(), message(1, 8))
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	must(t, s.Wait(context.Background(), ticket)) // Close made it durable
	_, enqueue := s.Enqueue(context.Background(), message(2, 8))
	_, app := persistence.Append(s, message(2, 8))
	_, next := s.Next(&persistence.Cursor{0}, new(persistence.Entry))
	_, _, stream := s.Stream("a")
	for i, err := range []error{
		enqueue, app, next, stream, s.Release(1), s.Done(1, persistence.Result{Kind: persistence.Acked}),
		s.Seen(1, 1), s.Cleared(1), s.ResetSession("c"), s.SetSent(persistence.Normal, 1), s.Sync(),
	} {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("method %d after Close: %v, want ErrClosed", i, err)
		}
	}
	expect(t, "Accepted", sum(t, s).Accepted, 1)
}

func testConcurrent(t *testing.T, open Open) {
	const writers, each = 8, 200
	s, reopen := open(t, persistence.Options{Files: persistence.Files{BufferBytes: 4 << 10, SegmentBytes: 16 << 10}})
	var mu sync.Mutex // makes the packet contain its own sequence
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				mu.Lock()
				ticket, err := s.Enqueue(context.Background(), message(s.Stats().Accepted+1, 50))
				mu.Unlock()
				if err == nil {
					err = s.Wait(context.Background(), ticket)
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
			ok, err := s.Next(&persistence.Cursor{after}, &e)
			if err != nil {
				t.Error(err)
				return
			}
			if !ok {
				_ = s.Sync() // waits for the running commit
				continue
			}
			if e.Seq != after+1 || binary.BigEndian.Uint64(e.Packet) != e.Seq {
				t.Errorf("Next(%d) = %d", after, e.Seq)
				return
			}
			after = e.Seq
			if after%3 != 0 {
				if err := errors.Join(s.Release(after), s.Seen(uint16(after), after), s.Done(after, persistence.Result{Kind: persistence.Acked}), s.Cleared(uint16(after))); err != nil {
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

// testCloseWhileAppending checks that each message is either stored or refused with ErrClosed.
func testCloseWhileAppending(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	var mu sync.Mutex
	var accepted []uint64
	started := make(chan struct{}, 100)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				seq, err := persistence.Append(s, &persistence.Message{Packet: []byte("a packet")})
				if err != nil {
					if !errors.Is(err, persistence.ErrClosed) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				accepted = append(accepted, seq)
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 40 {
		<-started
	}
	must(t, s.Close())
	group.Wait()
	s = reopen()
	for _, seq := range accepted {
		var e persistence.Entry
		ok, err := s.Next(&persistence.Cursor{seq - 1}, &e)
		must(t, err)
		expect(t, "Next", ok && e.Seq == seq, true)
	}
}
