package outbox_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// fixed is a backoff without randomness: 2 s, 4 s, 8 s.
var fixed = reliability.Backoff{Min: time.Second, Max: 8 * time.Second, Rand: func() float64 { return 1 }}

// on returns a draft of message n on a topic.
func on(topic string, n uint64, qos byte) *outbox.Draft {
	d := message(n, qos)
	d.Topic = topic
	d.Encode = func(dst []byte, number uint64) []byte {
		return wire.AppendPublish(dst, &wire.Publish{Topic: topic, QoS: qos, Payload: binary.BigEndian.AppendUint64(nil, n)})
	}
	return d
}

// last returns the last PUBLISH on the connection.
func (r *rig) last() wire.PublishView {
	r.t.Helper()
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for i := len(r.c.sent) - 1; i >= 0; i-- {
		if f := r.c.sent[i]; f.Type() == wire.PUBLISH {
			return publishOf(f)
		}
	}
	r.t.Fatal("no PUBLISH was sent")
	return wire.PublishView{}
}

func TestRun_ResendsARefusedMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var delays []outbox.Delay
		r := newRig(t, outbox.Config{Retry: fixed, Deferred: func(d outbox.Delay) { delays = append(delays, d) }}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		w := r.add(on("a", 1, 1))
		r.want("1")
		id := r.last().PacketID
		r.ack(wire.PUBACK, id, wire.ReasonQuotaExceeded)
		r.add(on("a", 2, 1)) // waits for 1
		r.add(on("b", 3, 1)) // does not
		r.want("3")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		time.Sleep(1999 * time.Millisecond)
		r.want()
		time.Sleep(2 * time.Millisecond)
		r.want("1") // without DUP
		if again := r.last().PacketID; again == id {
			t.Errorf("sent again under the identifier %d", id)
		}
		if got := wantState(t, w, outbox.Pending); got.Reason != wire.ReasonQuotaExceeded {
			t.Errorf("the result is %+v", got)
		}
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonQuotaExceeded)
		time.Sleep(3999 * time.Millisecond)
		r.want()
		time.Sleep(2 * time.Millisecond)
		r.want("1")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		r.want("2")
		wantState(t, w, outbox.Acked)
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		r.add(on("a", 4, 1))
		r.want("4")
		if len(delays) != 2 || delays[0].Topic != "a" || delays[0].Code != wire.ReasonQuotaExceeded || delays[0].For != 2*time.Second || delays[1].Attempts != 2 {
			t.Errorf("reported %+v", delays)
		}
		if d := r.o.Deferred(); d != (deferral.State{}) {
			t.Errorf("deferred: %+v", d)
		}
	})
}

// A message that ends connections is sent last, and alone.
func TestDisconnected_PoisonIsSentAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 2))
		r.add(on("a", 2, 2))
		r.want("1", "2")
		id := session.PacketID(0, 1)
		r.cut(wire.ReasonNotAuthorized)
		r.connect(true, session.Limits{})
		r.want("+1", "+2")
		r.cut(wire.ReasonNotAuthorized)
		r.connect(true, session.Limits{})
		r.want("+2")
		time.Sleep(5 * time.Second)
		r.want() // nothing was acknowledged
		r.add(on("b", 3, 1))
		r.want("3")
		r.ack(wire.PUBACK, session.PacketID(0, 3), 0)
		r.want() // another is in flight
		r.ack(wire.PUBREC, session.PacketID(0, 2), 0)
		r.ack(wire.PUBCOMP, session.PacketID(0, 2), 0)
		r.want("PUBREL", "+1")
		if r.last().PacketID != id {
			t.Errorf("sent under the identifier %d, was %d", r.last().PacketID, id)
		}
		r.add(on("b", 4, 1))
		r.want() // it is alone
		r.ack(wire.PUBREC, id, 0)
		r.ack(wire.PUBCOMP, id, 0)
		r.want("PUBREL", "4")
	})
}

// If the server gives no reason, a bad link may be the cause. So other messages of the topic wait
// until the message, sent alone, has ended three connections.
func TestDisconnected_SilentEndsKeepTheOrder(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
			r.connect(false, session.Limits{})
			r.add(on("a", 1, 1))
			r.add(on("a", 2, 1))
			r.want("1", "2")
			r.cut(0)
			r.connect(true, session.Limits{})
			r.want("+1", "+2")
			r.cut(0)
			r.connect(true, session.Limits{})
			r.add(on("b", 3, 1))
			r.add(on("a", 4, 1))
			r.want("3") // other topics continue
			r.ack(wire.PUBACK, session.PacketID(0, 3), 0)
			for range 3 {
				if r.want(); restart {
					r.cut(0)
					r.stop()
					r.store = r.store.Reopen()
					r.start()
					r.connect(true, session.Limits{})
				}
				time.Sleep(20 * time.Second)
				r.want("+1")
				r.cut(0)
				r.connect(true, session.Limits{})
			}
			r.want("+2", "4")
			r.ack(wire.PUBACK, r.last().PacketID, 0) // message 1 has another identifier
			r.ack(wire.PUBACK, session.PacketID(0, 2), 0)
			time.Sleep(20 * time.Second)
			r.want("+1")
			r.ack(wire.PUBACK, session.PacketID(0, 1), 0)
			if d := r.o.Deferred(); d != (deferral.State{}) {
				t.Errorf("deferred: %+v", d)
			}
		})
	}
}

// After silent ends, the server accepts the message. Then the other messages of its topic follow.
func TestDisconnected_SilentEndsOfABadLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		for n := range uint64(4) {
			r.add(on("a", n+1, 1))
		}
		r.want("1", "2", "3", "4")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want("+1", "+2", "+3", "+4")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want()
		time.Sleep(20 * time.Second)
		r.want("+1")
		r.ack(wire.PUBACK, session.PacketID(0, 1), 0)
		r.want("+2", "+3", "+4")
	})
}

func TestWaitIdle_OnlyDeferredMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		r.add(on("a", 2, 1))
		r.want("1", "2")
		began := time.Now()
		r.ack(wire.PUBACK, session.PacketID(0, 1), wire.ReasonNotAuthorized)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 20 {
				synctest.Wait()
				if err := r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: r.last().PacketID, Reason: wire.ReasonNotAuthorized}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		err := r.o.WaitIdle(t.Context())
		took := time.Since(began)
		<-done
		var deferred *outbox.DeferredError
		if !errors.As(err, &deferred) || deferred.Messages != 2 || deferred.Code != wire.ReasonNotAuthorized || took < 10*time.Second || took > 12*time.Second {
			t.Errorf("WaitIdle returned %v after %v: %+v", err, took, deferred)
		}
	})
}

// If a message is refused because its packet identifier is in use, that identifier is recorded,
// whatever happens to the message afterwards.
func TestRun_RecordsTheRefusedIdentifier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		want := func(what string, attempts int, alone bool, refused uint16) {
			t.Helper()
			list := r.store.Deferred()
			if len(list) != 1 || list[0].Attempts != attempts || list[0].Alone != alone || list[0].RefusedID != refused {
				t.Errorf("after %s the store has %+v, want %d attempts, alone %v, refused under %d", what, list, attempts, alone, refused)
			}
		}
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 1))
		synctest.Wait()
		first := r.last().PacketID
		r.ack(wire.PUBACK, first, wire.ReasonPacketIDInUse)
		want("the first refusal", 1, false, first)
		time.Sleep(3 * second)
		second := r.last().PacketID
		r.ack(wire.PUBACK, second, wire.ReasonUnspecifiedError)
		want("another refusal", 2, false, first)
		time.Sleep(5 * time.Second)
		third := r.last().PacketID
		want("it was sent again", 2, false, first)
		r.ack(wire.PUBACK, third, wire.ReasonPacketIDInUse)
		want("the next identifier in use", 3, false, third)
		time.Sleep(9 * time.Second)
		r.cut(wire.ReasonUnspecifiedError)
		want("the end of a connection", 1, true, third)
		r.connect(false, session.Limits{}) // the session is lost, too
		want("the end of the session", 1, true, third)
		r.stop()
		r.store = r.store.Reopen()
		r.start()
		want("a restart", 1, true, third)
	})
}
