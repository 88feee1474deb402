package outbox_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestCure_GivesUpOnAServerThatDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		r.want("6")
		r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonQuotaExceeded)
		ids := r.wantPurged(1, 6)
		r.add(on("b", 7, 2)) // the server would refuse it too
		time.Sleep(4900 * time.Millisecond)
		r.want()
		time.Sleep(200 * time.Millisecond)
		r.want("6") // under an identifier that was purged; the window is 1
		r.answer(ids)
		r.want()
		r.ack(wire.PUBREC, r.last().PacketID, 0)
		r.want("PUBREL")
		r.ack(wire.PUBCOMP, r.last().PacketID, 0)
		r.want("7")
	})
}

// mosquitto closes the connection when it refuses a message because of its quota.
func TestCure_ContinuesOnTheNextConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		r.want("6")
		if err := r.g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: r.last().PacketID, Reason: wire.ReasonQuotaExceeded}); err != nil {
			t.Fatal(err)
		}
		r.cut(0) // before the send loop has seen the refusal, or after it
		for range 2 {
			r.connect(true, session.Limits{ReceiveMaximum: 20})
			r.wantPurged(1, 6)
			r.cut(0) // unanswered
		}
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		r.answer(r.wantPurged(1, 6))
		r.want("6")
		// A refusal on a later connection may have another cause, such as another crash.
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		r.want("+6")
		r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonQuotaExceeded)
		r.answer(r.wantPurged(1, 6))
		r.want("6")
	})
}

func TestCure_EndsWithTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		r.want("6")
		r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonQuotaExceeded)
		r.wantPurged(1, 6)
		r.cut(0)
		r.connect(false, session.Limits{ReceiveMaximum: 20})
		time.Sleep(3 * second)
		r.want("6")
	})
}

// answerPurges answers the PUBRELs for packet identifiers that no message uses. of returns the
// message that the server may hold under an identifier, or 0.
func (r *rig) answerPurges(of func(id uint16) uint64) {
	for {
		frames := r.c.take()
		for _, f := range frames {
			if f.Type() != wire.PUBREL {
				continue
			}
			a, _ := wire.ParseAck(f)
			if !r.g.IsPurging(a.PacketID) {
				continue
			}
			if n := of(a.PacketID); n != 0 {
				r.t.Errorf("identifier %d of message %d is purged", a.PacketID, n)
			}
			r.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound)
		}
		synctest.Wait()
		if len(frames) == 0 {
			return
		}
	}
}
