package cure_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/cure"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

const (
	quota  = wire.ReasonQuotaExceeded
	inUse  = wire.ReasonPacketIDInUse
	recent = session.Recent
	window = 20 // the server's Receive Maximum
)

// rig is a Cure with a store and a session. The session's output is discarded.
type rig struct {
	t     *testing.T
	store *persistence.Memory
	s     *session.Session
	g     *session.Generation
	c     cure.Cure
	held  map[uint16]bool // identifiers of deferred messages
	seq   uint64          // of the messages offered by the test
}

type nowhere struct{}

func (nowhere) Send(func([]byte) []byte) error { return nil }
func (nowhere) Fail(error)                     {}

// newRig returns a rig on a connection that resumes the session. Its store has assigned n numbers
// of normal priority, and all their messages are completed.
func newRig(t *testing.T, n int) *rig {
	r := &rig{t: t, store: persistence.NewMemory(persistence.Options{}), held: map[uint16]bool{}, seq: 1 << 40}
	r.s = session.New(session.Config{Store: r.store, Settled: func(uint64, byte, string) {}})
	r.add(persistence.Normal, n)
	for seq := range uint64(n) {
		r.done(seq + 1)
	}
	r.connect(true)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// add adds messages that were sent.
func (r *rig) add(p persistence.Priority, n int) {
	r.t.Helper()
	for range n {
		_, err := r.store.Enqueue(context.Background(), &persistence.Message{Priority: p, Packet: []byte{0x34, 0}})
		r.must(err)
	}
	r.must(r.store.Sync())
	r.must(r.store.SetSent(p, r.store.Sent(p)+uint64(n)))
}

func (r *rig) done(seq uint64) {
	r.t.Helper()
	r.must(r.store.Done(seq, persistence.Result{Kind: persistence.Acked}))
}

// connect starts another connection.
func (r *rig) connect(present bool) {
	r.s.Begin(present)
	r.g = r.s.Attach(nowhere{}, session.Limits{ReceiveMaximum: window, MaximumQoS: 2})
}

// send sends n messages that the server answers.
func (r *rig) send(n int, code byte) {
	r.t.Helper()
	for range n {
		id := r.offer()
		r.must(r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: id, Reason: code}))
	}
}

// offer sends a message that the server does not answer.
func (r *rig) offer() uint16 {
	r.t.Helper()
	r.seq++
	id := session.PacketID(uint8(persistence.Urgent), r.seq)
	if got := r.g.Offer(r.seq, id, 1); got != session.Admitted {
		r.t.Fatalf("Offer returned %v", got)
	}
	return id
}

// step calls Step.
func (r *rig) step() (wait time.Duration) {
	r.t.Helper()
	wait, err := r.c.Step(r.g, r.store, func(id uint16) bool { return r.held[id] }, r.c.Answered(r.g))
	r.must(err)
	return wait
}

// refused makes the server refuse a message, and calls Step.
func (r *rig) refused(code byte) {
	r.t.Helper()
	r.c.Refused(r.g, code)
	r.step()
}

// purging returns the packet identifiers that are being purged.
func (r *rig) purging() (ids []uint16) {
	for id := range uint16(65_535) {
		if r.g.IsPurging(id + 1) {
			ids = append(ids, id+1)
		}
	}
	return ids
}

// numbers returns the packet identifiers of these numbers of a priority.
func numbers(p persistence.Priority, first, last uint64, but ...uint64) (ids []uint16) {
	for n := first; n <= last; n++ {
		if !slices.Contains(but, n) {
			ids = append(ids, session.PacketID(uint8(p), n))
		}
	}
	return ids
}

// wantPurging checks that exactly these packet identifiers are being purged.
func (r *rig) wantPurging(ids ...[]uint16) {
	r.t.Helper()
	want := slices.Sorted(slices.Values(slices.Concat(ids...)))
	got := r.purging()
	if !slices.Equal(got, want) {
		r.t.Fatalf("%d are purged (%v…), want %d (%v…)", len(got), got[:min(len(got), 5)], len(want), want[:min(len(want), 5)])
	}
	if r.c.Open() != (len(want) > 0) || r.g.Purging() != len(want) {
		r.t.Errorf("open: %v, %d of %d", r.c.Open(), r.g.Purging(), len(want))
	}
}

// normal returns the packet identifiers of these numbers of normal priority.
func normal(first, last uint64, but ...uint64) []uint16 {
	return numbers(persistence.Normal, first, last, but...)
}

// acknowledge makes the server answer a PUBREL.
func (r *rig) acknowledge(id uint16) {
	r.t.Helper()
	r.must(r.g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id, Reason: wire.ReasonPacketIDNotFound}))
}

// answer makes the server answer the purge.
func (r *rig) answer() {
	r.t.Helper()
	for _, id := range r.purging() {
		if r.c.Answered(r.g) {
			r.t.Fatal("answered before the last PUBCOMP")
		}
		r.acknowledge(id)
	}
	if !r.c.Answered(r.g) {
		r.t.Fatal("not answered after the last PUBCOMP")
	}
	r.step()
	if r.c.Open() || r.c.Answered(r.g) {
		r.t.Fatal("open after the last PUBCOMP")
	}
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestCure_ReasonCodes(t *testing.T) {
	for code := range 256 {
		want := byte(code) == quota || byte(code) == inUse
		if got := cure.Helps(byte(code)); got != want {
			t.Errorf("0x%02X: %v", code, got)
		}
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.step()
		r.wantPurging() // without a reason
		r.refused(0x80)
		r.wantPurging()
		r.refused(inUse)
		r.wantPurging(normal(1, 10))
	})
}

// In a session that began on this connection, the server holds no stale exchanges.
func TestCure_DoesNothingInANewSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.connect(false)
		r.refused(quota)
		r.wantPurging()
		r.c.Refused(nil, quota)
		r.connect(true)
		r.step()
		r.wantPurging()
	})
}

// Each consecutive purge goes back further, up to a whole lap.
func TestCure_GoesBackFurtherEachTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 70_000
		r := newRig(t, n)
		lap := session.Lap(uint8(persistence.Normal))
		low := uint64(n)
		for i, size := range []uint64{0, 2048, 4096, 8192, 8192, 8192, 8192, 8192, 8192, 8192} {
			r.refused(quota)
			last := normal(n-recent+1, n)
			if i == 0 {
				low = n - recent
				r.wantPurging(last)
			} else {
				before := low
				low = max(low-size, n-lap)
				r.wantPurging(last, normal(low+1, before))
			}
			if wait := r.step(); wait != 5*time.Second {
				t.Errorf("waits for %v", wait)
			}
			r.answer()
		}
		if low != n-lap {
			t.Fatalf("the lap is not over: %d", low)
		}
		r.refused(quota) // everything was purged
		r.wantPurging(normal(n-recent+1, n))
		r.answer()
		r.refused(quota) // it no longer helps
		r.wantPurging()
		time.Sleep(59 * time.Minute)
		r.refused(quota) // only the most recent ones
		r.wantPurging(normal(n-recent+1, n))
		r.answer()
		r.refused(quota)
		r.wantPurging()
		time.Sleep(time.Minute + time.Second)
		r.refused(quota) // everything again
		r.wantPurging(normal(n-recent+1, n), normal(n-recent-2048+1, n-recent))
	})
}

// The first purge covers Recent identifiers before the first pending message, and all identifiers
// after it except those of pending messages.
func TestCure_SparesIdentifiersInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2000)
		r.add(persistence.Normal, 100) // 2001 to 2100
		r.add(persistence.High, 10)    // their numbers are 1 to 10
		for seq := uint64(2003); seq <= 2100; seq++ {
			r.done(seq)
		}
		r.done(2101) // number 1 of High
		r.held[session.PacketID(0, 1500)] = true
		r.held[session.PacketID(0, 2050)] = true
		flight := r.offer()                                                                            // its identifier belongs to another lap
		_, err := r.store.Enqueue(context.Background(), &persistence.Message{Packet: []byte{0x34, 0}}) // not sent
		r.must(err)
		r.must(r.store.Sync())
		r.refused(quota)
		r.wantPurging(normal(2001-recent+1, 2100, 1500, 2001, 2002, 2050), numbers(persistence.High, 1, 1))
		if slices.Contains(r.purging(), flight) {
			t.Error("an identifier in flight is purged")
		}
	})
}

// The sent watermark bounds the messages that can have been sent, also for High and Urgent, whose
// laps are short.
func TestCure_PurgesAllPriorities(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		for _, p := range []persistence.Priority{persistence.High, persistence.Urgent} {
			first := r.store.LastSeq()
			r.add(p, 500)
			for n := range uint64(500) {
				r.done(first + n + 1)
			}
		}
		r.refused(quota)
		lap := session.Lap(uint8(persistence.High))
		r.wantPurging(normal(1, 10), numbers(persistence.High, 501-lap, 500), numbers(persistence.Urgent, 501-lap, 500))
		r.answer()
		r.refused(quota) // there is nothing else to purge
		r.wantPurging(normal(1, 10), numbers(persistence.High, 501-lap, 500), numbers(persistence.Urgent, 501-lap, 500))
		r.answer()
		r.refused(quota)
		r.wantPurging()
	})
}

// If the connection ends during a purge, the next connection repeats the purge. It does not go back
// further.
func TestCure_RepeatsAnInterruptedPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20_000
		r := newRig(t, n)
		r.refused(quota)
		first := normal(n-recent+1, n)
		r.wantPurging(first)
		r.connect(true)
		if r.c.Answered(r.g) {
			t.Error("answered by another connection")
		}
		r.step()
		r.wantPurging(first)
		r.answer()
		r.refused(quota)
		second := normal(n-recent-2048+1, n-recent)
		r.wantPurging(first, second)
		for range 2 {
			r.connect(true)
			r.step()
			r.wantPurging(first, second)
		}
		r.answer()
		r.refused(quota)
		r.wantPurging(first, normal(n-recent-2048-4096+1, n-recent-2048))
	})
}

// If the server does not answer a purge within five seconds, it is given up. Its identifiers are
// free, and nothing is purged until there is another reason.
func TestCure_GivesUpAnUnansweredPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20_000
		r := newRig(t, n)
		r.refused(quota)
		id := r.purging()[0]
		time.Sleep(3 * time.Second)
		if wait := r.step(); wait != 2*time.Second || !r.c.Open() {
			t.Errorf("after three seconds it waits for %v", wait)
		}
		time.Sleep(2*time.Second - 1)
		r.step()
		r.wantPurging(normal(n-recent+1, n))
		time.Sleep(time.Nanosecond)
		if wait := r.step(); wait != 0 {
			t.Errorf("after five seconds it waits for %v", wait)
		}
		r.wantPurging()
		if got := r.g.Offer(1, id, 2); got != session.Admitted {
			t.Errorf("its identifier is not free: %v", got)
		}
		r.refused(quota)
		r.wantPurging()
		r.connect(true)
		r.refused(quota)
		r.wantPurging(normal(n-recent+1, n)) // on another connection, the most recent ones
		r.answer()
		r.refused(quota)
		r.wantPurging() // only these within an hour
	})
}

// During a purge, a refusal belongs to a message that was sent before.
func TestCure_IgnoresRefusalsBeforeTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5000)
		r.refused(quota)
		r.refused(quota)
		r.c.Refused(r.g, quota)
		r.answer()
		r.step()
		r.wantPurging()
	})
}

// A further purge needs a reason: the server refuses messages although few are in flight.
func TestCure_PurgesMoreOnlyWithALowWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 20_000)
		r.refused(quota)
		r.answer()
		for range window / 2 {
			r.offer()
		}
		r.refused(quota)
		r.wantPurging()
		r.connect(true)
		for range window/2 - 1 {
			r.offer()
		}
		r.refused(quota)
		r.wantPurging(normal(20_000-recent+1, 20_000), normal(20_000-recent-2048+1, 20_000-recent))
	})
}

// A purge has helped if the server has accepted a window of messages after it. Then the next
// sequence starts from the beginning, on the same connection only after a minute.
func TestCure_RestartsAfterItHasHelped(t *testing.T) {
	for _, tt := range []struct {
		accepted  int
		later     time.Duration
		reconnect bool
		want      []uint16
	}{
		{window, time.Second, false, nil},
		{window, time.Minute + 1, false, normal(19_977, 21_000)},
		{window, time.Second, true, normal(19_977, 21_000)},
		{window - 1, time.Second, false, append(normal(19_977, 21_000), normal(19_977-2048, 19_976)...)},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, 21_000)
			r.refused(quota)
			r.answer()
			r.send(tt.accepted, 0)
			time.Sleep(tt.later)
			if tt.reconnect {
				r.connect(true)
			}
			r.refused(quota)
			r.wantPurging(tt.want)
		})
	}
}

// If the server refused a message on the previous connection, this connection is held and the purge
// comes first.
func TestCure_PurgesAHeldConnectionFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5000)
		last, more := normal(5000-recent+1, 5000), normal(5000-recent-2048+1, 5000-recent)
		r.send(1, quota)
		r.connect(true)
		if !r.g.Held() {
			t.Fatal("the connection is not held")
		}
		r.step()
		r.wantPurging(last)
		r.answer()
		r.must(r.g.Unhold())
		r.send(1, quota)
		r.connect(true)
		r.step()
		r.wantPurging(last, more) // it has not helped
		r.answer()
		r.must(r.g.Unhold())
		r.send(window, 0)
		r.send(1, quota)
		r.connect(true)
		r.step()
		r.wantPurging(last) // it has helped
	})
}

// If the server has lost the session, it has lost its exchanges too.
func TestCure_ForgetsTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 20_000)
		last := normal(20_000-recent+1, 20_000)
		r.refused(quota)
		r.answer()
		r.c.Refused(r.g, quota)
		r.c.Lost()
		if r.c.Open() {
			t.Error("open after the session was lost")
		}
		r.connect(true)
		r.step()
		r.wantPurging()
		r.refused(quota)
		r.wantPurging(last) // the first step again
	})
}

// If the store fails, the cure uses it again later.
func TestCure_ReturnsErrorsOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.c.Refused(r.g, quota)
		closed := persistence.NewMemory(persistence.Options{})
		r.must(closed.Close())
		if _, err := r.c.Step(r.g, closed, func(uint16) bool { return false }, false); err == nil {
			t.Error("no error of a closed store")
		}
		r.wantPurging()
		r.step()
		r.wantPurging(normal(1, 10))
	})
}

// If there are no identifiers to purge, no purge is open, and messages continue.
func TestCure_HasNothingToPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.refused(quota)
		r.wantPurging()
		if wait := r.step(); wait != 0 {
			t.Errorf("waits for %v", wait)
		}
		r.refused(quota)
		r.wantPurging()
		r.add(persistence.Normal, 10)
		for seq := range uint64(10) {
			r.done(seq + 1)
		}
		r.refused(quota) // the last purge did not help
		r.wantPurging()
		time.Sleep(time.Minute + 1)
		r.refused(quota)
		r.wantPurging(normal(1, 10))
	})
}
