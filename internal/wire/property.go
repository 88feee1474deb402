package wire

import (
	"encoding/binary"
	"iter"
)

// Property identifiers, section 2.2.2.2.
const (
	PropPayloadFormat        byte = 0x01
	PropMessageExpiry        byte = 0x02
	PropContentType          byte = 0x03
	PropResponseTopic        byte = 0x08
	PropCorrelationData      byte = 0x09
	PropSubscriptionID       byte = 0x0B
	PropSessionExpiry        byte = 0x11
	PropAssignedClientID     byte = 0x12
	PropServerKeepAlive      byte = 0x13
	PropAuthMethod           byte = 0x15
	PropAuthData             byte = 0x16
	PropRequestProblemInfo   byte = 0x17
	PropWillDelay            byte = 0x18
	PropRequestResponseInfo  byte = 0x19
	PropResponseInfo         byte = 0x1A
	PropServerReference      byte = 0x1C
	PropReasonString         byte = 0x1F
	PropReceiveMaximum       byte = 0x21
	PropTopicAliasMaximum    byte = 0x22
	PropTopicAlias           byte = 0x23
	PropMaximumQoS           byte = 0x24
	PropRetainAvailable      byte = 0x25
	PropUser                 byte = 0x26
	PropMaximumPacketSize    byte = 0x27
	PropWildcardSubAvailable byte = 0x28
	PropSubscriptionIDAvail  byte = 0x29
	PropSharedSubAvailable   byte = 0x2A
	propCount                     = 0x2B
	willPacket               Type = 0 // represents the Will Properties in the table
)

type propKind byte

const (
	kindNone propKind = iota
	kindFlag          // a byte that must be 0 or 1
	kindUint16
	kindUint32
	kindVarint
	kindBinary
	kindString
	kindPair
)

type propRule struct {
	kind    propKind
	many    bool   // may occur more than once
	nonZero bool   // the value 0 is a Protocol Error
	in      uint16 // bit n: allowed in packets of type n; bit 0: Will Properties
}

func in(types ...Type) (mask uint16) {
	for _, t := range types {
		mask |= 1 << t
	}
	return mask
}

// propRules is table 2-4 of the specification, with the value restrictions from the sections of the
// packets.
var propRules = [propCount]propRule{
	PropPayloadFormat:        {kind: kindFlag, in: in(PUBLISH, willPacket)},
	PropMessageExpiry:        {kind: kindUint32, in: in(PUBLISH, willPacket)},
	PropContentType:          {kind: kindString, in: in(PUBLISH, willPacket)},
	PropResponseTopic:        {kind: kindString, in: in(PUBLISH, willPacket)},
	PropCorrelationData:      {kind: kindBinary, in: in(PUBLISH, willPacket)},
	PropSubscriptionID:       {kind: kindVarint, many: true, nonZero: true, in: in(PUBLISH, SUBSCRIBE)},
	PropSessionExpiry:        {kind: kindUint32, in: in(CONNECT, CONNACK, DISCONNECT)},
	PropAssignedClientID:     {kind: kindString, in: in(CONNACK)},
	PropServerKeepAlive:      {kind: kindUint16, in: in(CONNACK)},
	PropAuthMethod:           {kind: kindString, in: in(CONNECT, CONNACK, AUTH)},
	PropAuthData:             {kind: kindBinary, in: in(CONNECT, CONNACK, AUTH)},
	PropRequestProblemInfo:   {kind: kindFlag, in: in(CONNECT)},
	PropWillDelay:            {kind: kindUint32, in: in(willPacket)},
	PropRequestResponseInfo:  {kind: kindFlag, in: in(CONNECT)},
	PropResponseInfo:         {kind: kindString, in: in(CONNACK)},
	PropServerReference:      {kind: kindString, in: in(CONNACK, DISCONNECT)},
	PropReasonString:         {kind: kindString, in: in(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)},
	PropReceiveMaximum:       {kind: kindUint16, nonZero: true, in: in(CONNECT, CONNACK)},
	PropTopicAliasMaximum:    {kind: kindUint16, in: in(CONNECT, CONNACK)},
	PropTopicAlias:           {kind: kindUint16, nonZero: true, in: in(PUBLISH)},
	PropMaximumQoS:           {kind: kindFlag, in: in(CONNACK)},
	PropRetainAvailable:      {kind: kindFlag, in: in(CONNACK)},
	PropUser:                 {kind: kindPair, many: true, in: 0xFFFF &^ in(PINGREQ, PINGRESP)},
	PropMaximumPacketSize:    {kind: kindUint32, nonZero: true, in: in(CONNECT, CONNACK)},
	PropWildcardSubAvailable: {kind: kindFlag, in: in(CONNACK)},
	PropSubscriptionIDAvail:  {kind: kindFlag, in: in(CONNACK)},
	PropSharedSubAvailable:   {kind: kindFlag, in: in(CONNACK)},
}

// Property is one property of a packet.
type Property struct {
	ID    byte
	Int   uint32 // value of a numeric property
	Bytes []byte // value of a string or binary property; name of a user property
	Value []byte // value of a user property
}

// Properties holds the encoded properties of a packet, as SplitProperties has accepted them.
type Properties []byte

// Next removes the first property from p and returns it. ok is false at the end.
func (p *Properties) Next() (prop Property, ok bool) {
	if len(*p) == 0 {
		return prop, false
	}
	prop, rest, err := nextProperty(*p)
	*p = rest
	return prop, err == ""
}

// All yields the properties in order.
func (p Properties) All() iter.Seq[Property] {
	return func(yield func(Property) bool) {
		for prop, ok := p.Next(); ok && yield(prop); prop, ok = p.Next() {
		}
	}
}

// Find returns the first property with an identifier, or the zero Property if there is none.
func (p Properties) Find(id byte) Property {
	for {
		if prop, ok := p.Next(); !ok || prop.ID == id {
			return prop
		}
	}
}

// OnlyProperties is like SplitProperties, for a section at the end of a packet.
func OnlyProperties(t Type, b []byte) (Properties, error) {
	props, rest, err := SplitProperties(t, b)
	if err == nil && len(rest) > 0 {
		err = Malformed(t, "bytes follow the properties")
	}
	return props, err
}

// SplitProperties splits the length-prefixed properties of a packet of type t from the start of b.
// t is 0 for Will Properties. It checks that packets of type t may have each property, how often,
// and that values are in range and strings well-formed.
func SplitProperties(t Type, b []byte) (props Properties, rest []byte, err error) {
	length, n := Varint(b)
	if n <= 0 || int(length) > len(b)-n {
		return nil, nil, Malformed(t, "Property Length runs past the end of the packet")
	}
	props = Properties(b[n : n+int(length) : n+int(length)])
	return props, b[n+int(length):], checkProperties(t, props)
}

func checkProperties(t Type, b []byte) error {
	var seen uint64
	for len(b) > 0 {
		prop, rest, problem := nextProperty(b)
		if problem != "" {
			return Malformed(t, "%s", problem)
		}
		rule := propRules[prop.ID]
		switch {
		case rule.in&(1<<t) == 0:
			return Malformed(t, "property 0x%02X is not allowed in this packet, section 2.2.2.2", prop.ID)
		case seen&(1<<prop.ID) != 0 && (!rule.many || t == SUBSCRIBE && prop.ID == PropSubscriptionID):
			return Violation(t, "property 0x%02X is included more than once", prop.ID)
		case rule.kind == kindFlag && prop.Int > 1 && !(prop.ID == PropMaximumQoS && prop.Int == 2), rule.nonZero && prop.Int == 0:
			// Maximum QoS 2 is invalid, but some servers send it, and it means the same as no
			// property.
			return Violation(t, "property 0x%02X has the value %d", prop.ID, prop.Int)
		case rule.kind == kindString && !ValidString(prop.Bytes),
			rule.kind == kindPair && !(ValidString(prop.Bytes) && ValidString(prop.Value)):
			return Malformed(t, "property 0x%02X is not valid UTF-8 or contains U+0000", prop.ID)
		case prop.ID == PropResponseTopic && !validTopicName(prop.Bytes):
			return Violation(t, "Response Topic is empty or contains a wildcard")
		}
		seen |= 1 << prop.ID
		b = rest
	}
	return nil
}

// nextProperty decodes one property. problem is empty if it is well-formed.
func nextProperty(b []byte) (p Property, rest []byte, problem string) {
	p.ID, b = b[0], b[1:]
	if p.ID >= propCount || propRules[p.ID].kind == kindNone {
		return p, nil, "unknown property identifier"
	}
	ok := true
	switch propRules[p.ID].kind {
	case kindFlag:
		if ok = len(b) >= 1; ok {
			p.Int, b = uint32(b[0]), b[1:]
		}
	case kindUint16:
		if ok = len(b) >= 2; ok {
			p.Int, b = uint32(binary.BigEndian.Uint16(b)), b[2:]
		}
	case kindUint32:
		if ok = len(b) >= 4; ok {
			p.Int, b = binary.BigEndian.Uint32(b), b[4:]
		}
	case kindVarint:
		v, n := Varint(b)
		if ok = n > 0; ok {
			p.Int, b = v, b[n:]
		}
	case kindBinary, kindString:
		p.Bytes, b, ok = String(b)
	case kindPair:
		if p.Bytes, b, ok = String(b); ok {
			p.Value, b, ok = String(b)
		}
	}
	if !ok {
		return p, nil, "property runs past the end of the Property Length"
	}
	return p, b, ""
}

// AppendProperty appends p. The kind of its value must match its identifier.
func AppendProperty(dst []byte, p Property) []byte {
	dst = append(dst, p.ID)
	switch propRules[p.ID].kind {
	case kindFlag:
		return append(dst, byte(p.Int))
	case kindUint16:
		return binary.BigEndian.AppendUint16(dst, uint16(p.Int))
	case kindUint32:
		return binary.BigEndian.AppendUint32(dst, p.Int)
	case kindVarint:
		return AppendVarint(dst, p.Int)
	case kindPair:
		return AppendString(AppendString(dst, p.Bytes), p.Value)
	}
	return AppendString(dst, p.Bytes)
}
