package link

import (
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ConnackError reports a CONNACK that refused the connection.
type ConnackError struct {
	Reason          byte
	ReasonString    string
	ServerReference ServerReference
}

func (e *ConnackError) Error() string {
	return fmt.Sprintf("mqtt: server refused CONNECT with reason code 0x%02X%s", e.Reason, quoted(e.ReasonString))
}

// DisconnectError reports a DISCONNECT from the server.
type DisconnectError struct {
	Reason          byte
	ReasonString    string
	ServerReference ServerReference
}

func (e *DisconnectError) Error() string {
	return fmt.Sprintf("mqtt: server sent DISCONNECT with reason code 0x%02X%s", e.Reason, quoted(e.ReasonString))
}

// irregular combines a refusal or a DISCONNECT (reason) with the violation of the protocol in it.
// The reason code decides how the client proceeds, and the client answers the violation.
func irregular(reason, violation error) error { return fmt.Errorf("%w; %w", reason, violation) }

// CloseError ends a connection with a DISCONNECT, even before the session has begun.
type CloseError struct {
	Reason     byte // of the DISCONNECT
	EndSession bool // the server must end the session
	Err        error
}

func (e *CloseError) Error() string { return e.Err.Error() }
func (e *CloseError) Unwrap() error { return e.Err }

// SafeToRetry returns false, because messages may have been sent on the connection.
func (*CloseError) SafeToRetry() bool { return false }

// violation returns a Protocol Error that the client always answers with a DISCONNECT.
func violation(t wire.Type, detail string) error {
	return &CloseError{Reason: wire.ReasonProtocolError, Err: wire.Violation(t, "%s", detail)}
}

// packet returns the encoded DISCONNECT.
func (e *CloseError) packet() []byte {
	if e.EndSession { // with a Session Expiry Interval of 0
		return []byte{byte(wire.DISCONNECT) << 4, 7, e.Reason, 5, wire.PropSessionExpiry, 0, 0, 0, 0}
	}
	return []byte{byte(wire.DISCONNECT) << 4, 1, e.Reason}
}

// PacketTooLargeError reports a packet that exceeds the server's Maximum Packet Size. The packet
// was not sent.
type PacketTooLargeError struct{ Size, Maximum int }

func (e *PacketTooLargeError) Error() string {
	return fmt.Sprintf("mqtt: packet of %d bytes exceeds the server's Maximum Packet Size of %d; send less at a time", e.Size, e.Maximum)
}

// SafeToRetry returns true, because the packet was not sent.
func (*PacketTooLargeError) SafeToRetry() bool { return true }

// checkSize returns a *PacketTooLargeError if the server does not accept a packet of size bytes.
func (c *Conn) checkSize(size int) error {
	if limit := c.maxSend.Load(); limit > 0 && size > int(limit) {
		return &PacketTooLargeError{Size: size, Maximum: int(limit)}
	}
	return nil
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", s)
}

// parseDisconnect decodes a DISCONNECT. It returns an irregular error if a server must not send it,
// and a *wire.Error if it cannot be decoded.
func parseDisconnect(body []byte) (*DisconnectError, error) {
	if len(body) == 0 {
		return &DisconnectError{}, nil
	}
	d := &DisconnectError{Reason: body[0]}
	violation := wire.CheckServerReason(wire.DISCONNECT, d.Reason)
	if len(body) > 1 {
		props, err := wire.OnlyProperties(wire.DISCONNECT, body[1:])
		if err != nil {
			return nil, err
		}
		d.ReasonString = wire.ReasonText(props.Find(wire.PropReasonString).Bytes)
		d.ServerReference = ServerReference(props.Find(wire.PropServerReference).Bytes)
		if props.Find(wire.PropSessionExpiry).ID != 0 {
			violation = wire.Violation(wire.DISCONNECT, "it has a Session Expiry Interval [MQTT-3.14.2-2]")
		}
	}
	if violation != nil {
		return nil, irregular(d, violation)
	}
	return d, nil
}

// checkControl checks the structure of a control packet before paho decodes it.
func checkControl(f wire.Frame) error {
	t, b := f.Type(), f.Body
	connack := t == wire.CONNACK // otherwise SUBACK or UNSUBACK, with reason codes after the properties
	switch {
	case t == wire.PINGRESP && len(b) == 0:
		return nil
	case t == wire.PINGRESP:
		return wire.Malformed(t, "it has a body")
	case connack && len(b) == 2: // without properties
		return wire.Malformed(t, "it has the format of MQTT 3.1.1; use a server that supports MQTT 5")
	case len(b) < 3 || !connack && len(b) < 4:
		return wire.Malformed(t, "it is too short")
	case connack && b[0] > 1:
		return wire.Malformed(t, "reserved flags are set [MQTT-3.2.2-1]")
	case connack && b[1] < 0x80: // otherwise a refusal, even with an undefined code; see refusal
		if err := wire.CheckServerReason(t, b[1]); err != nil {
			return err
		}
	}
	_, reasons, err := wire.SplitProperties(t, b[2:])
	if err != nil {
		return err
	}
	if connack != (len(reasons) == 0) {
		return wire.Malformed(t, "its length does not fit its properties")
	}
	for _, code := range reasons {
		if err := wire.CheckServerReason(t, code); err != nil {
			return err
		}
	}
	return nil
}

// checkReasons checks the reason codes of a SUBACK or UNSUBACK. highest has one byte for each
// filter of the request: the highest allowed reason code below 0x80.
func checkReasons(t wire.Type, reasons, highest []byte) error {
	if len(reasons) != len(highest) {
		return wire.Violation(t, "it has %d reason codes for %d Topic Filters", len(reasons), len(highest))
	}
	for i, code := range reasons {
		if code > highest[i] && code < 0x80 {
			return wire.Violation(t, "it grants QoS %d although QoS %d was requested", code, highest[i])
		}
	}
	return nil
}
