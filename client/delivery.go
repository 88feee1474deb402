package client

import (
	"cmp"
	"context"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// State is what became of a message.
type State uint8

// A message is Pending until exactly one of the others is final.
const (
	Pending      State = iota
	Acked              // the server acknowledged it (PUBACK or PUBCOMP); at QoS 0 it was handed to the connection
	Refused            // the server does not accept it; Outcome.Err has the reason
	Expired            // its Expiry passed before it was sent
	Dropped            // dropped by a policy (WhenFull, Conflate, FailInFlight), or damaged on disk
	DeadLettered       // Refused, and kept: see Config.Store.DeadLetters
	Abandoned          // the client was closed first; with Config.Dir the next client delivers it
)

// The states are those of the outbox and, but for Abandoned, of the store.
var _ = [1]struct{}{}[Abandoned-State(outbox.Abandoned)+DeadLettered-State(persistence.DeadLettered)]

// String returns the state's name in lower case.
func (s State) String() string {
	return nameOf(s, "state", "pending", "acked", "refused", "expired", "dropped", "dead-lettered", "abandoned")
}

// Outcome is the result of publishing a message to the server. MQTT does not report
// to a publisher whether a subscriber received or refused it. To know that, ask for a
// response with Message.ResponseTopic.
type Outcome struct {
	State  State
	Reason byte  // the server's reason code; while pending, that of the last refusal
	Err    error // nil if acked; otherwise *RefusedError, *PoisonError, *ExpiredError, *DroppedError, *DamagedError, ErrSessionLost or ErrClosed
}

// Delivery gives access to the outcome of one published message. It may be ignored.
// QoS 0 messages without ID share one.
// All methods are safe for concurrent use.
type Delivery struct {
	ID MessageID

	timeout time.Duration
	waiter  outbox.Waiter
}

// Done returns a channel that is closed when the outcome is final.
func (d *Delivery) Done() <-chan struct{} { return d.waiter.Done() }

// Outcome returns the outcome so far. Its State is Pending until it is final.
func (d *Delivery) Outcome() Outcome {
	r := d.waiter.Result()
	return Outcome{State: State(r.State), Reason: r.Reason, Err: r.Err}
}

// Wait waits for the outcome, for at most Config.Publishing.WaitTimeout. The error is
// nil if the server has the message, and Outcome.Err if it never will. If the message
// is still pending, the error is the cause of ctx or a *reliability.TimeoutError, in a
// *DeferredError if the server refuses the message for now, and the client goes on to
// deliver it: do not publish it again, wait again.
func (d *Delivery) Wait(ctx context.Context) (Outcome, error) {
	var err error
	if d.Outcome().State == Pending {
		err = reliability.Await(ctx, d.timeout, d.Done())
	}
	o := d.Outcome()
	if o.State == Pending && o.Reason != 0 {
		err = &DeferredError{Messages: 1, Code: o.Reason, Err: err}
	}
	return o, cmp.Or(err, o.Err)
}

// endError returns the error of a message that ended without an acknowledgement.
func endError(e outbox.End) error {
	id := MessageID(e.ID)
	switch e.Cause {
	case outbox.ByServer:
		return &RefusedError{Code: e.Reason, Reason: e.Text}
	case outbox.ByLimit:
		return limitError(e.Reason)
	case outbox.Poison:
		return &PoisonError{ID: id, Attempts: e.Attempts, Code: e.Reason}
	case outbox.TimePassed:
		return &ExpiredError{ID: id}
	case outbox.StoreFull:
		return &DroppedError{ID: id, Cause: e.Err}
	case outbox.Replaced:
		return &DroppedError{ID: id, Cause: ErrConflated}
	case outbox.Cancelled:
		return &DroppedError{ID: id, Cause: ErrCancelled}
	case outbox.SessionLost:
		return ErrSessionLost
	}
	return e.Err // outbox.Damaged: a *DamagedError
}
