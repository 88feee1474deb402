package client

import (
	"context"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// Handler handles received messages. Messages with the same ordering key (by default
// the topic) are handled one after the other, in order; others in parallel.
//
// Returning nil accepts the message, and only then is it acknowledged. After an error the message is
// handled again, after ReceivingConfig.HandlerBackoff, until it is accepted. [Permanent] and ten panics
// in a row set it aside at once, HandlerAttempts after a number of attempts: the client keeps it in a
// durable list, see [Client.SetAside], and acknowledges it. Without Config.Dir it is refused instead.
// [Refuse] refuses at once. A panic is an error. Where several handlers match, they run in the order of
// declaration, each with its own attempts and its own Message.
//
// ctx ends when the client stops; a message whose handler then returns an error is redelivered. A
// handler may publish, wait for the Delivery (with ctx), subscribe, and close the client. While it
// runs or waits for its next attempt, messages in the same queue and the acknowledgements of all
// later messages wait.
type Handler interface {
	Handle(ctx context.Context, m *Message) error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, m *Message) error

func (f HandlerFunc) Handle(ctx context.Context, m *Message) error { return f(ctx, m) }

// Middleware wraps a Handler, as in net/http.
type Middleware func(Handler) Handler

// Refusal is an error of a handler that refuses a message. The server receives it in
// PUBACK or PUBREC, and does not send the message again.
type Refusal struct {
	Code   byte   // 0x80, 0x83, 0x87, 0x90, 0x91, 0x97 or 0x99
	Reason string // reason string; up to 1,024 bytes of it are sent
}

// Refuse returns an error that refuses a message. A code that is not valid in PUBACK
// is sent as 0x80, Unspecified error.
func Refuse(code byte, reason string) error { return &Refusal{Code: code, Reason: reason} }

func (r *Refusal) Error() string {
	return fmt.Sprintf("message refused with reason code 0x%02X: %s", r.Code, r.Reason)
}

func (r *Refusal) ReasonCode() byte { return r.Code }

// PermanentError is an error of a handler that no later attempt can change.
type PermanentError struct{ Err error }

// Permanent returns an error that sets a message aside at once, see [Handler]. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

func (e *PermanentError) Error() string { return "permanent: " + e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// PanicError reports a panic of a function of the application, or a runtime.Goexit in it.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // of the goroutine, as text
}

func (e *PanicError) Error() string { return (*callback.Panic)(e).Error() }

// panicError converts a panic that package callback has recovered.
func panicError(err error) error {
	if p, ok := err.(*callback.Panic); ok {
		return (*PanicError)(p)
	}
	return err
}
