package session

import (
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// PUBRELs are resent in the order in which they are offered, which is the order of the PUBRECs
// [MQTT-4.6.0-4]. They need no room in the window, but count against it [MQTT-3.3.4-8]. Released
// messages are not resent.
func TestOfferReleased_KeepsTheOrderOfThePubrecs(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	for seq := uint64(1); seq <= 4; seq++ {
		r.offer(seq, 2)
	}
	for _, seq := range []uint64{3, 1, 4} {
		r.must(r.ack(g, wire.PUBREC, PacketID(0, seq)))
	}
	for _, settled := range []uint64{0, 1} {
		if settled > 0 {
			r.must(r.ack(g, wire.PUBCOMP, PacketID(0, settled)))
		}
		r.flush()
		r.sent()
		g = r.connect(true, Limits{ReceiveMaximum: 2})
		pending := []uint64{3, 1, 4}
		if settled > 0 {
			pending = []uint64{3, 4}
		}
		var lines []string
		for _, seq := range pending {
			if answer := g.OfferReleased(seq, PacketID(0, seq)); answer != Admitted {
				t.Errorf("PUBREL %d has to wait: %v", seq, answer)
			}
			lines = append(lines, fmt.Sprint("PUBREL ", PacketID(0, seq)))
		}
		r.flush()
		r.want(lines...)
		if got := g.Unacked(); fmt.Sprint(got) != "[2]" {
			t.Errorf("%v are to be sent again, want 2", got)
		}
		if answer := g.Offer(2, PacketID(0, 2), 2); answer != Wait {
			t.Errorf("the window has room: %v", answer)
		}
	}
}

// A birth that a server does not accept is not resent to that server [MQTT-3.2.2-11]
// [MQTT-3.2.2-14] [MQTT-3.2.2-15].
func TestResendUnstored_EndsUnacceptableMessages(t *testing.T) {
	for want, limits := range map[byte]Limits{
		wire.ReasonPacketTooLarge:     {MaximumQoS: 2, RetainAvailable: true, MaximumPacketSize: 10},
		wire.ReasonQoSNotSupported:    {RetainAvailable: true},
		wire.ReasonRetainNotSupported: {MaximumQoS: 1},
		0x00:                          full, // it is sent and not answered
	} {
		r := newRig(t, Config{})
		g := r.connect(false, full)
		var outcomes []byte
		image := wire.AppendPublish(nil, &wire.Publish{Topic: "status", QoS: 1, Retain: true, Payload: []byte("online")})
		r.must(g.PublishUnstored(image, func(reason byte, _ string, err error) {
			if err != nil {
				t.Error(err)
			}
			outcomes = append(outcomes, reason)
		}))
		r.want("PUBLISH 1 dup=false online")
		g = r.connect(true, limits)
		r.must(g.ResendUnstored())
		if want < 0x80 {
			r.want("PUBLISH 1 dup=true online")
			continue
		}
		r.want()
		if fmt.Sprint(outcomes) != fmt.Sprint([]byte{want}) || g.InFlight() != 0 {
			t.Errorf("outcomes % x, want %x; %d in flight", outcomes, want, g.InFlight())
		}
	}
}
