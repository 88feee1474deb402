package client

import (
	"cmp"
	"context"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// State is the state of a published message.
type State uint8

// A message is first Pending. Later it gets exactly one of the other states, and keeps that state.
const (
	Pending      State = iota
	Acked              // acknowledged by the server (PUBACK or PUBCOMP), or at QoS 0 passed to the connection
	Refused            // refused by the server; Outcome.Err contains the reason
	Expired            // the message expired before it was sent
	Dropped            // dropped by a policy (WhenFull, Conflate, FailInFlight) or by Cancel, or damaged on disk
	DeadLettered       // refused by the server, and kept as a dead letter, see Config.Store.DeadLetters
	Abandoned          // the client closed before the message was delivered; with Config.Dir the next client delivers it
)

// These values equal those of the outbox and, except for Abandoned, of the store.
var _ = [1]struct{}{}[Abandoned-State(outbox.Abandoned)+DeadLettered-State(persistence.DeadLettered)]

// String returns the state's name in lower case.
func (s State) String() string {
	return nameOf(s, "state", "pending", "acked", "refused", "expired", "dropped", "dead-lettered", "abandoned")
}

// Outcome is the result of publishing a message to the server. MQTT does not report whether a
// subscriber received or refused the message. To learn whether a subscriber received it, request a
// response with Message.ResponseTopic.
type Outcome struct {
	State  State
	Reason byte  // the server's reason code; while the message is pending, that of the last refusal
	Err    error // nil if the message is pending or acked, or else a *RefusedError, *PoisonError, *ExpiredError, *DroppedError, *DamagedError, ErrSessionLost or ErrClosed
}

// Delivery reports the outcome of one published message. The application may ignore the Delivery.
// All QoS 0 messages without an ID share one Delivery. All methods are safe for concurrent use.
type Delivery struct {
	ID MessageID

	timeout time.Duration
	waiter  outbox.Waiter
}

// Done returns a channel that is closed when the outcome is final.
func (d *Delivery) Done() <-chan struct{} { return d.waiter.Done() }

// Outcome returns the outcome as it is now. The field State is Pending until the outcome is final.
func (d *Delivery) Outcome() Outcome {
	r := d.waiter.Result()
	return Outcome{State: State(r.State), Reason: r.Reason, Err: r.Err}
}

// Wait waits for the outcome, up to Config.Publishing.WaitTimeout. If the outcome is Acked, the
// error is nil. After any other final outcome, the error is Outcome.Err.
//
// If the message is still pending, the error is the cause of ctx or a *reliability.TimeoutError. If
// the server refuses the message for now, Wait wraps that error in a *DeferredError. The client
// continues to deliver the message: call Wait again, and do not publish the message again.
func (d *Delivery) Wait(ctx context.Context) (Outcome, error) {
	var err error
	if d.Outcome().State == Pending {
		err = reliability.Await(ctx, d.timeout, d.Done())
	}
	o := d.Outcome()
	if alone := d.waiter.Result().Alone; o.State == Pending && (o.Reason != 0 || alone) {
		err = &DeferredError{Messages: 1, Code: o.Reason, Err: err, alone: alone}
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
