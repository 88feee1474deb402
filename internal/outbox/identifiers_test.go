package outbox_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

func onHigh(topic string, n uint64, qos byte) *outbox.Draft {
	d := on(topic, n, qos)
	d.Priority = persistence.High
	return d
}

// A process that was killed may have marked messages as sent before it sent them. Such a message
// does not use the packet identifier of an isolated message that is a lap before it.
func TestRun_NoIdentifierOfAnIsolatedMessageAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(onHigh("a", 1, 2))
		r.want("1")
		id, lap := r.last().PacketID, session.Lap(uint8(persistence.High))
		for range 2 {
			r.cut(0)
			r.connect(true, session.Limits{})
		}
		n := uint64(2)
		for ; n < lap-10; n++ {
			r.add(onHigh("b", n, 1))
			synctest.Wait()
			r.ack(wire.PUBACK, r.last().PacketID, 0)
		}
		r.cut(0)
		for ; n < lap+5; n++ {
			r.add(onHigh("b", n, 2))
		}
		r.stop() // killed
		r.store = r.store.Reopen()
		r.start()
		r.connect(true, session.Limits{})
		sent := 0
		for _, f := range r.c.take() {
			v := publishOf(f)
			if sent++; v.PacketID == id {
				t.Errorf("message %d has the packet identifier of message 1, with DUP %v", indexOf(v), v.Dup)
			}
		}
		if sent < 10 {
			t.Errorf("%d messages were sent", sent)
		}
	})
}

// Messages of an isolated topic keep more packet identifiers than the range from which deferred
// messages choose.
func TestRun_IdentifiersForDeferredMessagesDespiteAnIsolatedTopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		limits := session.Limits{ReceiveMaximum: 3000}
		r.connect(false, limits)
		for n := range uint64(1500) {
			r.add(on("a", n+1, 1))
		}
		for range 2 { // the second isolates the topic
			synctest.Wait()
			r.cut(shuttingDown)
			r.connect(true, limits)
		}
		r.add(on("b", 2000, 1))
		r.wantLast(2000)
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonPacketIDInUse)
		r.c.take()
		r.cut(0)
		r.connect(true, limits)
		time.Sleep(2001 * time.Millisecond)
		r.want("2000")
	})
}

// A refusal that the store failed to record still applies in this process.
func TestRun_UnrecordedDeferralIsObserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := hookedRig(t, outbox.Config{Retry: fixed}, persistence.Options{})
		r.connect(false, session.Limits{})
		w := r.add(on("a", 1, 1))
		r.want("1")
		failing := errors.New("no space")
		s.set(func() { s.deferring = func(uint64, persistence.Deferral) error { return failing } })
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
		r.add(on("a", 2, 1))
		synctest.Wait()
		s.set(func() { s.deferring = nil })
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want()
		time.Sleep(2001 * time.Millisecond)
		r.want("1")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		r.want("2")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		wantState(t, w, outbox.Acked)
		if st := r.store.Stats(); st.Pending != 0 || r.g.InFlight() != 0 {
			t.Errorf("%d messages are pending, %d in flight", st.Pending, r.g.InFlight())
		}
	})
}

// A connection ends while the packet identifier of a message is recorded. The message was not sent
// under it.
func TestRun_UnsentMessageKeepsNoRecordedIdentifier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := hookedRig(t, outbox.Config{Retry: fixed}, persistence.Options{})
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 2))
		r.want("1")
		r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonNotAuthorized)
		s.set(func() {
			s.deferring = func(_ uint64, d persistence.Deferral) error {
				if d.PacketID != 0 {
					r.s.Detach(r.g)
				}
				return nil
			}
		})
		time.Sleep(2001 * time.Millisecond)
		r.want()
		r.cut(0)
		r.stop() // killed
		s.set(func() { s.deferring = nil })
		r.store = r.store.Reopen()
		r.cfg.Store = nil
		r.start()
		r.connect(true, session.Limits{})
		r.want("1") // without DUP
	})
}

// A message is not dropped for a newer one while it is sent.
func TestAdd_DropsNoMessageBeingSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := persistence.Options{Limits: persistence.Limits{MaxMessages: 10, WhenFull: persistence.DropOldest}}
		r, s := hookedRig(t, outbox.Config{Retry: fixed, WhenFull: outbox.DropOldest, StoreDrops: true, MaxDeferred: 1}, o)
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.want("1")
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
		s.set(func() {
			s.ending = func(uint64) { // it becomes due when it has been chosen
				s.set(func() { s.ending = nil })
				time.Sleep(3 * time.Second)
				synctest.Wait()
			}
		})
		r.add(on("a", 2, 1))
		synctest.Wait()
		r.want("2")
		if st := r.store.Stats(); st.Dropped != 1 {
			t.Errorf("%+v", st)
		}
	})
}

var errReading = errors.New("the store cannot be read")

// The outbox keeps a refusal that the send loop failed to read until the next connection.
func TestRun_UnreadRefusalIsObserved(t *testing.T) {
	for works := range 12 { // the store fails only for this call
		bubble(t, func(t *testing.T) {
			r, s := hookedRig(t, outbox.Config{Retry: fixed}, persistence.Options{})
			r.connect(false, session.Limits{})
			r.add(on("a", 1, 1))
			r.want("1")
			for range 2 { // the second time, the message is already deferred
				calls := 0
				s.set(func() {
					s.getting = func(uint64) error {
						if calls++; calls == works {
							return nil
						}
						return errReading
					}
				})
				r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
				r.cut(0)
				r.connect(true, session.Limits{})
				r.want()
				s.set(func() { s.getting = nil })
				time.Sleep(6 * time.Second)
				r.want("1")
			}
		})
	}
}

// A message that was sent alone, and refused before the connection ended, is not isolated again.
func TestDisconnected_RefusedTrialIsNotIsolated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := hookedRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.Options{})
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.want("1")
		id := r.last().PacketID
		r.cut(shuttingDown)
		r.connect(true, session.Limits{})
		time.Sleep(2001 * time.Millisecond)
		r.want("+1")
		s.set(func() { s.getting = func(uint64) error { return errReading } }) // the send loop handles the refusal later
		r.ack(wire.PUBACK, id, wire.ReasonNotAuthorized)
		r.cut(shuttingDown)
		s.set(func() { s.getting = nil })
		r.connect(true, session.Limits{})
		time.Sleep(5 * time.Second)
		r.want("1") // without DUP
		if r.last().PacketID == id {
			t.Errorf("sent under identifier %d again", id)
		}
	})
}

// If the store cannot read a deferred message when the process starts, the message is sent when it
// can be read. It keeps its packet identifier.
func TestRun_RestoresAnUnreadableMessageLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := hookedRig(t, outbox.Config{Retry: fixed}, persistence.Options{})
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.add(on("b", 2, 1))
		r.want("1", "2")
		for n := range uint64(2) {
			r.ack(wire.PUBACK, session.PacketID(0, n+1), wire.ReasonNotAuthorized)
		}
		time.Sleep(2001 * time.Millisecond)
		r.want("1", "2")
		id := r.last().PacketID
		r.ack(wire.PUBACK, id-1, wire.ReasonNotAuthorized)
		r.cut(0)
		r.stop()
		s.Memory = s.Memory.Reopen()
		r.store = s.Memory
		s.set(func() { s.getting = func(uint64) error { return errReading } })
		r.start() // message 1 waits, message 2 may have been received under id
		r.add(on("a", 3, 1))
		r.connect(true, session.Limits{})
		time.Sleep(10 * time.Second)
		r.want() // message 3 may have to wait
		s.set(func() { s.getting = nil })
		time.Sleep(1100 * time.Millisecond) // the outbox reads it again each second
		r.want("+2", "1")
		if st := r.o.Deferred(); st.Messages != 3 {
			t.Errorf("deferred: %+v", st)
		}
	})
}

// One deferred message that the store can never read delays the other messages only for unreadWait.
func TestRun_ContinuesWithoutAnUnreadableMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := hookedRig(t, outbox.Config{Retry: fixed}, persistence.Options{})
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.want("1")
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
		r.cut(0)
		r.stop()
		s.Memory = s.Memory.Reopen()
		r.store = s.Memory
		s.set(func() {
			s.getting = func(seq uint64) error {
				if seq == 1 {
					return errReading
				}
				return nil
			}
		})
		r.start()
		r.add(on("b", 2, 1))
		r.connect(true, session.Limits{})
		time.Sleep(29 * time.Second)
		r.want()
		time.Sleep(3 * time.Second)
		r.want("2")
	})
}
