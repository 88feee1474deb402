package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

var (
	// ErrClosed is returned when the client has ended, or is ending.
	ErrClosed = safe.New("client: closed; create a client with the same store to continue")
	// ErrNilClient is returned by the methods of a nil *Client.
	ErrNilClient = safe.New("client: the Client is nil; check the error that New returned")
	// ErrAbort, as the cause of the cancelation of Start's context, ends the client
	// without DISCONNECT, so that the server publishes the will.
	ErrAbort = errors.New("client: aborted without DISCONNECT")
	// ErrDraining is returned by Publish after Drain was called.
	ErrDraining = safe.New("client: draining; publish before Drain or with another client")
	// ErrNotConnected is returned for a QoS 0 message while there is no connection.
	ErrNotConnected = safe.New("client: not connected; use QoS 1 or 2 to store the message and send it later")
	// ErrStarted is returned when Start is called a second time.
	ErrStarted = safe.New("client: already started; a client is started once")
	// ErrSessionStuck ends a connection to begin a new session, see SessionConfig.OnStuck.
	ErrSessionStuck = errors.New("client: the server refuses messages because of exchanges that it holds in this session; beginning a new session")
	// ErrSessionLost is the outcome of a message that was in flight when the server lost the
	// session, if OnSessionLost of the message, or SessionConfig.OnLost, is FailInFlight.
	ErrSessionLost = errors.New("client: the server lost the session in which the message was sent; it may have arrived; publish it again if a duplicate is acceptable")
	// ErrCancelled is the outcome of a message that Client.Cancel has ended before it was sent.
	ErrCancelled = safe.New("client: cancelled before it was sent; publish it again if it is wanted after all")
	// ErrConflated is the outcome of a message that was replaced by a newer one of
	// the same topic before it was sent. Both had Conflate set.
	ErrConflated = safe.New("client: replaced by a newer message of its topic before it was sent; publish without Conflate to send each one")
	// ErrNoReceipts is returned by Receipt when the store keeps no receipts.
	ErrNoReceipts = safe.New("client: the message is not pending, and no receipts of ended messages are kept; set Config.Store.Options.Retention.MaxReceipts to the number to keep")
	// ErrNoDeadLetters is returned if a custom store does not keep dead letters.
	ErrNoDeadLetters = safe.New("client: the store keeps no dead letters; implement persistence.DeadLetters")
	// ErrUnknownSession is reported when the server holds a session for this ClientID that the store
	// does not know: another library began it, or the store was lost. The client resumes it, see
	// SessionAdopted. It discards it, with the messages waiting in it, after another client has taken
	// the session over, and with NoSession.
	ErrUnknownSession = link.ErrUnknownSession
	// ErrSessionAdopted is the ErrUnknownSession of a session that the next connection resumes.
	ErrSessionAdopted = link.ErrSessionAdopted
	// ErrAckTimeout ends a connection on which messages are in flight and nothing
	// was acknowledged for ConnectionConfig.AckTimeout.
	ErrAckTimeout = link.ErrAckTimeout
	// ErrKeepAlive ends a connection on which the server sent nothing for 1.5 times
	// the keep alive, or did not answer the ping of NetworkChanged.
	ErrKeepAlive = link.ErrKeepAlive
)

// FieldError reports a field of a message, subscription or will that MQTT cannot
// carry. Nothing was stored or sent.
type FieldError struct {
	Field   string // its name
	Problem string // what is wrong, and how to correct it
}

func (e *FieldError) Error() string { return "mqtt: " + e.Field + ": " + e.Problem }

// SafeToRetry returns true: nothing was stored or sent.
func (*FieldError) SafeToRetry() bool { return true }

// ConfigError reports a field of a Config that is impossible.
type ConfigError struct {
	Field   string
	Problem string // what is wrong and what to write instead

	cause error
}

func (e *ConfigError) Error() string { return "client: Config." + e.Field + ": " + e.Problem }

// Unwrap returns the *TLSFileError of a file that cannot be used, and nil otherwise.
func (e *ConfigError) Unwrap() error { return e.cause }

// SafeToRetry returns true: nothing was started.
func (*ConfigError) SafeToRetry() bool { return true }

// RefusedError reports that the server acknowledged a message or a subscription
// with a reason code of 0x80 or above, or that this server cannot take it.
type RefusedError struct {
	Code   byte   // the reason code, or the one that says what this server cannot take
	Reason string // the server's reason string, if any; the first 1,024 bytes
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("client: refused by the server: %s (0x%02X)", reliability.ReasonName(e.Code), e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

func (e *RefusedError) ReasonCode() byte { return e.Code }

// SafeToRetry returns true, as the server has not accepted the message or the subscription, except
// for the reason codes that concern a packet identifier: the server may have the message under it.
func (e *RefusedError) SafeToRetry() bool { return e.Code != 0x91 && e.Code != 0x92 }

// limitError is the refusal of a packet that this server does not accept.
func limitError(reason byte) *RefusedError {
	return &RefusedError{Code: reason, Reason: map[byte]string{
		wire.ReasonPacketTooLarge:     "larger than the server's Maximum Packet Size; send less at a time",
		wire.ReasonQoSNotSupported:    "above the server's Maximum QoS; publish with a lower one",
		wire.ReasonRetainNotSupported: "the server has no retained messages; publish without Retain",
	}[reason]}
}

// OutcomeUnknownError is the error of Publish for a message that was handed to the store and may be stored
// later: ctx has ended or Store.Options.WriteTimeout has passed while the disk did not answer, or the store
// failed while it wrote. If the message is stored, it is delivered. Do not publish it again: wait for Delivery.
type OutcomeUnknownError struct {
	// Delivery resolves when the message ends, with Abandoned if it certainly will not before the client ends.
	Delivery *Delivery
	Err      error // the cause of ctx, a *persistence.StalledError, or the error of the store
}

func (e *OutcomeUnknownError) Error() string {
	id := MessageID{}
	if e.Delivery != nil {
		id = e.Delivery.ID
	}
	return fmt.Sprintf("client: message %v: outcome unknown, the store may store it later: %v; wait for its Delivery, do not publish it again", id, e.Err)
}

func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// SafeToRetry returns false: the message may be delivered.
func (*OutcomeUnknownError) SafeToRetry() bool { return false }

// CloseTimeoutError is the error of Close when something does not return: a disk, a handler, or another function
// of the application. The client ends when that has returned: see Client.Done. Until then Dir stays in use.
type CloseTimeoutError struct{ After time.Duration }

func (e *CloseTimeoutError) Error() string {
	return fmt.Sprintf("client: not ended %v after Close: a disk or a function of the application does not return; wait for Done before Dir is used again", e.After)
}

// Is reports that it is a context.DeadlineExceeded.
func (*CloseTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (*CloseTimeoutError) Timeout() bool        { return true }

// SafeToRetry returns true: Close may be called again.
func (*CloseTimeoutError) SafeToRetry() bool { return true }

// PoisonError reports a message that was given up or deferred because several connections in a row
// ended over it. If it was given up, publish its content in another form.
type PoisonError struct {
	ID       MessageID
	Attempts int
	Code     byte // of the last DISCONNECT; 0: there was none
	Deferred bool // it is sent again, alone; Attempts counts from its first deferral
}

func (e *PoisonError) Error() string {
	if e.Deferred {
		return fmt.Sprintf("client: connections end over message %v, the last one with %s; it is sent again, alone, after others were acknowledged", e.ID, endedWith(e.Code))
	}
	return fmt.Sprintf("client: message %v given up: the server ended %d connections in a row over it, at last with %s (0x%02X); change the message, it would end every connection",
		e.ID, e.Attempts, reliability.ReasonName(e.Code), e.Code)
}

// endedWith describes the end of a connection.
func endedWith(code byte) string {
	if code == 0 {
		return "no reason code"
	}
	return fmt.Sprintf("%s (0x%02X)", reliability.ReasonName(code), code)
}

func (e *PoisonError) ReasonCode() byte { return e.Code }

// SafeToRetry returns false: the server may have processed the message.
func (*PoisonError) SafeToRetry() bool { return false }

// DroppedError reports a message that was dropped by a policy of this client.
type DroppedError struct {
	ID MessageID
	// Cause is a persistence.ErrFull under DropOldest and DropNewest, ErrConflated if a
	// newer message replaced it, and nil in a Receipt, which does not keep it.
	Cause error
}

func (e *DroppedError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("client: message %v dropped by a policy; publish it again if it is still needed", e.ID)
	}
	return fmt.Sprintf("client: message %v dropped: %v", e.ID, e.Cause)
}

func (e *DroppedError) Unwrap() error { return e.Cause }

// SafeToRetry returns true: only messages that were not sent are dropped.
func (*DroppedError) SafeToRetry() bool { return true }

// ExpiredError reports that a message's Expiry passed before it could be sent.
type ExpiredError struct{ ID MessageID }

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("client: message %v expired before it was sent; raise Expiry if it would still have been of use", e.ID)
}

// SafeToRetry returns false: an earlier process may have sent a message of QoS 1.
func (*ExpiredError) SafeToRetry() bool { return false }

// DamagedError reports that an accepted message was damaged on disk, and is lost.
type DamagedError struct{ persistence.Corruption }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("client: message was damaged on disk at byte %d of %s: %v; publish it again", e.Offset, e.File, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// SafeToRetry returns false: the message may have been sent before it was damaged.
func (*DamagedError) SafeToRetry() bool { return false }

// DrainError reports that Drain ended before everything was acknowledged. With
// Config.Dir the next client goes on with the rest; a store in memory ends here.
type DrainError struct {
	Pending int   // messages that stay in the store
	Cause   error // why it ended: the context's cause, with the last connection error, or a fatal one
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("client: drain ended with %d messages pending: %v; in Config.Dir they wait for the next client", e.Pending, e.Cause)
}

func (e *DrainError) Unwrap() error { return e.Cause }

// SafeToRetry returns false: the store keeps the messages.
func (*DrainError) SafeToRetry() bool { return false }

// SessionError reports that the client has stopped because the server and the store do not know the
// same session, see StrictSession. For errors.Is it is ErrUnknownSession or ErrSessionLost.
type SessionError struct {
	// Present: the server has a session that the store does not know. Otherwise the
	// store knows a session that the server does not have.
	Present bool
	// With the following the client has not connected.
	ClientID  string // not empty: another client, which owns the session in the store
	TakenOver bool   // another client with this ClientID took over the session, and has used it
}

func (e *SessionError) Error() string {
	switch {
	case e.TakenOver:
		return "client: another client with this ClientID took the session over, and has used it; start with CleanStart or ResumeSession to publish what is in the store in a new one"
	case e.ClientID != "":
		return fmt.Sprintf("client: the session in the store is that of the ClientID %q; start with the store that belongs to this one, or with CleanStart or ResumeSession to publish what is in it under this one", e.ClientID)
	case e.Present:
		return "client: the server has a session that the store knows nothing of; start with the store that belongs to it, or with CleanStart to give it up"
	}
	return "client: the server has lost the session that the store goes on with; start with CleanStart or ResumeSession to publish again what is in the store, or look at it first"
}

// Is reports whether target is the sentinel for this error.
func (e *SessionError) Is(target error) bool {
	unknown := e.Present || e.ClientID != "" || e.TakenOver
	return target == ErrUnknownSession && unknown || target == ErrSessionLost && !unknown
}

// refusedError returns a refusal as a *RefusedError.
func refusedError(err error) error {
	if refused := (*subs.RefusedError)(nil); errors.As(err, &refused) {
		return &RefusedError{Code: refused.Code, Reason: refused.Reason}
	}
	if bad := (*wire.Error)(nil); errors.As(err, &bad) {
		return converted(bad)
	}
	return err
}

// fieldError converts an error of package wire's checks.
func fieldError(err error) error {
	if e, ok := err.(*wire.FieldError); ok {
		return (*FieldError)(e)
	}
	return err
}

// notConnected is an ErrNotConnected that names why the last connection or attempt failed; nil: none did.
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
