package outbox

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Result is the result of a message.
type Result struct {
	State  State
	Reason byte  // MQTT reason code; of a pending message, the code of the last refusal
	Alone  bool  // the message is pending, ended connections, and is sent alone
	Err    error // nil if pending or acked
}

// Waiter gives access to the result of one message. The zero value is pending. All methods are safe
// for concurrent use.
type Waiter struct {
	results atomic.Pointer[results]
	slot    uint8
}

// Done returns a channel that is closed when the result is final.
func (w *Waiter) Done() <-chan struct{} { return w.get().wait(w.slot) }

// Result returns the current result.
func (w *Waiter) Result() Result {
	if r := w.results.Load(); r != nil {
		return r.read(w.slot)
	}
	return Result{}
}

// Resolve makes r the final result. It has no effect if the result is already final.
func (w *Waiter) Resolve(r Result) {
	if r == (Result{State: Acked}) && w.results.CompareAndSwap(nil, acked) {
		return
	}
	w.get().resolve(w.slot, r)
}

func (w *Waiter) get() *results {
	if r := w.results.Load(); r != nil {
		return r
	}
	w.results.CompareAndSwap(nil, newResults(1))
	return w.results.Load()
}

// acked is the shared result of all messages that were acknowledged before anything waited for
// them. Its channel is created here, because a channel created in one testing/synctest bubble
// cannot be used in another.
var acked = func() *results {
	r := newResults(1)
	r.resolve(0, Result{State: Acked})
	r.wait(0)
	return r
}()

// results holds the results of the messages of one page. The Waiters of the page share it.
type results struct {
	mu    sync.Mutex
	slots []resultSlot
	errs  map[uint8]error
}

type resultSlot struct {
	done   chan struct{} // created by the first call of wait
	state  State
	reason byte
	alone  bool // the message ended connections, and is sent alone
}

func newResults(n int) *results { return &results{slots: make([]resultSlot, n)} }

func (r *results) wait(i uint8) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[i]
	if s.done == nil {
		s.done = make(chan struct{})
		if s.state != Pending {
			close(s.done)
		}
	}
	return s.done
}

func (r *results) read(i uint8) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[i]
	return Result{State: s.state, Reason: s.reason, Alone: s.alone, Err: r.errs[i]}
}

func (r *results) resolve(i uint8, res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[i]
	if s.state != Pending {
		return
	}
	s.state, s.reason, s.alone = res.State, res.Reason, false
	if res.Err != nil {
		if r.errs == nil {
			r.errs = map[uint8]error{}
		}
		r.errs[i] = res.Err
	}
	if s.done != nil {
		close(s.done)
	}
}

// note records the reason code of a pending message that was refused for now.
func (r *results) note(i uint8, code byte, alone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := &r.slots[i]; s.state == Pending {
		s.reason, s.alone = code, alone
	}
}

// End describes how a message ended. Describe makes the application's error of it.
type End struct {
	// ID is zero if it is unknown. That happens for a message of an earlier process, if the store
	// drops it or the server completes its QoS 2 exchange.
	ID       [16]byte
	Topic    string               // empty if ID is unknown or State is Acked
	Priority persistence.Priority // for StoreFull and Replaced
	Limit    string               // name of the limit of the store, for StoreFull; empty if it is unknown
	State    State
	Cause    Cause
	Reason   byte   // MQTT reason code
	Text     string // the server's reason string, for ByServer

	Attempts int // connections that the server ended, for Poison
	// Err is the cause until Describe has run: the store's error for StoreFull, a *DamageError for
	// Damaged. Afterwards it is the application's error.
	Err error

	stored  bool // the store has already ended the message
	excused bool // the breaker does not count the refusal as a failure
}

// Delay describes a refusal after which the message is sent again.
type Delay struct {
	ID       [16]byte
	Topic    string
	Code     byte
	Text     string        // the server's reason string
	Attempts int           // refusals of this message so far
	For      time.Duration // minimum time until the message is sent again
	Alone    bool          // connections ended because of the message
}

// State is the state of a message. It is Pending until exactly one of the other states is final.
// The store has all of these states except Abandoned.
type State uint8

const (
	Pending      State = 0
	Acked              = State(persistence.Acked)
	Refused            = State(persistence.Refused)
	Expired            = State(persistence.Expired)
	Dropped            = State(persistence.Dropped)
	DeadLettered       = State(persistence.DeadLettered)
	Abandoned    State = 6 // the outbox was closed; the message stays in the store
)

// Cause is the reason why a message ended with its State.
type Cause uint8

const (
	ByServer    Cause = iota // the server acknowledged or refused the message, with Reason
	ByLimit                  // the server does not accept such a packet; Reason names the limit
	Poison                   // the server ended Attempts connections because of the message; Reason is the last code
	TimePassed               // the message expired
	StoreFull                // dropped because the store was full
	Replaced                 // replaced by a newer message with the same key
	SessionLost              // the session was lost, and the message must not be sent twice
	Cancelled                // by Cancel
	Damaged                  // the record in the store cannot be read
)

// dropped returns the End of a message that the store has dropped for another one.
func dropped(d persistence.Drop, limit string, other *Draft) End {
	if d.Cause == persistence.Conflated {
		return End{Topic: other.Topic, Priority: d.Priority, State: Dropped, Cause: Replaced, stored: true}
	}
	return End{Priority: d.Priority, Limit: limit, State: Dropped, Cause: StoreFull, Err: persistence.ErrFull, stored: true}
}

// expired returns the End of an expired message.
func expired(e *persistence.Entry) End {
	return End{ID: e.ID, Topic: string(wire.ImageTopic(e.Packet)), State: Expired, Cause: TimePassed}
}

// failsInFlight reports whether e fails if the session is lost in which it was sent. policy applies
// to messages that set no policy.
func failsInFlight(e *persistence.Entry, policy persistence.SessionLostPolicy) bool {
	return cmp.Or(e.OnSessionLost, policy) == persistence.FailInFlight
}

// sessionLost returns the End of a message that fails with its session.
func sessionLost(id [16]byte, topic string) End {
	return End{ID: id, Topic: topic, State: Dropped, Cause: SessionLost}
}

// outcome returns the Result for the Waiter.
func (e End) outcome() Result { return Result{State: e.State, Reason: e.Reason, Err: e.Err} }

// result returns the result that the store records.
func (e End) result() persistence.Result {
	return persistence.Result{Kind: persistence.ResultKind(e.State), Reason: e.Reason}
}

// judged returns the result for the breaker. It is the error if the server refused the message, and
// nil if the server acknowledged it. It is errNotTried if the End is no evidence about the server.
func (e End) judged() error {
	if e.State == Acked || e.Cause == ByServer && !e.excused && (e.State == Refused || e.State == DeadLettered) {
		return e.Err
	}
	return errNotTried
}

// described returns e with the application's error.
func (e End) described(describe func(End) error) End {
	if e.State != Acked {
		e.Err = describe(e)
	}
	return e
}

// errNotTried makes the breaker ignore an attempt. Either the message was not sent, or the
// connection ended first; the reconnect backoff handles broken connections.
var errNotTried = context.Canceled

// UnknownError is the error of Add for a message that the store may have stored or may still store.
// If the store stores it, the message is delivered and its Waiter gets the result.
type UnknownError struct{ Err error }

func (e *UnknownError) Error() string   { return e.Err.Error() }
func (e *UnknownError) Unwrap() error   { return e.Err }
func (*UnknownError) SafeToRetry() bool { return false }

// added is a message that is enqueued in the store.
type added struct {
	ticket     persistence.Ticket
	id         [16]byte
	expiry     time.Duration
	waiter     *Waiter
	end        *End   // set if the message ended before Add registered it
	closed     error  // set if the outbox was closed before
	unnumbered string // the topic, if the message has no number although it should have one
}

// report reports a message that was stored without its number.
func (m *added) report(cfg *Config) {
	if m.unnumbered != "" {
		cfg.Unnumbered(m.id, m.unnumbered)
	}
}

// tookTooLong reports whether err only means that the store took too long.
func tookTooLong(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) || errors.As(err, new(*persistence.StalledError)))
}

// bounded returns a context with which the store bounds its waits. A ctx that cannot end is
// replaced by one that has a Done channel.
func bounded(ctx, forBackground context.Context) context.Context {
	switch {
	case ctx.Done() != nil:
		return ctx
	case ctx == context.Background():
		return forBackground
	}
	return endless{ctx, make(chan struct{})}
}

// endless is a context that never ends but has a Done channel.
type endless struct {
	context.Context
	done chan struct{}
}

func (e endless) Done() <-chan struct{} { return e.done }

// DeferredError is the error of WaitIdle when only deferred messages are left.
type DeferredError struct{ deferral.State }

func (e *DeferredError) Error() string { return "only deferred messages are left" }

// begin sets the fields that the store gets with d, except the number and the packet.
func (d *Draft) begin(s Store) {
	d.Accepted, d.Expires, d.Stream, d.StreamSeq = time.Time{}, time.Time{}, 0, 0
	if d.Expiry > 0 {
		d.Accepted = s.Now()
		d.Expires = d.Accepted.Add(d.Expiry)
	}
}

// unnumbered returns the topic of a message that is stored without its number, or "".
func (d *Draft) unnumbered() string {
	if d.StreamName == "" || d.Stream != 0 {
		return ""
	}
	return d.Topic
}
