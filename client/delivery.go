package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// State is what became of a message.
type State uint8

// A message is Pending until exactly one of the others is final.
const (
	Pending      State = iota
	Acked              // the server has it: PUBACK, or PUBCOMP; at QoS 0 it was written to the connection
	Refused            // the server does not want it, and why is in Outcome.Err
	Expired            // its Expiry passed before it could be sent
	Dropped            // given up by a policy (WhenFull, Conflate, FailInFlight), or damaged on disk
	Abandoned          // the client stopped first; a store with Config.Dir has the message, and the next client goes on with it
	DeadLettered       // Refused, and set aside: see Config.Store.DeadLetters
)

var stateNames = [...]string{"pending", "acked", "refused", "expired", "dropped", "abandoned", "dead-lettered"}

// String returns the state's name in lower case.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return stateNames[s]
}

// Outcome is the end of a message's way, as far as the server: whether a
// subscriber got it, or its handler refused it, MQTT does not tell a publisher. Ask
// for an answer with Message.ResponseTopic where that matters.
type Outcome struct {
	State  State
	Reason byte  // the server's reason code
	Err    error // nil if acked; *RefusedError, *PoisonError, *ExpiredError, *DroppedError, *DamagedError, ErrSessionLost or ErrClosed otherwise
}

// Delivery is the promise that Publish makes: its outcome can be awaited,
// looked at, or ignored. It is safe for concurrent use.
type Delivery struct {
	ID MessageID

	timeout time.Duration
	mu      sync.Mutex
	done    chan struct{} // made when someone waits
	outcome Outcome
}

// Done is closed when the outcome is known.
func (d *Delivery) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
		if d.outcome.State != Pending {
			close(d.done)
		}
	}
	return d.done
}

// Outcome is the outcome so far; its State is Pending while it is open.
func (d *Delivery) Outcome() Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.outcome
}

// Wait waits for the outcome, for at most Config.Publishing.WaitTimeout. The error is
// nil if the server has the message and Outcome.Err if it never will. While it
// is still pending the error is ctx's, or a *reliability.TimeoutError, and the
// message goes on: do not publish it again, wait again.
func (d *Delivery) Wait(ctx context.Context) (Outcome, error) {
	if o := d.Outcome(); o.State != Pending {
		return o, o.Err
	}
	if err := reliability.Await(ctx, d.timeout, d.Done()); err != nil {
		return d.Outcome(), err
	}
	o := d.Outcome()
	return o, o.Err
}

// resolve makes the outcome known; only the first call counts.
func (d *Delivery) resolve(o Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outcome.State != Pending {
		return
	}
	d.outcome = o
	if d.done != nil {
		close(d.done)
	}
}
