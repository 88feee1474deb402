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

// Result is what became of a message.
type Result struct {
	State  State
	Reason byte  // MQTT reason code; of a pending message, that of the last refusal
	Err    error // nil if pending or acked
}

// Waiter is where the result of one message can be read and awaited. The zero
// value is pending. All methods are safe for concurrent use.
type Waiter struct {
	results atomic.Pointer[results]
	slot    uint8
}

// Done returns a channel that is closed when the result is final.
func (w *Waiter) Done() <-chan struct{} { return w.get().wait(w.slot) }

// Result returns the result so far.
func (w *Waiter) Result() Result {
	if r := w.results.Load(); r != nil {
		return r.read(w.slot)
	}
	return Result{}
}

// Resolve makes r final, unless another result is.
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

// acked is the result of all messages that were acknowledged before anybody could wait. Its channel is made
// here, because a channel that is made in a bubble of testing/synctest is of no use in another.
var acked = func() *results {
	r := newResults(1)
	r.resolve(0, Result{State: Acked})
	r.wait(0)
	return r
}()

// results are the results of the messages of one page: its Waiters share them.
type results struct {
	mu    sync.Mutex
	slots []resultSlot
	errs  map[uint8]error
}

type resultSlot struct {
	done   chan struct{} // made when somebody waits
	state  State
	reason byte
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
	return Result{State: s.state, Reason: s.reason, Err: r.errs[i]}
}

func (r *results) resolve(i uint8, res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[i]
	if s.state != Pending {
		return
	}
	s.state, s.reason = res.State, res.Reason
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

// note keeps the reason code of a message that is pending and was refused for now.
func (r *results) note(i uint8, code byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := &r.slots[i]; s.state == Pending {
		s.reason = code
	}
}

// End is the end of one message, in the facts that its error is made of.
type End struct {
	// ID is zero if it is not known: an earlier process accepted the message, and the
	// store drops it, or the server completes its QoS 2 exchange.
	ID     [16]byte
	Topic  string // empty if it is not known, as with ID, and if State is Acked
	State  State
	Cause  Cause
	Reason byte   // MQTT reason code
	Text   string // the server's reason string, with ByServer

	Attempts int // connections that the server ended, with Poison
	// Err is the cause until Describe has run: the store's error with StoreFull, a
	// *DamageError with Damaged. Then it is the application's error.
	Err error

	stored  bool // the store has ended the message itself
	excused bool // the refusal is no failure for the breaker
}

// Delay is the refusal of one message for now.
type Delay struct {
	ID       [16]byte
	Topic    string
	Code     byte
	Text     string        // the server's reason string
	Attempts int           // refusals of this message
	For      time.Duration // until it is sent again, at the earliest
	Alone    bool          // connections ended over it
}

// State is what became of a message: Pending until exactly one of the others is
// final. All but Abandoned are the store's.
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

// Cause is why a message ended with its State.
type Cause uint8

const (
	ByServer    Cause = iota // acknowledged, with Reason
	ByLimit                  // the server does not accept such a packet, as Reason says
	Poison                   // the server ended Attempts connections over it, at last with Reason
	TimePassed               // it expired
	StoreFull                // dropped to make room, or for lack of it
	Replaced                 // replaced by a newer message with the same key
	SessionLost              // its session was lost, and it is not to be sent twice
	Cancelled                // by Cancel
	Damaged                  // its record cannot be read
)

// dropped is the End of a message that the store has dropped for another one.
func dropped(d persistence.Drop, other *Draft) End {
	if d.Cause == persistence.Conflated {
		return End{Topic: other.Topic, State: Dropped, Cause: Replaced, stored: true}
	}
	return End{State: Dropped, Cause: StoreFull, Err: persistence.ErrFull, stored: true}
}

// expired is the End of a message whose time has passed.
func expired(e *persistence.Entry) End {
	return End{ID: e.ID, Topic: string(wire.ImageTopic(e.Packet)), State: Expired, Cause: TimePassed}
}

// failsInFlight reports whether e fails with the session that it was sent in. policy is
// for messages that do not choose.
func failsInFlight(e *persistence.Entry, policy persistence.SessionLostPolicy) bool {
	return cmp.Or(e.OnSessionLost, policy) == persistence.FailInFlight
}

// sessionLost is the End of a message that fails with its session.
func sessionLost(id [16]byte, topic string) End {
	return End{ID: id, Topic: topic, State: Dropped, Cause: SessionLost}
}

// outcome is what the Waiter gets.
func (e End) outcome() Result { return Result{State: e.State, Reason: e.Reason, Err: e.Err} }

// result is what the store records.
func (e End) result() persistence.Result {
	return persistence.Result{Kind: persistence.ResultKind(e.State), Reason: e.Reason}
}

// judged returns what the breaker hears: the error of a message that was sent and refused, nil if
// it was acknowledged, errNotTried if the End says nothing about the server, or a connection has ended.
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

// errNotTried makes the breaker ignore an attempt: it was not made, or the connection
// ended first. Broken links are the reconnect backoff's business.
var errNotTried = context.Canceled

// UnknownError is the error of Add for a message that the store may have stored, or may still store. Then it
// is delivered, and its Waiter gets the result.
type UnknownError struct{ Err error }

func (e *UnknownError) Error() string   { return e.Err.Error() }
func (e *UnknownError) Unwrap() error   { return e.Err }
func (*UnknownError) SafeToRetry() bool { return false }

// added is a message that has its place in the store.
type added struct {
	ticket     persistence.Ticket
	id         [16]byte
	expiry     time.Duration
	waiter     *Waiter
	end        *End   // it has ended before Add has registered it
	closed     error  // the outbox was closed before
	unnumbered string // its topic, if it has no number although it should; empty: it has
}

// report reports a message that was stored without a number.
func (m *added) report(cfg *Config) {
	if m.unnumbered != "" {
		cfg.Unnumbered(m.id, m.unnumbered)
	}
}

// tookTooLong reports whether err only says that the store has taken too long.
func tookTooLong(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) || errors.As(err, new(*persistence.StalledError)))
}

// bounded returns ctx, or an endless one in its place, with which the store bounds its waits.
func bounded(ctx, forBackground context.Context) context.Context {
	switch {
	case ctx.Done() != nil:
		return ctx
	case ctx == context.Background():
		return forBackground
	}
	return endless{ctx, make(chan struct{})}
}

// endless is a context that does not end but could.
type endless struct {
	context.Context
	done chan struct{}
}

func (e endless) Done() <-chan struct{} { return e.done }

// DeferredError is the error of WaitIdle when only deferred messages are left.
type DeferredError struct{ deferral.State }

func (e *DeferredError) Error() string { return "only deferred messages are left" }

// begin sets what the store gets with d, but for its number and its packet.
func (d *Draft) begin(s Store) {
	d.Accepted, d.Expires, d.Stream, d.StreamSeq = time.Time{}, time.Time{}, 0, 0
	if d.Expiry > 0 {
		d.Accepted = s.Now()
		d.Expires = d.Accepted.Add(d.Expiry)
	}
}

// unnumbered returns the topic of a message that is stored without the number that it was to have, or "".
func (d *Draft) unnumbered() string {
	if d.StreamName == "" || d.Stream != 0 {
		return ""
	}
	return d.Topic
}
