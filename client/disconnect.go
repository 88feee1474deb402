package client

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// DisconnectOptions are the contents of the DISCONNECT that CloseWith sends. The zero value means a
// normal end of the connection, as with Close. The server then discards the will and keeps the
// session for SessionConfig.Expiry.
type DisconnectOptions struct {
	// Reason is the reason code. 0x00 is a normal end. 0x04 makes the server publish the will, and
	// the client publishes no offline status. The other valid codes are those of 0x80 or above that
	// a client may send (table 3-13 of MQTT 5). These codes also make the server publish the will.
	Reason byte
	// The client omits ReasonString and UserProperties if the packet would exceed the server's
	// Maximum Packet Size.
	ReasonString   string
	UserProperties []UserProperty
	// SessionExpiry is how long the server keeps the session after the DISCONNECT. Default: the
	// value in CONNECT. NoSession ends the session with the connection. SessionExpiry must be 0 if
	// SessionConfig.Expiry is NoSession (section 3.14.2.2.2 of MQTT 5).
	SessionExpiry time.Duration
}

// check returns a *FieldError if the options cannot be sent.
func (g *DisconnectOptions) check(expiry time.Duration) error {
	switch {
	case !mayLeaveWith(g.Reason):
		return &FieldError{Field: "Reason", Problem: fmt.Sprintf("is 0x%02X (%s), which a client must not send; use 0x00, 0x04, or an error code that a client may send", g.Reason, reliability.ReasonName(g.Reason))}
	case g.SessionExpiry < 0 && g.SessionExpiry != NoSession:
		return &FieldError{Field: "SessionExpiry", Problem: "is negative; use 0 to keep the present one, a positive duration, or NoSession"}
	case g.SessionExpiry > 0 && expiry == NoSession:
		return &FieldError{Field: "SessionExpiry", Problem: "is a protocol error, because Config.Session.Expiry is NoSession; use 0"}
	}
	if err := wire.CheckString("ReasonString", g.ReasonString); err != nil {
		return fieldError(err)
	}
	for _, u := range g.UserProperties {
		if err := cmp.Or(wire.CheckString("UserProperties", u.Key), wire.CheckString("UserProperties", u.Value)); err != nil {
			return fieldError(err)
		}
	}
	return nil
}

// mayLeaveWith reports whether a client may send this reason code in a DISCONNECT (table 3-13 of
// MQTT 5).
func mayLeaveWith(code byte) bool {
	return slices.Contains([]byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}, code)
}
