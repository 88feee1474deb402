package session

import (
	"context"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// discard is a connection that accepts all output.
type discard struct{ out []byte }

func (d *discard) Send(encode func([]byte) []byte) error { d.out = encode(d.out[:0]); return nil }
func (d *discard) Fail(error)                            {}

func benchSession(b *testing.B, cfg Config) (*Session, *Generation) {
	cfg.Store = newStore()
	cfg.Settled = func(uint64, byte, string) {}
	s := New(cfg)
	s.Begin(true)
	g := s.Attach(&discard{}, Limits{})
	b.ReportAllocs()
	return s, g
}

// BenchmarkOutboundQoS1 measures the session's cost of an outbound message: the offer and its
// PUBACK.
func BenchmarkOutboundQoS1(b *testing.B) {
	_, g := benchSession(b, Config{})
	for seq := uint64(1); b.Loop(); seq++ {
		id := PacketID(0, seq)
		g.Offer(seq, id, 1)
		if err := g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: id}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInbound measures the session's cost of an inbound message: PUBLISH, the handler's
// result, and the acknowledgements, which are sent in batches.
func BenchmarkInbound(b *testing.B) {
	for _, qos := range []byte{1, 2} {
		b.Run(map[byte]string{1: "QoS1", 2: "QoS2"}[qos], func(b *testing.B) {
			var in *Inbound
			s, g := benchSession(b, Config{Deliver: func(i *Inbound, _ string, _ wire.PublishView) { in = i }})
			ctx, cancel := context.WithCancel(b.Context())
			cancel()
			v, err := wire.ParsePublish(firstFrame(wire.AppendPublish(nil,
				&wire.Publish{Topic: "plant/7/temp", QoS: qos, PacketID: 1, Payload: make([]byte, 256)})))
			if err != nil {
				b.Fatal(err)
			}
			for id := uint16(1); b.Loop(); id = id%1000 + 1 {
				v.PacketID = id
				if err := g.HandlePublish(v); err != nil {
					b.Fatal(err)
				}
				if err := s.Complete(in, 0, ""); err != nil {
					b.Fatal(err)
				}
				if qos == 2 {
					if err := g.HandleAck(wire.Ack{Type: wire.PUBREL, PacketID: id}); err != nil {
						b.Fatal(err)
					}
				}
				if id == 1000 {
					s.RunAcks(ctx)
				}
			}
		})
	}
}

// BenchmarkPublishAliased measures the cost of Topic Aliases for a message of 256 bytes: without
// aliases, for a topic with an alias, and for one that takes over the alias of another.
func BenchmarkPublishAliased(b *testing.B) {
	for _, c := range []struct {
		name            string
		aliases, topics int
	}{{"off", 0, 8}, {"known", 8, 8}, {"taken", 8, 9}} {
		b.Run(c.name, func(b *testing.B) {
			w := &lockedWriter{}
			g := New(Config{Store: newStore(), TopicAliases: uint16(c.aliases)}).Attach(w, Limits{TopicAliasMaximum: 100})
			var packets [][]byte
			for i := range c.topics {
				packets = append(packets, wire.AppendPublish(nil, &wire.Publish{Topic: "plant/7/temp/" + string(rune('a'+i)), Payload: make([]byte, 256)}))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.out = w.out[:0]
				_ = g.Publish(func(dst []byte) []byte { return append(dst, packets[i%len(packets)]...) })
			}
		})
	}
}
