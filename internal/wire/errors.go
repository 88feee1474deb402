package wire

import "fmt"

// Error is a violation of the protocol by the peer. The connection must be closed, after a
// DISCONNECT with Code if one may be sent [MQTT-4.13.1-1].
type Error struct {
	Code   byte // reason code for DISCONNECT: 0x81, 0x82, 0x93, 0x94, 0x95 …
	Packet Type // the packet it was seen in, 0 if that is unknown
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

// FieldError names the field of an outgoing packet that is not allowed. Nothing was stored or sent.
type FieldError struct {
	Field   string // the specification's name: "Topic Name", "User Property" …
	Problem string // what is wrong and what to do about it
}

func (e *FieldError) Error() string { return "mqtt: " + e.Field + ": " + e.Problem }

// SafeToRetry returns true: nothing was stored or sent.
func (*FieldError) SafeToRetry() bool { return true }
