package control

import "github.com/mooring-mqtt/mooring/internal/wire"

// Suback is a SUBACK or UNSUBACK packet (sections 3.9 and 3.11). It has one reason code for each
// Topic Filter, in order.
type Suback struct {
	PacketID     uint16
	ReasonString string
	User         []wire.UserProperty
	Reasons      []byte
}

const (
	subackReasons   = "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2"
	unsubackReasons = "\x00\x11\x80\x83\x87\x8F\x91"
)

// ParseSuback checks and decodes a SUBACK. The error is a *wire.Error.
func ParseSuback(f wire.Frame) (Suback, error) {
	return parseSuback(decode(f, wire.SUBACK), subackReasons)
}

// ParseUnsuback checks and decodes an UNSUBACK. The error is a *wire.Error.
func ParseUnsuback(f wire.Frame) (Suback, error) {
	return parseSuback(decode(f, wire.UNSUBACK), unsubackReasons)
}

func parseSuback(d *decoder, allowed string) (s Suback, err error) {
	s.PacketID = d.packetID()
	for props := d.properties(d.t); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		switch p.ID {
		case wire.PropReasonString:
			s.ReasonString = string(p.Bytes)
		case wire.PropUser:
			s.User = append(s.User, userProperty(p))
		}
	}
	if len(d.b) == 0 {
		d.violation("it has no reason code")
	}
	for len(d.b) > 0 {
		s.Reasons = append(s.Reasons, d.reason(allowed))
	}
	return s, d.end()
}

// AppendSuback appends s as a SUBACK.
func AppendSuback(dst []byte, s *Suback) []byte { return appendSuback(dst, wire.SUBACK, s) }

// AppendUnsuback appends s as an UNSUBACK.
func AppendUnsuback(dst []byte, s *Suback) []byte { return appendSuback(dst, wire.UNSUBACK, s) }

func appendSuback(dst []byte, t wire.Type, s *Suback) []byte {
	props := users(text(nil, wire.PropReasonString, s.ReasonString), s.User)
	body := section(binary16(nil, s.PacketID), props)
	return packet(dst, byte(t)<<4, append(body, s.Reasons...))
}
