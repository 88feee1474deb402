package outbox_test

import (
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file tests which message counts as the cause when a connection ends, and what clears its
// strikes.

// An unstored message that was unacknowledged when the connection ended may be the cause. The next
// connection waits for its acknowledgement.
func TestDisconnected_UnstoredMessageMayBePoison(t *testing.T) {
	for _, unstored := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, outbox.Config{PoisonAttempts: 3}, persistence.NewMemory(persistence.Options{}))
			w := r.add(message(1, 1))
			birth := message(99, 1).Encode(nil, 0)
			for i := range 8 {
				r.attach(i > 0, session.Limits{})
				var err error
				if i == 0 {
					err = r.g.PublishUnstored(birth, func(byte, string, error) {})
				} else {
					err = r.g.ResendUnstored()
				}
				if err != nil {
					t.Fatal(err)
				}
				id := publishOf(r.c.take()[0]).PacketID
				r.o.Connected(r.g)
				if i == 1 {
					r.want() // the message waits
				}
				if !unstored && i > 0 {
					r.ack(wire.PUBACK, id, 0)
					if err := r.g.PublishUnstored(birth, func(byte, string, error) {}); err != nil { // sent after the message, so it is no excuse
						t.Fatal(err)
					}
				}
				synctest.Wait()
				r.cut(wire.ReasonPayloadFormatInvalid)
			}
			want := outbox.Refused
			if unstored {
				want = outbox.Pending
			}
			if got := wantState(t, w, want); !unstored && got.Reason != wire.ReasonPayloadFormatInvalid {
				t.Errorf("the result is %+v", got)
			}
		})
	}
}

// An acknowledgement clears the earlier strikes of a message, but not later ones.
func TestDisconnected_AcknowledgementClearsStrikes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{PoisonAttempts: 3}, persistence.NewMemory(persistence.Options{}))
		w := r.add(message(1, 1))
		for i := range 6 {
			r.connect(i > 0, session.Limits{})
			if i == 2 {
				r.add(message(2, 1))
				synctest.Wait()
				r.ack(wire.PUBACK, session.PacketID(0, 2), 0)
			}
			r.cut(wire.ReasonPacketTooLarge)
			want := outbox.Pending
			if i == 5 { // the third after the acknowledgement
				want = outbox.Refused
			}
			wantState(t, w, want)
		}
		if e := r.ended[len(r.ended)-1]; e.Cause != outbox.Poison || e.Attempts != 3 {
			t.Errorf("ended as %+v", e)
		}
	})
}
