package wire

import "fmt"

// Error is a violation of the protocol by the peer. The connection must be closed. If a DISCONNECT
// may be sent, it is sent before, with Code [MQTT-4.13.1-1].
type Error struct {
	Code   byte // reason code for DISCONNECT, for example 0x81, 0x82, 0x93, 0x94 or 0x95
	Packet Type // type of the packet; 0: unknown
	Detail string
}

func (e *Error) Error() string {
	return fmt.Sprintf("mqtt: peer sent a bad %v packet: %s (reason code 0x%02X)", e.Packet, e.Detail, e.Code)
}

// Malformed returns an Error with reason code 0x81.
func Malformed(t Type, format string, args ...any) *Error {
	return &Error{Code: ReasonMalformedPacket, Packet: t, Detail: fmt.Sprintf(format, args...)}
}

// Violation returns an Error with reason code 0x82.
func Violation(t Type, format string, args ...any) *Error {
	return &Error{Code: ReasonProtocolError, Packet: t, Detail: fmt.Sprintf(format, args...)}
}

// FieldError names an invalid field of an outgoing packet. Nothing was stored or sent.
type FieldError struct {
	Field   string // name in the specification, for example "Topic Name" or "User Property"
	Problem string // the problem and the remedy
}

func (e *FieldError) Error() string { return "mqtt: " + e.Field + ": " + e.Problem }

// SafeToRetry returns true, because nothing was stored or sent.
func (*FieldError) SafeToRetry() bool { return true }
