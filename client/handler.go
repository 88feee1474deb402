package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/inbox"
)

// Handler handles received messages. Messages with the same ordering key (by default the topic) are
// handled one after the other, in order.
//
// The client has ReceivingConfig.Concurrency workers, and each worker has a queue. A hash of the
// ordering key selects the worker, so several keys share a worker. A worker handles one message at a
// time. While a handler runs or waits for its next attempt, all messages in the same queue wait,
// also those of other topics. Messages of other workers are handled meanwhile. The client does not
// limit the duration of a handler. If a call takes longer than ReceivingConfig.SlowHandlerAfter, the
// client reports [HandlerSlow]. A handler should limit each of its steps with a timeout.
//
// A handler accepts a message by returning nil, and the client then acknowledges the message. After
// an error, the client calls the handler again with ReceivingConfig.HandlerBackoff, until it
// accepts the message. A panic counts as an error.
//
// The client sets a message aside after a [Permanent] error, ten panics in a row, or
// HandlerAttempts attempts. To set a message aside, it stores the message in a durable list, see
// [Client.SetAside], and acknowledges it. Without Config.Dir, the client refuses the message
// instead. To refuse a message at once, a handler returns [Refuse].
//
// If several handlers match, they run in the order of declaration. The client counts the attempts
// of each handler separately, and passes each one its own Message.
//
// ctx ends when the client stops. If the handler then returns an error, the message is redelivered.
// A handler may publish, wait for the Delivery (with ctx), subscribe, and close the client. It may
// also publish while Close or Drain waits for it. The client sends acknowledgements in order of
// receipt, so the acknowledgements of all later messages wait for the handler.
type Handler interface {
	Handle(ctx context.Context, m *Message) error
}

// HandlerFunc adapts a function to a Handler.
type HandlerFunc func(ctx context.Context, m *Message) error

func (f HandlerFunc) Handle(ctx context.Context, m *Message) error { return f(ctx, m) }

// Middleware returns a Handler that wraps another one, like a middleware of net/http.
type Middleware func(Handler) Handler

// Refusal is the error of a handler that refuses a message. The client sends Code and Reason to the
// server in PUBACK or PUBREC. The server does not send the message again.
type Refusal struct {
	Code   byte   // 0x80, 0x83, 0x87, 0x90, 0x91, 0x97 or 0x99
	Reason string // reason string, of which the client sends the first 1,024 bytes
}

// Refuse returns an error that refuses a message. A code that is invalid in PUBACK is sent as 0x80
// (Unspecified error).
func Refuse(code byte, reason string) error { return &Refusal{Code: code, Reason: reason} }

func (r *Refusal) Error() string {
	return fmt.Sprintf("message refused with reason code 0x%02X: %s", r.Code, r.Reason)
}

func (r *Refusal) ReasonCode() byte { return r.Code }

// PermanentError is an error of a handler that a retry cannot resolve.
type PermanentError struct{ Err error }

// Permanent returns an error with which a handler makes the client set a message aside at once, see
// [Handler]. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

func (e *PermanentError) Error() string { return "permanent: " + e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// PanicError reports that a function of the application panicked or called runtime.Goexit.
type PanicError struct {
	Value any    // argument of panic
	Stack []byte // stack trace of the goroutine
}

func (e *PanicError) Error() string { return (*callback.Panic)(e).Error() }

// panicError converts a panic that package callback recovered.
func panicError(err error) error {
	if p, ok := err.(*callback.Panic); ok {
		return (*PanicError)(p)
	}
	return err
}

// verdict converts the error of a handler into a Verdict for the inbox.
func verdict(err error) (v inbox.Verdict) {
	var r *Refusal
	if errors.As(err, &r) {
		return inbox.Verdict{Refused: true, Code: r.Code, Reason: r.Reason}
	}
	v.Permanent = errors.As(err, new(*PermanentError))
	v.Panic = errors.As(err, new(*callback.Panic))
	return v
}
