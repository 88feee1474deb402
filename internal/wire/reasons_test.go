package wire_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// reason is a reason to refuse a data plane packet. The table is an independent reading of the
// specification for the differential tests. If this package and paho.golang differ without one of
// these reasons, one of them is wrong.
type reason struct {
	name string
	code byte // for DISCONNECT
	paho bool // paho.golang v0.23.0 refuses it too
}

var (
	cutShort        = &reason{"a field runs past its end", wire.ReasonMalformedPacket, true}
	otherProperty   = &reason{"property unknown or of another packet", wire.ReasonMalformedPacket, true}
	cutVarint       = &reason{"a Subscription Identifier runs past the Property Length", wire.ReasonMalformedPacket, false}
	longSection     = &reason{"Property Length runs past the end of the packet", wire.ReasonMalformedPacket, false}
	longVarint      = &reason{"Variable Byte Integer of five bytes, or not minimal [MQTT-1.5.5-1]", wire.ReasonMalformedPacket, false}
	reservedFlags   = &reason{"reserved flags [MQTT-2.1.3-1]", wire.ReasonMalformedPacket, false}
	qos3            = &reason{"QoS 3 [MQTT-3.3.1-4]", wire.ReasonMalformedPacket, false}
	dupQoS0         = &reason{"DUP at QoS 0 [MQTT-3.3.1-2]", wire.ReasonMalformedPacket, false}
	identifier0     = &reason{"Packet Identifier 0 [MQTT-2.2.1-3]", wire.ReasonProtocolError, false}
	notUTF8         = &reason{"invalid UTF-8 [MQTT-1.5.4-1]", wire.ReasonMalformedPacket, false}
	hasNUL          = &reason{"U+0000 in a string [MQTT-1.5.4-2]", wire.ReasonMalformedPacket, false}
	topicWildcard   = &reason{"wildcard in the Topic Name [MQTT-3.3.2-2]", wire.ReasonMalformedPacket, false}
	noTopic         = &reason{"neither Topic Name nor Topic Alias", wire.ReasonProtocolError, false}
	badResponse     = &reason{"Response Topic empty or with a wildcard [MQTT-3.3.2-14]", wire.ReasonProtocolError, false}
	twice           = &reason{"property included twice", wire.ReasonProtocolError, false}
	outOfRange      = &reason{"value that its property does not have", wire.ReasonProtocolError, false}
	otherReasonCode = &reason{"reason code not of this packet", wire.ReasonProtocolError, false}
	trailing        = &reason{"bytes after the properties", wire.ReasonMalformedPacket, false}
)

// examiner reads a packet as leniently as paho does and records its errors.
type examiner struct {
	found []*reason
	b     []byte
	cut   bool // reading cannot continue
}

func (e *examiner) note(r *reason, wrong bool) {
	if wrong {
		e.found = append(e.found, r)
	}
}

func (e *examiner) take(n int) []byte {
	if e.cut = e.cut || n > len(e.b); e.cut {
		return make([]byte, n)
	}
	taken := e.b[:n]
	e.b = e.b[n:]
	return taken
}

func (e *examiner) data() []byte { return e.take(int(binary.BigEndian.Uint16(e.take(2)))) }

func (e *examiner) text() string {
	s := string(e.data())
	e.note(notUTF8, !e.cut && !utf8.ValidString(s))
	e.note(hasNUL, !e.cut && strings.ContainsRune(s, 0))
	return s
}

// varint reads without a limit, as paho does. whole is false if b ends first.
func (e *examiner) varint() (v uint32, whole bool) {
	for i := 0; ; i++ {
		if len(e.b) == 0 {
			return v, false
		}
		digit := e.take(1)[0]
		if i < 5 {
			v |= uint32(digit&0x7F) << (7 * i)
		}
		if digit < 0x80 {
			e.note(longVarint, i > 3 || i > 0 && digit == 0)
			return v, true
		}
	}
}

// examine returns all errors of the first packet in b, which must be a data plane packet, and its
// raw bytes. raw is nil if b ends before the packet.
func examine(b []byte) (found []*reason, raw []byte) {
	e := &examiner{b: b}
	header := e.take(1)[0]
	length, whole := e.varint()
	if !whole || int64(length) > int64(len(e.b)) {
		return nil, nil
	}
	raw = b[:len(b)-len(e.b)+int(length)]
	e.b = e.b[:length]
	if wire.Type(header>>4) == wire.PUBLISH {
		e.publish(header)
	} else {
		e.ack(header)
	}
	e.note(cutShort, e.cut)
	return e.found, raw
}

func (e *examiner) publish(header byte) {
	qos := header >> 1 & 3
	e.note(qos3, qos == 3)
	e.note(dupQoS0, qos == 0 && header&8 != 0)
	topic := e.text()
	if qos > 0 {
		e.note(identifier0, binary.BigEndian.Uint16(e.take(2)) == 0 && !e.cut)
	}
	e.note(topicWildcard, strings.ContainsAny(topic, "+#"))
	alias := e.properties(wire.PUBLISH)
	e.note(noTopic, topic == "" && !alias && !e.cut)
}

func (e *examiner) ack(header byte) {
	t, flags := wire.Type(header>>4), byte(0)
	if t == wire.PUBREL {
		flags = 2
	}
	e.note(reservedFlags, header&0x0F != flags)
	e.note(identifier0, binary.BigEndian.Uint16(e.take(2)) == 0 && !e.cut)
	if len(e.b) == 0 {
		return
	}
	codes := "\x00\x10\x80\x83\x87\x90\x91\x97\x99"
	if t == wire.PUBREL || t == wire.PUBCOMP {
		codes = "\x00\x92"
	}
	e.note(otherReasonCode, !bytes.Contains([]byte(codes), e.take(1)))
	if len(e.b) > 0 {
		e.properties(t)
		e.note(trailing, !e.cut && len(e.b) > 0)
	}
}

// properties examines a section and reports whether it has a Topic Alias.
func (e *examiner) properties(t wire.Type) (alias bool) {
	if e.cut {
		return false
	}
	length, whole := e.varint()
	if e.cut = !whole; e.cut {
		return false
	}
	e.note(longSection, int64(length) > int64(len(e.b)))
	rest := e.b[min(int64(length), int64(len(e.b))):]
	e.b = e.b[:len(e.b)-len(rest)]
	seen := map[byte]bool{}
	for len(e.b) > 0 && !e.cut {
		id := e.take(1)[0]
		e.note(twice, seen[id] && id != wire.PropUser && id != wire.PropSubscriptionID)
		seen[id] = true
		switch {
		case id == wire.PropUser:
			e.text()
			e.text()
		case t != wire.PUBLISH && id == wire.PropReasonString, t == wire.PUBLISH && id == wire.PropContentType:
			e.text()
		case t != wire.PUBLISH:
			e.note(otherProperty, true)
			return false
		case id == wire.PropPayloadFormat:
			e.note(outOfRange, e.take(1)[0] > 1)
		case id == wire.PropMessageExpiry:
			e.take(4)
		case id == wire.PropResponseTopic:
			s := e.text()
			e.note(badResponse, !e.cut && (s == "" || strings.ContainsAny(s, "+#")))
		case id == wire.PropCorrelationData:
			e.data()
		case id == wire.PropSubscriptionID:
			v, whole := e.varint()
			e.note(cutVarint, !whole)
			e.note(outOfRange, whole && v == 0)
		case id == wire.PropTopicAlias:
			alias = true
			e.note(outOfRange, binary.BigEndian.Uint16(e.take(2)) == 0 && !e.cut)
		default:
			e.note(otherProperty, true)
			return alias
		}
	}
	if !e.cut {
		e.b = rest
	}
	return alias
}
