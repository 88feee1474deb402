package wire_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// allTypes are the packets that have properties. 0 represents the will.
var allTypes = []wire.Type{0, wire.CONNECT, wire.CONNACK, wire.PUBLISH, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP, wire.SUBSCRIBE, wire.SUBACK, wire.UNSUBSCRIBE, wire.UNSUBACK, wire.DISCONNECT, wire.AUTH}

// table24 is table 2-4 of the specification, written independently from the document: identifier,
// kind, packets.
var table24 = []struct {
	id    byte
	value string // an encoded valid value
	in    []wire.Type
}{
	{0x01, "\x01", []wire.Type{wire.PUBLISH, 0}},
	{0x02, "\x00\x00\x00\x09", []wire.Type{wire.PUBLISH, 0}},
	{0x03, "\x00\x01x", []wire.Type{wire.PUBLISH, 0}},
	{0x08, "\x00\x01x", []wire.Type{wire.PUBLISH, 0}},
	{0x09, "\x00\x01\xFF", []wire.Type{wire.PUBLISH, 0}},
	{0x0B, "\x80\x01", []wire.Type{wire.PUBLISH, wire.SUBSCRIBE}},
	{0x11, "\x00\x00\x00\x09", []wire.Type{wire.CONNECT, wire.CONNACK, wire.DISCONNECT}},
	{0x12, "\x00\x01x", []wire.Type{wire.CONNACK}},
	{0x13, "\x00\x09", []wire.Type{wire.CONNACK}},
	{0x15, "\x00\x01x", []wire.Type{wire.CONNECT, wire.CONNACK, wire.AUTH}},
	{0x16, "\x00\x01\xFF", []wire.Type{wire.CONNECT, wire.CONNACK, wire.AUTH}},
	{0x17, "\x01", []wire.Type{wire.CONNECT}},
	{0x18, "\x00\x00\x00\x09", []wire.Type{0}},
	{0x19, "\x01", []wire.Type{wire.CONNECT}},
	{0x1A, "\x00\x01x", []wire.Type{wire.CONNACK}},
	{0x1C, "\x00\x01x", []wire.Type{wire.CONNACK, wire.DISCONNECT}},
	{0x1F, "\x00\x01x", []wire.Type{wire.CONNACK, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP, wire.SUBACK, wire.UNSUBACK, wire.DISCONNECT, wire.AUTH}},
	{0x21, "\x00\x09", []wire.Type{wire.CONNECT, wire.CONNACK}},
	{0x22, "\x00\x09", []wire.Type{wire.CONNECT, wire.CONNACK}},
	{0x23, "\x00\x09", []wire.Type{wire.PUBLISH}},
	{0x24, "\x01", []wire.Type{wire.CONNACK}},
	{0x25, "\x01", []wire.Type{wire.CONNACK}},
	{0x26, "\x00\x01x\x00\x01y", []wire.Type{wire.CONNECT, wire.CONNACK, wire.PUBLISH, 0, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP, wire.SUBSCRIBE, wire.SUBACK, wire.UNSUBSCRIBE, wire.UNSUBACK, wire.DISCONNECT, wire.AUTH}},
	{0x27, "\x00\x00\x00\x09", []wire.Type{wire.CONNECT, wire.CONNACK}},
	{0x28, "\x01", []wire.Type{wire.CONNACK}},
	{0x29, "\x01", []wire.Type{wire.CONNACK}},
	{0x2A, "\x01", []wire.Type{wire.CONNACK}},
}

func section(props string) []byte {
	return append(wire.AppendVarint(nil, uint32(len(props))), props...)
}

func TestSplitProperties_AllowedPackets(t *testing.T) {
	for _, row := range table24 {
		encoded := string(append([]byte{row.id}, row.value...))
		for _, typ := range allTypes {
			props, rest, err := wire.SplitProperties(typ, append(section(encoded), "rest"...))
			if allowed := slices.Contains(row.in, typ); allowed != (err == nil) {
				t.Errorf("property 0x%02X in %v: %v", row.id, typ, err)
				continue
			} else if !allowed {
				continue
			}
			p, ok := props.Next()
			if !ok || p.ID != row.id || len(props) != 0 || string(rest) != "rest" {
				t.Errorf("property 0x%02X in %v: got %+v, %v, rest %q", row.id, typ, p, ok, rest)
			}
			if again := wire.AppendProperty(nil, p); string(again) != encoded {
				t.Errorf("property 0x%02X: %x was written back as %x", row.id, encoded, again)
			}
			// Only user properties may occur twice, and Subscription Identifiers in PUBLISH.
			_, _, err = wire.SplitProperties(typ, section(encoded+encoded))
			if many := row.id == wire.PropUser || row.id == wire.PropSubscriptionID && typ == wire.PUBLISH; many != (err == nil) {
				t.Errorf("property 0x%02X twice in %v: %v", row.id, typ, err)
			} else if err != nil {
				wantCode(t, err, wire.ReasonProtocolError)
			}
			for cut := range len(row.value) {
				_, _, err := wire.SplitProperties(typ, section(encoded[:1+cut]))
				wantCode(t, err, wire.ReasonMalformedPacket)
			}
		}
	}
}

func TestSplitProperties_UnknownIdentifiers(t *testing.T) {
	known := map[byte]bool{}
	for _, row := range table24 {
		known[row.id] = true
	}
	for id := range 256 {
		if !known[byte(id)] {
			_, _, err := wire.SplitProperties(wire.PUBLISH, section(string([]byte{byte(id), 0, 0, 0, 0, 0})))
			wantCode(t, err, wire.ReasonMalformedPacket)
		}
	}
}

func TestSplitProperties_ValuesOutOfRange(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    wire.Type
		props string
		code  byte
	}{
		{"Payload Format Indicator 2", wire.PUBLISH, "\x01\x02", 0x82},
		{"Subscription Identifier 0", wire.PUBLISH, "\x0B\x00", 0x82},
		{"Subscription Identifier not minimal", wire.PUBLISH, "\x0B\x80\x00", 0x81},
		{"Receive Maximum 0", wire.CONNACK, "\x21\x00\x00", 0x82},
		{"Maximum Packet Size 0", wire.CONNACK, "\x27\x00\x00\x00\x00", 0x82},
		{"Maximum QoS 3", wire.CONNACK, "\x24\x03", 0x82},
		{"Retain Available 2", wire.CONNACK, "\x25\x02", 0x82},
		{"Topic Alias 0", wire.PUBLISH, "\x23\x00\x00", 0x82},
		{"Response Topic with a wildcard", wire.PUBLISH, "\x08\x00\x03a/+", 0x82},
		{"Response Topic empty", wire.PUBLISH, "\x08\x00\x00", 0x82},
		{"Content Type with U+0000", wire.PUBLISH, "\x03\x00\x01\x00", 0x81},
		{"name of a user property not UTF-8", wire.PUBLISH, "\x26\x00\x01\xFF\x00\x00", 0x81},
		{"value of a user property not UTF-8", wire.PUBLISH, "\x26\x00\x00\x00\x01\xFF", 0x81},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := wire.SplitProperties(tt.in, section(tt.props))
			wantCode(t, err, tt.code)
		})
	}
	// The value is invalid [3.2.2.3.4], but means the same as no property, and some servers send
	// it.
	if _, _, err := wire.SplitProperties(wire.CONNACK, section("\x24\x02")); err != nil {
		t.Errorf("Maximum QoS 2: %v", err)
	}
	for _, bad := range []string{"", "\x05abc", "\x80", "\x80\x00", "\xFF\xFF\xFF\xFF"} {
		_, _, err := wire.SplitProperties(wire.PUBLISH, []byte(bad))
		wantCode(t, err, wire.ReasonMalformedPacket)
	}
}

func TestSplitProperties_DoesNotShareTheRest(t *testing.T) {
	b := append(section("\x01\x01"), "payload"...)
	props, rest, err := wire.SplitProperties(wire.PUBLISH, b)
	if err != nil || cap(props) != 2 || !bytes.Equal(rest, []byte("payload")) {
		t.Errorf("capacity %d, rest %q, %v", cap(props), rest, err)
	}
}
