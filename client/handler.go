package client

import (
	"context"
	"fmt"
	"strings"
)

// Handler handles received messages. Messages with the same lane key (by
// default the topic) are handled one after the other, in order; others in
// parallel.
//
// Returning nil accepts the message: only then is it acknowledged. An error
// has it handled again, up to Config.Receiving.HandlerAttempts times, and then refused;
// [Refuse] refuses at once. Where several handlers match they run in the order
// they were declared, and one that accepted the message does not get it again.
//
// ctx ends when the client stops; a message whose handler then returns an error
// stays with the server and comes again. A handler may publish, wait for the
// Delivery (with ctx), subscribe, and close the client. It holds up its lane
// meanwhile, and the acknowledgements of all messages that came later.
type Handler interface {
	Handle(ctx context.Context, m *Message) error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, m *Message) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, m *Message) error { return f(ctx, m) }

// Middleware wraps a Handler, as in net/http.
type Middleware func(Handler) Handler

// chain wraps h so that the first middleware sees the message first.
func chain(h Handler, mw []Middleware) Handler {
	for i := len(mw) - 1; i >= 0; i-- {
		h = mw[i](h)
	}
	return h
}

// Refusal is a handler's decision not to take a message. It is sent to the
// server as reason code of PUBACK or PUBREC, and the message does not come
// again.
type Refusal struct {
	Code   byte   // 0x80, 0x83, 0x87, 0x90, 0x91, 0x97 or 0x99
	Reason string // reason string; up to 1,024 bytes of it are sent
}

// Refuse returns an error that refuses a message. A code that PUBACK does not
// know is sent as 0x80, Unspecified error.
func Refuse(code byte, reason string) error { return &Refusal{Code: code, Reason: reason} }

func (r *Refusal) Error() string {
	return fmt.Sprintf("message refused with reason code 0x%02X: %s", r.Code, r.Reason)
}

// code is the reason code as it may be sent.
func (r *Refusal) code() byte {
	switch r.Code {
	case 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99:
		return r.Code
	}
	return 0x80
}

// maxReason bounds a reason string, in bytes.
const maxReason = 1024

// text is the reason string as it may be sent [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func (r *Refusal) text() string {
	text := strings.ReplaceAll(strings.ToValidUTF8(r.Reason, "\uFFFD"), "\x00", "")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// PanicError is a panic in a handler, recovered.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // of the goroutine, as text
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("client: handler panicked: %v; PanicError.Stack says where", e.Value)
}
