package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

var (
	// ErrClosed is returned after the end of the client has begun. Publish returns it only after all
	// running handlers have ended, see Close.
	ErrClosed = safe.New("client: closed; create a client with the same store to continue")
	// ErrNilClient is returned by the methods of a nil *Client.
	ErrNilClient = safe.New("client: the Client is nil; check the error that New returned")
	// ErrAbort ends the client without a DISCONNECT if it is the cause that cancels Start's
	// context. The server then publishes the will.
	ErrAbort = errors.New("client: aborted without DISCONNECT")
	// ErrDraining is returned by Publish after Drain was called and all running handlers have ended.
	ErrDraining = safe.New("client: draining; publish before Drain or with another client")
	// ErrNotConnected is returned for a QoS 0 message while there is no connection.
	ErrNotConnected = safe.New("client: not connected; use QoS 1 or 2 to store the message and send it later")
	// ErrStarted is returned by a second call of Start.
	ErrStarted = safe.New("client: already started; call Start once")
	// ErrSessionStuck is the reason why the client ends a connection to begin a new session, see
	// SessionConfig.OnStuck.
	ErrSessionStuck = errors.New("client: session stuck: the server refuses messages because of QoS 2 exchanges that it holds; the client begins a new session")
	// ErrSessionLost is the outcome of a message that was in flight when the server lost the
	// session. Messages have this outcome only with FailInFlight, see Message.OnSessionLost and
	// SessionConfig.OnLost.
	ErrSessionLost = errors.New("client: session lost: the message was in flight and may have arrived; publish it again if a duplicate is acceptable")
	// ErrCancelled is the outcome of a message that Client.Cancel ended before it was sent.
	ErrCancelled = safe.New("client: message cancelled before it was sent; publish it again if it is needed")
	// ErrConflated is the outcome of an unsent message that a newer message of the same topic
	// replaced. Both messages had Conflate set.
	ErrConflated = safe.New("client: message replaced by a newer message on its topic before it was sent; publish without Conflate to send each one")
	// ErrNoReceipts is returned by Receipt when the store keeps no receipts.
	ErrNoReceipts = safe.New("client: the message is not pending, and the store keeps no receipts of ended messages; set Config.Store.Options.Retention.MaxReceipts")
	// ErrNoDeadLetters is returned if a custom store does not keep dead letters.
	ErrNoDeadLetters = safe.New("client: the store keeps no dead letters; implement persistence.DeadLetters")
	// ErrUnknownSession reports that the server holds a session for this ClientID that the store
	// does not know. Either another library began the session, or the store was lost. The client
	// resumes the session, see SessionAdopted. With NoSession, and after a takeover by another
	// client, it discards the session and its waiting messages.
	ErrUnknownSession = link.ErrUnknownSession
	// ErrSessionAdopted is the kind of ErrUnknownSession for a session that the client resumes on
	// the next connection.
	ErrSessionAdopted = link.ErrSessionAdopted
	// ErrAckTimeout is the reason why a connection ended if messages were in flight and the server
	// acknowledged none of them for ConnectionConfig.AckTimeout.
	ErrAckTimeout = link.ErrAckTimeout
	// ErrKeepAlive is the reason why a connection ended if the server sent nothing for 1.5 times
	// the keep alive. ErrKeepAlive is also the reason if the server did not answer the PINGREQ of
	// NetworkChanged.
	ErrKeepAlive = link.ErrKeepAlive
)

// FieldError reports that a field of a message, subscription or will is invalid in MQTT. The client
// has stored and sent nothing.
type FieldError struct {
	Field   string // name of the field
	Problem string // what is wrong, and how to correct it
}

func (e *FieldError) Error() string { return "mqtt: " + e.Field + ": " + e.Problem }

// SafeToRetry returns true: nothing was stored or sent.
func (*FieldError) SafeToRetry() bool { return true }

// ConfigError reports an invalid field of a Config.
type ConfigError struct {
	Field   string
	Problem string // what is wrong, and how to correct it

	cause error
}

func (e *ConfigError) Error() string { return "client: Config." + e.Field + ": " + e.Problem }

// Unwrap returns the *TLSFileError if a file is unusable, and nil for all other problems.
func (e *ConfigError) Unwrap() error { return e.cause }

// SafeToRetry returns true: nothing was started.
func (*ConfigError) SafeToRetry() bool { return true }

// RefusedError reports that the server refused a message or a subscription with a reason code of
// 0x80 or above, or does not support it.
type RefusedError struct {
	Code byte // the server's reason code, or the code that means that the server does not support the feature
	// Reason is the server's Reason String, up to 1,024 bytes. If the client has not sent the
	// request, because the server does not support it, Reason is advice of the client. Reason may be
	// empty.
	Reason string

	about string // the filter of a subscription, or the kind of a message without a Delivery
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("client: refused by the server: %s (0x%02X)", reliability.ReasonName(e.Code), e.Code)
	for _, detail := range []string{e.about, e.Reason} {
		if detail != "" {
			s += ": " + detail
		}
	}
	return s
}

func (e *RefusedError) ReasonCode() byte { return e.Code }

// SafeToRetry returns true, because the server has not accepted the message or subscription.
// SafeToRetry returns false for the two reason codes about packet identifiers (0x91 and 0x92),
// because the server may then have the message.
func (e *RefusedError) SafeToRetry() bool { return e.Code != 0x91 && e.Code != 0x92 }

// limitError returns the error for a packet that exceeds a limit of this server.
func limitError(reason byte) *RefusedError {
	return &RefusedError{Code: reason, Reason: map[byte]string{
		wire.ReasonPacketTooLarge:     "larger than the server's Maximum Packet Size; send a smaller message",
		wire.ReasonQoSNotSupported:    "above the server's Maximum QoS; publish at a lower QoS",
		wire.ReasonRetainNotSupported: "the server does not support retained messages; publish without Retain",
	}[reason]}
}

// OutcomeUnknownError is the error of Publish for a message that may still be stored later. Either
// the disk did not answer before ctx ended or within Store.Options.WriteTimeout, or the store
// failed during the write. If the message is stored, the client delivers it. Do not publish the
// message again. Wait for Delivery instead.
type OutcomeUnknownError struct {
	// Delivery reports the outcome of the message. The outcome is Abandoned if the client ends
	// first and has certainly not delivered the message.
	Delivery *Delivery
	Err      error // the cause of ctx, a *persistence.StalledError, or the error of the store
}

func (e *OutcomeUnknownError) Error() string {
	id := MessageID{}
	if e.Delivery != nil {
		id = e.Delivery.ID
	}
	return fmt.Sprintf("client: message %v: outcome unknown: %v; the store may still store it, so wait for its Delivery and do not publish it again", id, e.Err)
}

func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// SafeToRetry returns false: the message may be delivered.
func (*OutcomeUnknownError) SafeToRetry() bool { return false }

// CloseTimeoutError is the error of Close if the disk does not answer, or if a handler or another
// function of the application does not return. The client ends when these calls have returned, see
// Client.Done. Dir remains in use until then.
type CloseTimeoutError struct{ After time.Duration }

func (e *CloseTimeoutError) Error() string {
	return fmt.Sprintf("client: Close timed out after %v: a disk or a function of the application does not return; wait for Done before using Dir again", e.After)
}

// Is returns true for context.DeadlineExceeded.
func (*CloseTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (*CloseTimeoutError) Timeout() bool        { return true }

// SafeToRetry returns true: Close may be called again.
func (*CloseTimeoutError) SafeToRetry() bool { return true }

// PoisonError reports a message that the client deferred or gave up, because several connections in
// a row ended when it sent this message. After the client gave it up, publish the content in
// another form.
type PoisonError struct {
	ID       MessageID
	Attempts int
	Code     byte // reason code of the last DISCONNECT; 0 if the server sent none, 0x80 also if its answer was invalid
	Deferred bool // the message is resent alone; Attempts counts from its first deferral
}

func (e *PoisonError) Error() string {
	if e.Deferred {
		return fmt.Sprintf("client: message %v deferred: several connections ended over it, the last one with %s; it is resent alone, after other messages were acknowledged", e.ID, endedWith(e.Code))
	}
	return fmt.Sprintf("client: message %v given up: the server ended %d connections in a row over it, the last one with %s; change the message",
		e.ID, e.Attempts, endedWith(e.Code))
}

// endedWith describes why a connection ended.
func endedWith(code byte) string {
	switch code {
	case 0:
		return "no reason code"
	case wire.ReasonUnspecifiedError: // also stands for an invalid answer of the server
		return "no specific reason"
	}
	return fmt.Sprintf("%s (0x%02X)", reliability.ReasonName(code), code)
}

func (e *PoisonError) ReasonCode() byte { return e.Code }

// SafeToRetry returns false: the server may have processed the message.
func (*PoisonError) SafeToRetry() bool { return false }

// DroppedError reports a message that was dropped by a policy of this client, or by Cancel.
type DroppedError struct {
	ID MessageID
	// Cause is a persistence.ErrFull with DropOldest and DropNewest, ErrConflated if a newer
	// message replaced this one, and ErrCancelled after Cancel. In a Receipt, Cause is nil, because
	// the store does not keep it.
	Cause error
}

func (e *DroppedError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("client: message %v dropped by a policy; publish it again if it is still needed", e.ID)
	}
	return fmt.Sprintf("client: message %v dropped: %v", e.ID, e.Cause)
}

func (e *DroppedError) Unwrap() error { return e.Cause }

// SafeToRetry returns true, because only unsent messages are dropped.
func (*DroppedError) SafeToRetry() bool { return true }

// ExpiredError reports that a message expired before the client could send it.
type ExpiredError struct{ ID MessageID }

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("client: message %v expired before it was sent; raise Expiry if it is still useful later", e.ID)
}

// SafeToRetry returns false, because an earlier process may have sent a QoS 1 message.
func (*ExpiredError) SafeToRetry() bool { return false }

// DamagedError reports that an accepted message was damaged on disk and is lost.
type DamagedError struct{ persistence.Corruption }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("client: message damaged on disk at byte %d of %s: %v; publish it again", e.Offset, e.File, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// SafeToRetry returns false: the message may have been sent before it was damaged.
func (*DamagedError) SafeToRetry() bool { return false }

// DrainError reports that Drain ended before all messages were acknowledged. With Config.Dir, the
// next client delivers the remaining messages. With a store in memory, they are lost.
type DrainError struct {
	Pending int   // number of messages that stay in the store
	Cause   error // why Drain ended: the context's cause, with the last connection error, or a fatal error
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("client: Drain ended with %d messages pending: %v; with Config.Dir the next client delivers them", e.Pending, e.Cause)
}

func (e *DrainError) Unwrap() error { return e.Cause }

// SafeToRetry returns false, because the store keeps the messages.
func (*DrainError) SafeToRetry() bool { return false }

// SessionError reports that the client stopped because the session at the server is not that in the
// store, see StrictSession. errors.Is reports that it is an ErrUnknownSession or an ErrSessionLost.
type SessionError struct {
	// Present is true if the server has a session that the store does not know. Present is false if
	// the store has a session that the server does not have.
	Present bool
	// If one of the following fields is set, the client has not connected.
	ClientID  string // if not empty, the stored session belongs to this other client identifier
	TakenOver bool   // another client with this ClientID took over the session and used it
}

func (e *SessionError) Error() string {
	switch {
	case e.TakenOver:
		return "client: session taken over: another client with this ClientID has used it; start with CleanStart or ResumeSession to publish the stored messages in a new session"
	case e.ClientID != "":
		return fmt.Sprintf("client: wrong store: its session belongs to the ClientID %q; use the store of this ClientID, or start with CleanStart or ResumeSession to publish the stored messages under this ClientID", e.ClientID)
	case e.Present:
		return "client: unknown session: the server has a session that the store does not know; use the store that belongs to it, or start with CleanStart to discard it"
	}
	return "client: session lost: the server does not have the session in the store; start with CleanStart or ResumeSession to publish the stored messages again"
}

// Is returns true for the one of ErrUnknownSession and ErrSessionLost that describes e.
func (e *SessionError) Is(target error) bool {
	unknown := e.Present || e.ClientID != "" || e.TakenOver
	return target == ErrUnknownSession && unknown || target == ErrSessionLost && !unknown
}

// fieldError converts a validation error of package wire.
func fieldError(err error) error {
	if e, ok := err.(*wire.FieldError); ok {
		return (*FieldError)(e)
	}
	return err
}

// notConnected returns an ErrNotConnected that contains the error of the last connection or attempt
// to connect, if there is one.
func notConnected(last error) error {
	if last == nil {
		return ErrNotConnected
	}
	return &notConnectedError{last}
}

type notConnectedError struct{ last error }

func (e *notConnectedError) Error() string {
	return fmt.Sprintf("client: not connected: %v; use QoS 1 or 2 to store the message and send it later", e.last)
}

func (e *notConnectedError) Is(target error) bool { return target == ErrNotConnected }
func (e *notConnectedError) Unwrap() error        { return e.last }
func (*notConnectedError) SafeToRetry() bool      { return true } // nothing was sent
