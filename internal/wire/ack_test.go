package wire_test

import (
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

var ackTypes = []wire.Type{wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP}

func ackHeader(t wire.Type) byte {
	if t == wire.PUBREL {
		return 0x62
	}
	return byte(t) << 4
}

func TestAckRoundTrip(t *testing.T) {
	for _, typ := range ackTypes {
		for reason := range 256 {
			for _, text := range []string{"", "why", strings.Repeat("x", 200)} {
				in := wire.Ack{Type: typ, PacketID: 0xABCD, Reason: byte(reason), ReasonString: []byte(text)}
				b := wire.AppendAck(nil, in)
				out, err := wire.ParseAck(frame(t, b))
				if wire.CheckServerReason(typ, byte(reason)) != nil {
					wantCode(t, err, wire.ReasonProtocolError)
					continue
				}
				if err != nil || out.Type != typ || out.PacketID != in.PacketID || out.Reason != in.Reason || string(out.ReasonString) != text {
					t.Errorf("%+v became %+v, %v", in, out, err)
				}
				if reason == 0 && text == "" && len(b) != 4 {
					t.Errorf("%v without a word takes %d bytes, want 4", typ, len(b))
				}
			}
		}
	}
}

// From table 3-2 on: PUBACK and PUBREC have the same reason codes, and so have PUBREL and PUBCOMP.
func TestParseAck_ReasonCodes(t *testing.T) {
	long, short := "\x00\x10\x80\x83\x87\x90\x91\x97\x99", "\x00\x92"
	for _, typ := range ackTypes {
		allowed := long
		if typ == wire.PUBREL || typ == wire.PUBCOMP {
			allowed = short
		}
		for reason := range 256 {
			if got := wire.CheckServerReason(typ, byte(reason)) == nil; got != strings.Contains(allowed, string([]byte{byte(reason)})) {
				t.Errorf("%v 0x%02X: %v", typ, reason, got)
			}
		}
	}
}

func TestParseAck_Errors(t *testing.T) {
	for _, typ := range ackTypes {
		for _, tt := range []struct {
			name, body string
			code       byte
		}{
			{"empty", "", wire.ReasonMalformedPacket},
			{"half an identifier", "\x00", wire.ReasonMalformedPacket},
			{"identifier 0", "\x00\x00", wire.ReasonProtocolError},
			{"unknown reason", "\x00\x01\x42", wire.ReasonProtocolError},
			{"properties cut off", "\x00\x01\x00\x05\x1F", wire.ReasonMalformedPacket},
			{"property cut off", "\x00\x01\x00\x03\x1F\x00\x02", wire.ReasonMalformedPacket},
			{"bytes behind", "\x00\x01\x00\x00\x00", wire.ReasonMalformedPacket},
			{"reason string twice", "\x00\x01\x00\x06\x1F\x00\x00\x1F\x00\x00", wire.ReasonProtocolError},
			{"reason string not UTF-8", "\x00\x01\x00\x04\x1F\x00\x01\xFF", wire.ReasonMalformedPacket},
		} {
			_, err := wire.ParseAck(wire.Frame{Header: ackHeader(typ), Body: []byte(tt.body)})
			if t.Run(tt.name, func(t *testing.T) { wantCode(t, err, tt.code) }); err != nil && err.(*wire.Error).Packet != typ {
				t.Errorf("%s: the error names %v", tt.name, err.(*wire.Error).Packet)
			}
		}
		_, err := wire.ParseAck(wire.Frame{Header: ackHeader(typ) | 1, Body: []byte{0, 1}})
		wantCode(t, err, wire.ReasonMalformedPacket)
	}
}
