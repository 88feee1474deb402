package wire

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	Type         Type
	PacketID     uint16
	Reason       byte
	ReasonString []byte // may be nil; points into the frame from which it was parsed
}

// ParseAck checks and decodes a PUBACK, PUBREC, PUBREL or PUBCOMP. The error is an *Error.
func ParseAck(f Frame) (a Ack, err error) {
	a.Type = f.Type()
	if err := CheckHeader(f.Header); err != nil {
		return a, err
	}
	b := f.Body
	if len(b) < 2 {
		return a, Malformed(a.Type, "Packet Identifier runs past the end of the packet")
	}
	if a.PacketID = binary.BigEndian.Uint16(b); a.PacketID == 0 {
		return a, Violation(a.Type, "Packet Identifier is 0")
	}
	if b = b[2:]; len(b) == 0 {
		return a, nil
	}
	a.Reason, b = b[0], b[1:]
	if err := CheckServerReason(a.Type, a.Reason); err != nil || len(b) == 0 {
		return a, err
	}
	props, err := OnlyProperties(a.Type, b)
	a.ReasonString = props.Find(PropReasonString).Bytes
	return a, err
}

// AppendAck appends a in its shortest form.
func AppendAck(dst []byte, a Ack) []byte {
	header := byte(a.Type) << 4
	if a.Type == PUBREL {
		header |= 0x02
	}
	switch {
	case len(a.ReasonString) > 0:
		props := uint32(3 + len(a.ReasonString))
		dst = AppendVarint(append(dst, header), 3+uint32(VarintLen(props))+props)
		dst = append(binary.BigEndian.AppendUint16(dst, a.PacketID), a.Reason)
		return AppendString(append(AppendVarint(dst, props), PropReasonString), a.ReasonString)
	case a.Reason != ReasonSuccess:
		return append(binary.BigEndian.AppendUint16(append(dst, header, 3), a.PacketID), a.Reason)
	}
	return binary.BigEndian.AppendUint16(append(dst, header, 2), a.PacketID)
}

// CheckHeader checks the type and the reserved flags of a packet [MQTT-2.1.3-1].
func CheckHeader(header byte) error {
	t, flags, want := Type(header>>4), header&0x0F, byte(0)
	switch t {
	case 0:
		return Malformed(t, "packet type 0 is reserved")
	case PUBLISH:
		return nil
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		want = 0x02
	}
	if flags != want {
		return Malformed(t, "reserved flags are 0x%X, not 0x%X", flags, want)
	}
	return nil
}
