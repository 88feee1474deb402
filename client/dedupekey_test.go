package client_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// PayloadKey distinguishes messages without an ID by their payloads.
func TestPayloadKey_SuppressesDuplicatesWithoutID(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe, cfg.Receiving.DedupeKey = dedupe.NewMemory(dedupe.Options{}), client.PayloadKey
	}, in, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for i, m := range []struct{ topic, payload string }{{"a", "1"}, {"a", "1"}, {"a", "2"}, {"b", "1"}, {"a", "1"}} {
			p.publish(wire.Publish{Topic: m.topic, QoS: 1, PacketID: uint16(i + 1), Payload: []byte(m.payload)})
			p.nextAck(wire.PUBACK)
		}
		id := client.NewMessageID() // an ID takes precedence over the payload
		for i, payload := range []string{"x", "y"} {
			m := identified("a", uint16(i+10), id)
			m.Payload = []byte(payload)
			p.publish(m)
			p.nextAck(wire.PUBACK)
		}
		if n := len(in.messages()); n != 4 {
			t.Errorf("%d messages were handled, want 4", n)
		}
	})
}

func TestDedupeKey_PanicLetsMessagePass(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe, cfg.Receiving.DedupeKey = dedupe.NewMemory(dedupe.Options{}), func(*client.Message) string { panic("no key") }
	}, in, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		if a := p.nextAck(wire.PUBACK); a.Reason != 0 || len(in.messages()) != 1 {
			t.Errorf("PUBACK %+v, %d handled", a, len(in.messages()))
		}
	})
}
