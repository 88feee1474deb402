package control

import (
	"encoding/binary"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// decoder reads the fields of one packet from front to back. It keeps the first error. After an
// error, all fields are zero.
type decoder struct {
	t   wire.Type
	b   []byte
	err *wire.Error
}

// decode starts to decode a frame, which must be of type t.
func decode(f wire.Frame, t wire.Type) *decoder {
	d := &decoder{t: t, b: f.Body}
	if f.Type() != t {
		d.violation("it is a %v packet", f.Type())
	} else if err := wire.CheckHeader(f.Header); err != nil {
		d.keep(err)
	}
	return d
}

func (d *decoder) fail(code byte, format string, args ...any) {
	if d.err == nil {
		d.err = &wire.Error{Code: code, Packet: d.t, Detail: fmt.Sprintf(format, args...)}
		d.b = nil
	}
}

func (d *decoder) malformed(format string, args ...any) {
	d.fail(wire.ReasonMalformedPacket, format, args...)
}

func (d *decoder) violation(format string, args ...any) {
	d.fail(wire.ReasonProtocolError, format, args...)
}

// keep records an error of package wire.
func (d *decoder) keep(err error) {
	if e, ok := err.(*wire.Error); ok && d.err == nil {
		e.Packet = d.t
		d.err, d.b = e, nil
	}
}

func (d *decoder) take(n int, field string) []byte {
	if len(d.b) < n {
		d.malformed("%s runs past the end of the packet", field)
		return make([]byte, n)
	}
	head := d.b[:n]
	d.b = d.b[n:]
	return head
}

func (d *decoder) uint8(field string) byte { return d.take(1, field)[0] }

func (d *decoder) uint16(field string) uint16 { return binary.BigEndian.Uint16(d.take(2, field)) }

func (d *decoder) packetID() uint16 {
	id := d.uint16("Packet Identifier")
	if id == 0 {
		d.violation("Packet Identifier is 0 [MQTT-2.2.1-3]")
	}
	return id
}

// binary reads Binary Data. The result is never nil, so that empty data differs from absent data.
func (d *decoder) binary(field string) []byte {
	s, rest, ok := wire.String(d.b)
	if !ok {
		d.malformed("%s runs past the end of the packet", field)
		return nil
	}
	d.b = rest
	return append([]byte{}, s...)
}

// text reads a UTF-8 Encoded String [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func (d *decoder) text(field string) string {
	s, rest, ok := wire.String(d.b)
	switch {
	case !ok:
		d.malformed("%s runs past the end of the packet", field)
		return ""
	case !wire.ValidString(s):
		d.malformed("%s is not valid UTF-8 or contains U+0000", field)
		return ""
	}
	d.b = rest
	return string(s)
}

// properties reads the packet's property section, or that of the will if t is 0.
func (d *decoder) properties(t wire.Type) wire.Properties {
	if d.err != nil {
		return nil
	}
	props, rest, err := wire.SplitProperties(t, d.b)
	if err != nil {
		d.keep(err)
		return nil
	}
	d.b = rest
	return props
}

// reason reads a reason code, which must be one of the listed codes.
func (d *decoder) reason(allowed string) byte {
	code := d.uint8("Reason Code")
	if d.err == nil && !has(allowed, code) {
		d.violation("reason code 0x%02X does not belong to this packet", code)
	}
	return code
}

// end checks that no bytes are left.
func (d *decoder) end() error {
	if len(d.b) > 0 {
		d.malformed("there are %d bytes after its last field", len(d.b))
	}
	if d.err != nil {
		return d.err
	}
	return nil
}

func has(codes string, code byte) bool {
	for i := range len(codes) {
		if codes[i] == code {
			return true
		}
	}
	return false
}
