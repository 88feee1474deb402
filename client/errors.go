package client

import (
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

var (
	// ErrClosed: the client has ended, or is about to. What was accepted stays in
	// the store in Config.Dir; open it with a new client.
	ErrClosed = errors.New("client: closed; make a new one with the same store to go on")
	// ErrDraining: Drain has begun and nothing new is accepted.
	ErrDraining = errors.New("client: draining; publish before Drain or with another client")
	// ErrNotConnected: a QoS 0 message needs a connection now and there is none.
	ErrNotConnected = errors.New("client: not connected; use QoS 1 or 2 to have the message stored and sent later")
	// ErrStarted: Start was called before.
	ErrStarted = errors.New("client: already started; a client is started once")
	// ErrSessionLost: the server lost the session and OnSessionLost of the message,
	// or of Config, is FailInFlight.
	ErrSessionLost = errors.New("client: the server lost the session that the message was sent in; it may or may not have arrived, publish it again if twice is better than never")
	// ErrConflated: a newer message of the same topic was accepted before this one
	// was sent, and both asked for Conflate.
	ErrConflated = errors.New("client: a newer message of its topic took its place before it was sent; publish without Conflate where each one counts")
	// ErrNoReceipts: the store keeps none.
	ErrNoReceipts = errors.New("client: no receipts are kept; set Config.Store.Options.MaxReceipts to how many are wanted")
	// ErrUnknownSession: the server holds a session under our ClientID that the
	// store knows nothing of, as after a store was lost. It is given up for a new
	// one at once; messages that waited in it are gone with it.
	ErrUnknownSession = errors.New("client: the server has a session that the store knows nothing of; asking for a new one")
	// ErrAckTimeout: messages are in flight and the server acknowledges nothing.
	ErrAckTimeout = errors.New("client: the server acknowledged nothing for the acknowledgement timeout; reconnecting")
	// ErrKeepAlive: the server gave no sign of life within the keep alive time and
	// half of it again, or when NetworkChanged had it asked.
	ErrKeepAlive = link.ErrKeepAlive
)

// FieldError says which field of a message, subscription or will MQTT cannot
// carry, and the fix. Nothing was stored and nothing was sent.
//
//	type FieldError struct {
//		Field   string // its name
//		Problem string // what is wrong and what to do about it
//	}
type FieldError = wire.FieldError

// ProtocolError is a violation of MQTT by the server, with the reason code of
// the DISCONNECT that answered it. The client connects again, with backoff.
//
//	type ProtocolError struct {
//		Code   byte   // 0x81, 0x82, 0x93, 0x94, 0x95 …
//		Packet Type   // the type of the packet, a byte
//		Detail string // what is wrong with it
//	}
type ProtocolError = wire.Error

// ConfigError says which field of a Config is impossible, and the fix.
type ConfigError struct {
	Field   string
	Problem string // what is wrong and what to write instead
}

func (e *ConfigError) Error() string { return "client: Config." + e.Field + ": " + e.Problem }

// RefusedError says that the server acknowledged a message or a subscription
// with a reason code of 0x80 or above, or that this server cannot take it.
type RefusedError struct {
	Code   byte   // the reason code, or the one that says what this server cannot take
	Reason string // the server's reason string, if any
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("client: refused by the server: %s (0x%02X)", reliability.ReasonName(e.Code), e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// ReasonCode is the code, for reliability.Classify.
func (e *RefusedError) ReasonCode() byte { return e.Code }

// ExpiredError says that a message's Expiry passed before it could be sent.
type ExpiredError struct{ ID MessageID }

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("client: message %v expired before it was sent; raise Expiry if it would still have been of use", e.ID)
}

// DamagedError says that an accepted message was damaged on disk, and is lost.
type DamagedError struct{ persistence.Corruption }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("client: message was damaged on disk at byte %d of %s: %v; publish it again", e.Offset, e.File, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// DrainError says that Drain ended before everything was acknowledged. With
// Config.Dir the next client goes on with the rest; a store in memory ends here.
type DrainError struct {
	Pending int   // messages that stay in the store
	Cause   error // why it ended: the context's error, or a fatal one
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("client: drain ended with %d messages pending: %v; in Config.Dir they wait for the next client", e.Pending, e.Cause)
}

func (e *DrainError) Unwrap() error { return e.Cause }

// ConnectionError says why the server refused a connection (CONNACK) or ended one
// (DISCONNECT). Whether it is tried again is said by the event that has it, and by
// reliability.OnConnack and OnDisconnect.
type ConnectionError struct {
	Code            byte   // the reason code
	Reason          string // the server's reason string, if any
	ServerReference string // where the server sends us, if anywhere
	Cause           error  // the packet as an error
}

func (e *ConnectionError) Error() string {
	s := fmt.Sprintf("client: server said %s (0x%02X)", reliability.ReasonName(e.Code), e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s + "; " + e.advice()
}

// ReasonCode is the code, for reliability.Classify.
func (e *ConnectionError) ReasonCode() byte { return e.Code }

func (e *ConnectionError) Unwrap() error { return e.Cause }

// advice is what to do. A CONNACK answers what CONNECT said, which will be the same
// next time; behind a DISCONNECT it is tried again.
func (e *ConnectionError) advice() string {
	switch e.Code {
	case wire.ReasonBadUserNameOrPassword:
		return "check Username and Password, or what Credentials returns"
	case wire.ReasonBadAuthenticationMethod:
		return "the server does not know Config.Connection.Auth's method, or asks for one; set another, or none"
	case 0x84: // Unsupported Protocol Version
		return "this server does not speak MQTT 5; use one that does"
	}
	class := reliability.Classify(e.Code)
	switch class {
	case reliability.NotAuthorized:
		return "check Username, Password or Credentials, and the server's access rules"
	case reliability.Redirect:
		if e.ServerReference != "" {
			return "set Servers to " + e.ServerReference
		}
		return "set Servers to where it has moved"
	case reliability.Takeover:
		return "another client uses the same ClientID; give each its own"
	}
	if ended := (*link.DisconnectError)(nil); errors.As(e.Cause, &ended) {
		return "it is tried again"
	}
	switch class {
	case reliability.Fatal:
		return "change the configuration; trying again as it is will not help"
	case reliability.Invalid:
		return "change the Will or the Status, which this server cannot take; trying again as it is will not help"
	case reliability.Protocol:
		return "the server does not understand our CONNECT; check that it speaks MQTT 5"
	}
	return "it is tried again"
}

// connectionError gives the errors of a connection their public type.
func connectionError(err error) error {
	var bye *link.Goodbye
	if errors.As(err, &bye) {
		return bye.Err
	}
	var refused *link.ConnackError
	if errors.As(err, &refused) {
		return &ConnectionError{Code: refused.Reason, Reason: refused.ReasonString, ServerReference: refused.ServerReference, Cause: err}
	}
	var ended *link.DisconnectError
	if errors.As(err, &ended) {
		return &ConnectionError{Code: ended.Reason, Reason: ended.ReasonString, ServerReference: ended.ServerReference, Cause: err}
	}
	return err
}
