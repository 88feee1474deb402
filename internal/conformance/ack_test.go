package conformance

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

// pubackReasons are the reason codes of PUBACK and of PUBREC, tables 3-4 and 3-5.
var pubackReasons = []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}

// refusalsAreReasonCodes makes a handler refuse with every possible code.
func refusalsAreReasonCodes(t *testing.T, qos byte, answer wire.Type) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{}, func(_ context.Context, m *client.Message) error {
			return client.Refuse(m.Payload[0], "")
		})
		for code := range 256 {
			id := uint16(code + 1)
			conn.Publish(message(qos, id, string([]byte{byte(code)})))
			f := conn.Expect(answer)
			want := []byte{byte(answer) << 4, 3, byte(id >> 8), byte(id), 0x80}
			if code >= 0x80 && slices.Contains(pubackReasons, byte(code)) {
				want[4] = byte(code)
			}
			if string(f.Raw) != string(want) {
				t.Fatalf("a refusal with 0x%02X is % x, want % x", code, f.Raw, want)
			}
		}
	})
}

// The Client or Server sending the PUBACK packet MUST use one of the PUBACK
// Reason Codes.
func TestMQTT_3_4_2_1(t *testing.T) {
	refusalsAreReasonCodes(t, 1, wire.PUBACK)
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.UnhandledGrace = client.NoGrace
		_, conn := r.receiver(control.Connack{}, r.keep)
		conn.Publish(message(1, 7, "accepted"))
		conn.ExpectBytes([]byte{0x40, 2, 0, 7})
		conn.Publish(wire.Publish{Topic: "$nobody/handles/this", QoS: 1, PacketID: 8})
		if a := conn.ExpectAck(wire.PUBACK); !slices.Contains(pubackReasons, a.Reason) || a.Reason < 0x80 {
			t.Errorf("a message without a handler is answered with 0x%02X", a.Reason)
		}
	})
}

// The Client or Server sending the PUBREC packet MUST use one of the PUBREC
// Reason Code values.
func TestMQTT_3_5_2_1(t *testing.T) {
	refusalsAreReasonCodes(t, 2, wire.PUBREC)
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.UnhandledGrace = client.NoGrace
		_, conn := r.receiver(control.Connack{}, r.keep)
		conn.Publish(message(2, 7, "accepted"))
		conn.ExpectBytes([]byte{0x50, 2, 0, 7})
		conn.Publish(wire.Publish{Topic: "$nobody/handles/this", QoS: 2, PacketID: 8})
		if a := conn.ExpectAck(wire.PUBREC); !slices.Contains(pubackReasons, a.Reason) || a.Reason < 0x80 {
			t.Errorf("a message without a handler is answered with 0x%02X", a.Reason)
		}
	})
}

// reasonStringFits refuses with reasons around the server's Maximum Packet Size. The packet has 9
// bytes plus the Reason String.
func reasonStringFits(t *testing.T, qos byte, answer wire.Type) {
	const limit = 40
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{MaximumPacketSize: limit}, func(_ context.Context, m *client.Message) error {
			return client.Refuse(0x87, strings.Repeat("x", int(m.Payload[0])))
		})
		for id := uint16(1); id < 60; id++ {
			conn.Publish(message(qos, id, string([]byte{byte(id)})))
			f := conn.Expect(answer)
			a, err := wire.ParseAck(f)
			r.must(err)
			want := 0
			if 9+int(id) <= limit {
				want = int(id)
			}
			if len(f.Raw) > limit || len(a.ReasonString) != want || a.Reason != 0x87 || a.PacketID != id {
				t.Errorf("a reason of %d bytes is answered with % x, of %d bytes; the Maximum Packet Size is %d", id, f.Raw, len(f.Raw), limit)
			}
		}
	})
}

// userPropertiesStayAway sends a message with many User Properties. The server of the client
// accepts only the shortest answer.
func userPropertiesStayAway(t *testing.T, qos byte, answer wire.Type) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{MaximumPacketSize: 5}, func(_ context.Context, m *client.Message) error {
			if string(m.Payload) == "no" {
				return client.Refuse(0x99, "a reason that does not fit")
			}
			return nil
		})
		p := message(qos, 3, "yes")
		p.User = []wire.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: "v"}}
		conn.Publish(p)
		conn.ExpectBytes([]byte{byte(answer) << 4, 2, 0, 3})
		p.PacketID, p.Payload = 4, []byte("no")
		conn.Publish(p)
		conn.ExpectBytes([]byte{byte(answer) << 4, 3, 0, 4, 0x99})
	})
}

// The sender MUST NOT send a Reason String that makes the PUBACK larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_4_2_2(t *testing.T) { reasonStringFits(t, 1, wire.PUBACK) }

// The sender MUST NOT send a User Property that makes the PUBACK larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_4_2_3(t *testing.T) { userPropertiesStayAway(t, 1, wire.PUBACK) }

// The sender MUST NOT send a Reason String that makes the PUBREC larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_5_2_2(t *testing.T) { reasonStringFits(t, 2, wire.PUBREC) }

// The sender MUST NOT send a User Property that makes the PUBREC larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_5_2_3(t *testing.T) { userPropertiesStayAway(t, 2, wire.PUBREC) }

// The flags of PUBREL are reserved and MUST be 0,0,1,0. The Server MUST treat any other value as
// malformed and close the Network Connection. The client does the same.
func TestMQTT_3_6_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.receiver(control.Connack{}, r.keep)
		r.publish(c, client.ExactlyOnce, "p")
		id := conn.ExpectPublish().PacketID
		conn.Ack(wire.PUBREC, id, 0)
		conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
		conn.Ack(wire.PUBREC, 9, 0) // for an unknown message
		conn.ExpectBytes([]byte{0x62, 3, 0, 9, 0x92})
		for flags := range byte(16) {
			if flags == 2 {
				continue
			}
			conn.Publish(message(2, 5, "in"))
			conn.ExpectBytes([]byte{0x50, 2, 0, 5})
			r.wantEnd(conn, 0x81, []byte{0x60 | flags, 2, 0, 5})
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
			conn.Ack(wire.PUBREL, 5, 0)
			conn.ExpectBytes([]byte{0x70, 2, 0, 5})
		}
	})
}

// The Client or Server sending the PUBREL packet MUST use one of the PUBREL
// Reason Code values: 0x00 and 0x92.
func TestMQTT_3_6_2_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for _, code := range []byte{0x00, 0x10} {
			d := r.publish(c, client.ExactlyOnce, "p")
			id := conn.ExpectPublish().PacketID
			conn.Ack(wire.PUBREC, id, code)
			if a := conn.ExpectAck(wire.PUBREL); a.Reason != 0 || a.PacketID != id {
				t.Errorf("PUBREC 0x%02X is answered with %+v", code, a)
			}
			conn.Ack(wire.PUBCOMP, id, 0)
			r.wantState(d, client.Acked)
			conn.Ack(wire.PUBREC, id, code) // once more, for a message that is now unknown
			if a := conn.ExpectAck(wire.PUBREL); a.Reason != 0x92 || a.PacketID != id {
				t.Errorf("PUBREC of an unknown message is answered with %+v", a)
			}
			conn.Ack(wire.PUBREC, id, 0x97) // a refusal ends the exchange
			conn.Quiet()
		}
	})
}

// long returns an acknowledgement with a large property, which the client must not repeat to a peer
// that accepts only small packets.
func long(kind wire.Type, id uint16, reason byte, property wire.Property) []byte {
	props := wire.AppendProperty(nil, property)
	b := []byte{byte(kind) << 4, byte(4 + len(props)), byte(id >> 8), byte(id), reason, byte(len(props))}
	if kind == wire.PUBREL {
		b[0] |= 2
	}
	return append(b, props...)
}

var (
	someReason = wire.Property{ID: wire.PropReasonString, Bytes: []byte(strings.Repeat("r", 50))}
	someUser   = wire.Property{ID: wire.PropUser, Bytes: []byte("name"), Value: []byte(strings.Repeat("v", 40))}
)

// pubrelIsShort answers PUBREC with a property. The PUBREL must have none.
func pubrelIsShort(t *testing.T, property wire.Property) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{MaximumPacketSize: 80})
		r.publish(c, client.ExactlyOnce, "p")
		id := conn.ExpectPublish().PacketID
		conn.Send(long(wire.PUBREC, id, 0, property))
		conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
		conn.Send(long(wire.PUBREC, 2, 0, property))
		conn.ExpectBytes([]byte{0x62, 3, 0, 2, 0x92})
	})
}

// pubcompIsShort sends PUBREL with a property. The PUBCOMP must have none.
func pubcompIsShort(t *testing.T, property wire.Property) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{MaximumPacketSize: 5}, r.keep)
		conn.Publish(message(2, 1, "p"))
		conn.ExpectBytes([]byte{0x50, 2, 0, 1})
		conn.Send(long(wire.PUBREL, 1, 0, property))
		conn.ExpectBytes([]byte{0x70, 2, 0, 1})
		conn.Send(long(wire.PUBREL, 2, 0x92, property))
		conn.ExpectBytes([]byte{0x70, 3, 0, 2, 0x92})
	})
}

// The sender MUST NOT send a Reason String that makes the PUBREL larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_6_2_2(t *testing.T) { pubrelIsShort(t, someReason) }

// The sender MUST NOT send a User Property that makes the PUBREL larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_6_2_3(t *testing.T) { pubrelIsShort(t, someUser) }

// The Client or Server sending the PUBCOMP packet MUST use one of the PUBCOMP
// Reason Code values: 0x00 and 0x92.
func TestMQTT_3_7_2_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{}, r.keep)
		for _, code := range []byte{0x00, 0x92} {
			conn.Publish(message(2, 7, "p"))
			conn.ExpectBytes([]byte{0x50, 2, 0, 7})
			conn.Ack(wire.PUBREL, 7, code)
			conn.ExpectBytes([]byte{0x70, 2, 0, 7})
			conn.Ack(wire.PUBREL, 7, code) // once more, for an identifier that is now unknown
			conn.ExpectBytes([]byte{0x70, 3, 0, 7, 0x92})
		}
	})
}

// The sender MUST NOT send a Reason String that makes the PUBCOMP larger than
// the receiver's Maximum Packet Size.
func TestMQTT_3_7_2_2(t *testing.T) { pubcompIsShort(t, someReason) }

// The sender MUST NOT send a User Property that makes the PUBCOMP larger than
// the receiver's Maximum Packet Size.
func TestMQTT_3_7_2_3(t *testing.T) { pubcompIsShort(t, someUser) }
