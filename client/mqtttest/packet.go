package mqtttest

import (
	"encoding/binary"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Packet is a packet that the broker sends. The function of [Reply.Edit] can change it. The broker
// ignores fields that do not apply to the packet type. It does not validate the packet, so it also
// sends packets that violate MQTT.
type Packet struct {
	Type           PacketType
	Flags          byte   // bits 3-0 of the fixed header
	SessionPresent bool   // Session Present flag of CONNACK
	Topic          string // topic of PUBLISH
	// PacketID is the packet identifier. PUBLISH with QoS 1 or 2, PUBACK, PUBREC, PUBREL, PUBCOMP,
	// SUBACK and UNSUBACK have one.
	PacketID     uint16
	Reasons      []byte // one reason code; SUBACK and UNSUBACK have one for each filter
	ReasonString string // the Reason String; empty if the packet has none
	User         []UserProperty
	Properties   []byte // all other properties, encoded as identifier and value, one after the other
	Payload      []byte // payload of PUBLISH
}

// UserProperty is a name-value pair. Names may repeat. The broker keeps the order of the pairs.
type UserProperty struct{ Key, Value string }

// packetParts are the parts of each type of packet (section 3).
var packetParts = map[PacketType]struct {
	present, topic, id, code, properties, codes bool
	short                                       bool // reason code 0 and empty properties may be omitted
}{
	CONNACK:    {present: true, code: true, properties: true},
	PUBLISH:    {topic: true, properties: true},
	PUBACK:     {id: true, code: true, properties: true, short: true},
	PUBREC:     {id: true, code: true, properties: true, short: true},
	PUBREL:     {id: true, code: true, properties: true, short: true},
	PUBCOMP:    {id: true, code: true, properties: true, short: true},
	SUBACK:     {id: true, properties: true, codes: true},
	UNSUBACK:   {id: true, properties: true, codes: true},
	DISCONNECT: {code: true, properties: true, short: true},
	AUTH:       {code: true, properties: true, short: true},
}

// hasID reports whether a packet has a packet identifier.
func (p *Packet) hasID() bool {
	return packetParts[p.Type].id || p.Type == PUBLISH && p.Flags&0x06 != 0
}

// parsePacket decodes a packet of the broker.
func parsePacket(raw []byte) Packet {
	_, n := wire.Varint(raw[1:])
	b := append([]byte(nil), raw[1+n:]...)
	p := Packet{Type: PacketType(raw[0] >> 4), Flags: raw[0] & 0x0F}
	parts := packetParts[p.Type]
	if parts.present {
		p.SessionPresent, b = b[0] == 1, b[1:]
	}
	if parts.topic {
		topic, rest, _ := wire.String(b)
		p.Topic, b = string(topic), rest
	}
	if p.hasID() {
		p.PacketID, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if parts.code {
		if p.Reasons = []byte{0}; len(b) > 0 {
			p.Reasons, b = b[:1:1], b[1:]
		}
	}
	if parts.properties && len(b) > 0 {
		length, n := wire.Varint(b)
		p.split(wire.Properties(b[n : n+int(length)]))
		b = b[n+int(length):]
	}
	if parts.codes {
		p.Reasons = b
	} else if p.Type == PUBLISH {
		p.Payload = b
	}
	return p
}

func (p *Packet) split(props wire.Properties) {
	for {
		one, ok := props.Next()
		switch {
		case !ok:
			return
		case one.ID == wire.PropReasonString:
			p.ReasonString = string(one.Bytes)
		case one.ID == wire.PropUser:
			p.User = append(p.User, UserProperty{string(one.Bytes), string(one.Value)})
		default:
			p.Properties = wire.AppendProperty(p.Properties, one)
		}
	}
}

func (p *Packet) encode() []byte {
	parts := packetParts[p.Type]
	var b []byte
	if parts.present {
		b = append(b, 0)
		if p.SessionPresent {
			b[0] = 1
		}
	}
	if parts.topic {
		b = wire.AppendString(b, []byte(p.Topic))
	}
	if p.hasID() {
		b = binary.BigEndian.AppendUint16(b, p.PacketID)
	}
	props := append([]byte(nil), p.Properties...)
	if p.ReasonString != "" {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropReasonString, Bytes: []byte(p.ReasonString)})
	}
	for _, u := range p.User {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropUser, Bytes: []byte(u.Key), Value: []byte(u.Value)})
	}
	if parts.code && !(parts.short && len(props) == 0 && len(p.Reasons) == 1 && p.Reasons[0] == 0) {
		b = append(b, p.Reasons...)
	}
	if parts.properties && !(parts.short && len(props) == 0) {
		b = append(wire.AppendVarint(b, uint32(len(props))), props...)
	}
	if parts.codes {
		b = append(b, p.Reasons...)
	}
	if p.Type == PUBLISH {
		b = append(b, p.Payload...)
	}
	header := wire.AppendVarint([]byte{byte(p.Type)<<4 | p.Flags&0x0F}, uint32(len(b)))
	return append(header, b...)
}
