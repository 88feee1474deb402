package mqtttest

import (
	"bytes"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// With Options.MQTT311, the broker serves MQTT 3.1.1 clients by translation. It converts a packet
// from such a client into the equivalent MQTT 5 packet. It converts packets to the client back, and
// omits properties, which MQTT 3.1.1 does not have. The rest of the broker handles MQTT 5 only.
// References to statements of MQTT 3.1.1 are marked, because their numbers differ from those of
// MQTT 5.

// v311Head begins the variable header of an MQTT 3.1.1 CONNECT.
const v311Head = "\x00\x04MQTT\x04"

// isV311 reports whether a CONNECT asks for MQTT 3.1.1.
func isV311(f wire.Frame) bool {
	return f.Type() == wire.CONNECT && bytes.HasPrefix(f.Body, []byte(v311Head))
}

// upgrade converts a packet of an MQTT 3.1.1 client into MQTT 5. The parser of MQTT 5 performs the
// checks that both versions share.
func upgrade(f wire.Frame) (wire.Frame, error) {
	t, b := f.Type(), f.Body
	switch t {
	case wire.CONNECT:
		return upgradeConnect(f)
	case wire.PUBLISH:
		topic, rest, ok := wire.String(b)
		if f.Header&0x06 != 0 {
			ok = ok && len(rest) >= 2
			rest = rest[min(2, len(rest)):]
		}
		if !ok {
			return f, refusal(t, wire.ReasonMalformedPacket, "it ends within its variable header (Topic Name of %d bytes)", len(topic))
		}
		return withoutProperties(f, len(b)-len(rest)), nil
	case wire.SUBSCRIBE, wire.UNSUBSCRIBE:
		if len(b) < 2 {
			return f, refusal(t, wire.ReasonMalformedPacket, "it ends within its variable header")
		}
		if t == wire.SUBSCRIBE && !plainQoS(b[2:]) {
			return f, refusal(t, wire.ReasonMalformedPacket, "a Requested QoS is not 0, 1 or 2 [MQTT-3.8.3-4 of MQTT 3.1.1]")
		}
		return withoutProperties(f, 2), nil
	case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
		if len(b) != 2 {
			return f, refusal(t, wire.ReasonMalformedPacket, "it has %d bytes after its fixed header; MQTT 3.1.1 has 2", len(b))
		}
	case wire.DISCONNECT:
		if len(b) != 0 {
			return f, refusal(t, wire.ReasonMalformedPacket, "it has a body, which MQTT 3.1.1 does not know")
		}
	case wire.AUTH:
		return f, refusal(t, wire.ReasonProtocolError, "MQTT 3.1.1 has no such packet")
	}
	return f, nil
}

// upgradeConnect converts a CONNECT. Clean Session 1 becomes a session for this connection only.
// Clean Session 0 becomes a session that continues and never expires. The will has no delay, so the
// broker publishes it when the connection ends.
func upgradeConnect(f wire.Frame) (wire.Frame, error) {
	const passwordAlone, clean, will = 0x40, 0x02, 0x04
	const idAt = len(v311Head) + 3 // after Connect Flags and Keep Alive
	if len(f.Body) < idAt {
		return f, refusal(wire.CONNECT, wire.ReasonMalformedPacket, "it ends within its variable header")
	}
	flags := f.Body[len(v311Head)]
	id, rest, ok := wire.String(f.Body[idAt:])
	switch {
	case !ok:
		return f, refusal(wire.CONNECT, wire.ReasonMalformedPacket, "Client Identifier runs past the end of the packet")
	case flags&0xC0 == passwordAlone:
		return f, refusal(wire.CONNECT, wire.ReasonMalformedPacket, "Password without User Name [MQTT-3.1.2-22 of MQTT 3.1.1]")
	case len(id) == 0 && flags&clean == 0:
		return f, refusal(wire.CONNECT, reasonClientIDInvalid, "an empty Client Identifier asks for Clean Session 1 [MQTT-3.1.3-8 of MQTT 3.1.1]")
	}
	var props wire.Properties
	if flags&clean == 0 {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropSessionExpiry, Int: NeverExpires})
	}
	body := slices.Clone(f.Body[:idAt])
	body[len(v311Head)-1] = 5
	body = append(wire.AppendVarint(body, uint32(len(props))), props...)
	body = wire.AppendString(body, id)
	if flags&will != 0 {
		body = append(body, 0) // empty Will Properties
	}
	return frame(f.Header, append(body, rest...)), nil
}

// withoutProperties inserts an empty property section into a packet.
func withoutProperties(f wire.Frame, at int) wire.Frame {
	return frame(f.Header, slices.Insert(slices.Clone(f.Body), at, 0))
}

func frame(header byte, body []byte) wire.Frame {
	raw := append(wire.AppendVarint([]byte{header}, uint32(len(body))), body...)
	return wire.Frame{Header: header, Raw: raw, Body: raw[len(raw)-len(body):]}
}

// plainQoS reports whether each Topic Filter is followed by a QoS only. The other bits of that byte
// are options of MQTT 5.
func plainQoS(b []byte) bool {
	for len(b) > 0 {
		_, rest, ok := wire.String(b)
		if !ok || len(rest) == 0 || rest[0] > 2 {
			return false
		}
		b = rest[1:]
	}
	return true
}

// downgrade appends the packets in b, converted to MQTT 3.1.1. It omits reason codes of PUBACK and
// PUBREC, so a refused message appears as accepted and dropped.
func downgrade(dst, b []byte) []byte {
	for len(b) > 0 {
		length, n := wire.Varint(b[1:])
		f := wire.Frame{Header: b[0], Body: b[1+n : 1+n+int(length)], Raw: b[:1+n+int(length)]}
		b = b[len(f.Raw):]
		switch f.Type() {
		case wire.CONNACK:
			if code, ok := returnCode(f.Body[1]); ok {
				dst = append(dst, f.Header, 2, f.Body[0], code)
			}
		case wire.PUBLISH:
			at := 2 + int(f.Body[0])<<8 + int(f.Body[1])
			if f.Header&0x06 != 0 {
				at += 2
			}
			props, n := wire.Varint(f.Body[at:])
			dst = append(dst, frame(f.Header, slices.Delete(slices.Clone(f.Body), at, at+n+int(props))).Raw...)
		case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP, wire.UNSUBACK:
			dst = append(dst, f.Header, 2, f.Body[0], f.Body[1])
		case wire.SUBACK:
			ack, _ := control.ParseSuback(f) // created by the broker, so it is valid
			body := slices.Clone(f.Body[:2])
			for _, reason := range ack.Reasons {
				body = append(body, min(reason, 0x80))
			}
			dst = append(dst, frame(f.Header, body).Raw...)
		case wire.DISCONNECT: // only clients send it in MQTT 3.1.1; the connection just ends
		default:
			dst = append(dst, f.Raw...)
		}
	}
	return dst
}

// returnCode converts a reason code into a Connect Return Code of MQTT 3.1.1 (section 3.2.2.3).
// There is no code for a malformed packet, so ok is false and the connection just ends.
func returnCode(reason byte) (code byte, ok bool) {
	switch reason {
	case wire.ReasonSuccess:
		return 0, true
	case wire.ReasonMalformedPacket, wire.ReasonProtocolError, wire.ReasonTopicNameInvalid, wire.ReasonPacketTooLarge:
		return 0, false
	case control.ReasonUnsupportedVersion:
		return 1, true
	case reasonClientIDInvalid:
		return 2, true
	case reasonBadUserOrPassword:
		return 4, true
	case wire.ReasonNotAuthorized:
		return 5, true
	}
	return 3, true // server unavailable
}
