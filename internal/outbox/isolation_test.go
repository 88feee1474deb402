package outbox_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// isolatedRig is a rig in which message 1 of topic "a" is isolated. Then a message of the same
// topic and another priority was given up. There is no connection.
func isolatedRig(t *testing.T) *rig {
	r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
	r.connect(false, session.Limits{})
	r.add(on("a", 1, 1))
	r.want("1")
	r.cut(wire.ReasonNotAuthorized)
	r.connect(true, session.Limits{})
	r.want("+1")
	r.cut(wire.ReasonNotAuthorized)
	d := on("a", 2, 1)
	d.Priority = persistence.High
	w := r.add(d)
	r.connect(true, session.Limits{})
	r.want("2")
	r.cut(wire.ReasonPacketTooLarge)
	r.connect(true, session.Limits{})
	r.want("+2")
	r.cut(wire.ReasonPacketTooLarge)
	wantState(t, w, outbox.Refused)
	return r
}

// acknowledge adds message n to another topic and makes the server acknowledge it.
func (r *rig) acknowledge(n uint64) {
	r.t.Helper()
	r.add(on("b", n, 1))
	synctest.Wait()
	r.ack(wire.PUBACK, r.last().PacketID, 0)
}

// A connection ends because of a message that is sent alone. That isolates the topic if other
// messages of the topic have also ended connections, even if the connection acknowledged other
// messages.
func TestDisconnected_IsolatesATopicWithAGivenUpMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := isolatedRig(t)
		r.connect(true, session.Limits{})
		r.acknowledge(3)
		r.want("3")
		time.Sleep(5 * time.Second)
		r.want("+1")
		r.cut(0)
		r.add(on("a", 4, 1))
		r.connect(true, session.Limits{})
		r.want()
	})
}

// An acknowledgement of any message of an isolated topic ends the isolation, even of a message that
// was isolated before its topic.
func TestAcknowledged_EndsTheIsolationOfATopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := isolatedRig(t)
		r.add(on("a", 3, 1))
		r.connect(true, session.Limits{})
		r.want("3")
		r.cut(shuttingDown)
		r.add(on("a", 4, 1))
		r.connect(true, session.Limits{})
		r.want()
		time.Sleep(5 * time.Second)
		r.want("+1")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		r.want("+3", "4")
	})
}

// A message for which the server has sent PUBREC does not isolate its topic after a restart.
func TestRun_RestoredReleasedMessageIsolatesNoTopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.add(on("a", 2, 2))
		r.want("1", "2")
		r.ack(wire.PUBACK, session.PacketID(0, 1), wire.ReasonNotAuthorized)
		for range 2 { // because of message 2
			r.cut(shuttingDown)
			r.connect(true, session.Limits{})
		}
		r.want()
		time.Sleep(5 * time.Second)
		r.want("1")
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
		r.want("+2")
		r.ack(wire.PUBREC, r.last().PacketID, 0)
		r.cut(shuttingDown)
		r.connect(true, session.Limits{})
		time.Sleep(5 * time.Second)
		for range 2 { // because of message 1
			r.wantLast(1)
			r.cut(shuttingDown)
			r.connect(true, session.Limits{})
		}
		r.cut(0)
		r.stop()
		r.store = r.store.Reopen()
		r.start()
		r.add(on("a", 3, 1))
		synctest.Wait() // nothing but the connection wakes the send loop
		r.connect(true, session.Limits{})
		r.wantLast(3) // at once: it has joined a queue that may send
	})
}

// wantLast checks that message n was the last one sent on the connection.
func (r *rig) wantLast(n uint64) {
	r.t.Helper()
	synctest.Wait()
	if got := indexOf(r.last()); got != n {
		r.t.Fatalf("message %d was sent last, want %d", got, n)
	}
}

const shuttingDown = 0x8B // DISCONNECT: the server is shutting down

// The limits of a rule also count the refusals of a message while its topic is isolated.
func TestRun_IsolationKeepsTheRefusalsOfAMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		for n := range uint64(3) {
			r.add(on("a", n+1, 1))
		}
		r.want("1", "2", "3")
		r.ack(wire.PUBACK, session.PacketID(0, 1), wire.ReasonNotAuthorized)
		time.Sleep(5 * time.Second)
		r.want("1")
		id := r.last().PacketID
		for range 2 { // because of messages 2 and 3
			r.cut(shuttingDown)
			r.connect(true, session.Limits{})
		}
		r.want()
		var e persistence.Entry
		if ok, err := r.store.Get(1, &e); !ok || err != nil || e.Deferral.Attempts != 1 || !e.Deferral.Since.Before(e.Deferral.Until) || e.Deferral.PacketID != id {
			t.Errorf("the store has %+v, %v", e.Deferral, err)
		}
	})
}

// A refusal ends the isolation of a topic that silent ends have caused. The next silent end starts
// a new count and keeps the order.
func TestDisconnected_SilentEndsAfterARefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.add(on("a", 2, 1))
		r.want("1", "2")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want()
		for range 3 { // message 1 is sent alone, and refused
			time.Sleep(20 * time.Second)
			r.wantLast(1)
			r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
		}
		r.cut(0)
		r.connect(true, session.Limits{})
		time.Sleep(20 * time.Second)
		r.want("1")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want() // 2 waits for it
	})
}

// A message that must be sent alone but cannot be sent does not block other messages.
func TestRun_UnsendableTrialBlocksNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := hookedRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.Options{})
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.want("1")
		r.cut(shuttingDown)
		s.set(func() {
			s.deferring = func(uint64, persistence.Deferral) error { return errReading } // no identifier can be recorded
		})
		r.connect(false, session.Limits{})
		for n := range uint64(3) {
			r.acknowledge(n + 2)
			time.Sleep(5 * time.Second)
		}
		r.want("2", "3", "4")
		s.set(func() { s.deferring = nil })
		time.Sleep(5 * time.Second)
		r.want("1")
	})
}

// Each message that is sent alone costs a connection. However many topics the server forbids, the
// connections last for the longest delay.
func TestIsolated_ManyTopics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 20})
		const topics = 20
		for n := range uint64(topics) {
			r.add(on(fmt.Sprint("t", n), n+1, 1))
		}
		cuts, n, tried := 0, uint64(topics), map[uint64]bool{}
		for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(second) {
			n++
			r.add(on("ok", n, 1))
			synctest.Wait()
			forbidden := false
			for _, f := range r.c.take() {
				v := publishOf(f)
				if string(v.Topic) != "ok" {
					forbidden = true
					if time.Since(began) > time.Hour/2 {
						tried[indexOf(v)] = true
					}
					break
				}
				r.ack(wire.PUBACK, v.PacketID, 0)
			}
			if forbidden {
				r.cut(wire.ReasonNotAuthorized)
				r.connect(true, session.Limits{ReceiveMaximum: 20})
				if time.Since(began) > time.Hour/2 {
					cuts++
				}
			}
		}
		if most := 1800 / 8; cuts > most || len(tried) != topics {
			t.Errorf("%d connections ended in half an hour, want %d at most; %d topics were tried", cuts, most, len(tried))
		}
	})
}
