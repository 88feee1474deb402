package reliability

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker stops attempts for a while when the broker is in no state to take
// messages: after FailureThreshold failures in a row it opens and lets nothing
// through; RecoveryTimeout later it lets SuccessesToClose attempts through on
// trial; all must succeed for it to close, and the first failure opens it again.
//
// It is github.com/sony/gobreaker/v2 in its two-step form, plus: which failures
// count, slow acknowledgements, and a way to wait without polling. It is safe
// for concurrent use and has no goroutine.
type Breaker struct {
	opts BreakerOptions
	cb   *gobreaker.TwoStepCircuitBreaker[struct{}]
	era  atomic.Pointer[era]

	opened, allowed, rejected, failed, slow atomic.Uint64

	mu       sync.Mutex // after gobreaker's own
	changed  chan struct{}
	retryAt  time.Time    // while open: when trials begin
	news     []transition // for OnStateChange
	telling  bool
	newsLost uint64
}

// era is the time between two changes of state. gobreaker ties a done function
// to the era in which it was made; while the breaker is closed all of them are
// alike, so one is made and shared, and Allow takes no lock.
type era struct {
	state State
	done  atomic.Pointer[func(error)]
}

type transition struct{ from, to State }

// State is the state of a Breaker.
type State uint8

const (
	Closed   State = iota // everything may pass
	HalfOpen              // some may pass, on trial
	Open                  // nothing may pass
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case HalfOpen:
		return "half-open"
	case Open:
		return "open"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// BreakerOptions sets up a Breaker. The zero value is usable.
type BreakerOptions struct {
	FailureThreshold int           // failures in a row that open it; default 5
	RecoveryTimeout  time.Duration // how long it stays open; default 60 s
	SuccessesToClose int           // trials, all of which must succeed; default 3

	// SlowAck, if positive, makes a success that took longer (from Allow to done)
	// count as a failure: a broker that answers after 20 s is as good as down.
	SlowAck time.Duration

	// Judge says what an error means; default [Judge]. It is not asked about nil.
	Judge func(error) Outcome

	// OnStateChange, if set, is told of each change, one at a time and in order,
	// without a lock held, by whichever call brought the change about or learnt
	// of it. It may use the breaker.
	OnStateChange func(from, to State)
}

// OpenError says that the breaker lets nothing through now. What was accepted
// durably stays on disk and is sent when the breaker closes.
type OpenError struct {
	// RetryAfter is how long it takes until trials begin. 0 means that trials are
	// running and their number is taken: what comes of them is not known yet.
	RetryAfter time.Duration
}

// Error says when to try again.
func (e *OpenError) Error() string {
	if e.RetryAfter == 0 {
		return "reliability: circuit breaker is half-open and its trials are taken; call Wait, or publish durably"
	}
	return fmt.Sprintf("reliability: circuit breaker is open; try again in %v, call Wait, or publish durably", e.RetryAfter)
}

// What gobreaker is told; the judging is done before, without its lock.
var (
	errFailed  = errors.New("failed")
	errIgnored = errors.New("ignored")
)

// NewBreaker returns a closed breaker.
func NewBreaker(o BreakerOptions) *Breaker {
	if o.FailureThreshold <= 0 {
		o.FailureThreshold = 5
	}
	if o.RecoveryTimeout <= 0 {
		o.RecoveryTimeout = time.Minute
	}
	if o.SuccessesToClose <= 0 {
		o.SuccessesToClose = 3
	}
	if o.Judge == nil {
		o.Judge = Judge
	}
	b := &Breaker{opts: o, changed: make(chan struct{})}
	b.era.Store(&era{state: Closed})
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   clampUint32(o.SuccessesToClose),
		Timeout:       o.RecoveryTimeout,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int64(c.ConsecutiveFailures) >= int64(o.FailureThreshold) },
		OnStateChange: b.onChange,
		IsExcluded:    func(err error) bool { return err == errIgnored },
	})
	return b
}

// Allow asks whether an attempt may be made. If so, done must be called exactly
// once with what came of it, also when it was given up: a trial that never
// reports keeps its place. Otherwise the error is [*OpenError].
func (b *Breaker) Allow() (done func(error), err error) {
	now := b.era.Load()
	inner := now.done.Load()
	if inner == nil {
		if inner, err = b.ask(now); err != nil {
			b.rejected.Add(1)
			return nil, err
		}
	}
	b.allowed.Add(1)
	finish := *inner
	if b.opts.SlowAck <= 0 {
		return func(err error) { b.finish(finish, err, time.Time{}) }, nil
	}
	start := time.Now()
	return func(err error) { b.finish(finish, err, start) }, nil
}

// ask asks gobreaker, and keeps its answer for the rest of a closed era.
func (b *Breaker) ask(now *era) (*func(error), error) {
	inner, err := b.cb.Allow()
	b.tell()
	if err != nil {
		return nil, &OpenError{RetryAfter: b.retryAfter()}
	}
	// If the era did not change meanwhile, inner belongs to it.
	if now.state == Closed && b.era.Load() == now {
		now.done.Store(&inner)
	}
	return &inner, nil
}

func (b *Breaker) finish(inner func(error), err error, start time.Time) {
	switch {
	case err != nil:
		switch b.opts.Judge(err) {
		case Failed:
			b.failed.Add(1)
			err = errFailed
		case Ignored:
			err = errIgnored
		default:
			err = nil
		}
	case !start.IsZero() && time.Since(start) > b.opts.SlowAck:
		b.slow.Add(1)
		err = errFailed
	}
	inner(err)
	if b.era.Load().state == HalfOpen {
		b.wake() // the trial's place may be free again
	}
	b.tell()
}

// onChange runs under gobreaker's lock.
func (b *Breaker) onChange(_ string, from, to gobreaker.State) {
	t := transition{stateOf(from), stateOf(to)}
	b.era.Store(&era{state: t.to})
	b.mu.Lock()
	if t.to == Open {
		b.opened.Add(1)
		// gobreaker's time is a little earlier than this, and it wants it to have
		// passed, not just come.
		b.retryAt = time.Now().Add(b.opts.RecoveryTimeout).Add(1)
	}
	if b.opts.OnStateChange != nil {
		if len(b.news) < maxNews {
			b.news = append(b.news, t)
		} else {
			b.newsLost++
		}
	}
	b.mu.Unlock()
	b.wake()
}

// maxNews bounds what waits for a slow OnStateChange.
const maxNews = 128

// tell tells OnStateChange what happened, one caller at a time.
func (b *Breaker) tell() {
	if b.opts.OnStateChange == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.telling {
		return // whoever tells will come to it
	}
	b.telling = true
	defer func() { b.telling = false }()
	for len(b.news) > 0 {
		t := b.news[0]
		b.news = b.news[1:]
		b.tellOne(t)
	}
}

func (b *Breaker) tellOne(t transition) {
	b.mu.Unlock()
	defer b.mu.Lock()
	b.opts.OnStateChange(t.from, t.to)
}

func (b *Breaker) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// State returns the state now.
func (b *Breaker) State() State {
	s := stateOf(b.cb.State())
	b.tell()
	return s
}

// Wait returns nil when Allow may succeed: at once when the breaker is closed or
// has a trial to give. Others may be faster, so loop over Allow and Wait. It
// returns the cause of ctx when that ends first. It does not poll.
func (b *Breaker) Wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		changed := b.changed // before looking, so as not to miss what follows
		b.mu.Unlock()

		var timer *time.Timer
		var due <-chan time.Time
		switch b.State() {
		case Closed:
			return nil
		case HalfOpen:
			if b.trialFree() {
				return nil
			}
		case Open:
			timer = time.NewTimer(b.retryAfter())
			due = timer.C
		}
		err := error(nil)
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return err
		}
	}
}

// RetryAfter returns how long it takes until trials begin: 0 unless the breaker
// is open.
func (b *Breaker) RetryAfter() time.Duration {
	if b.State() != Open {
		return 0
	}
	return b.retryAfter()
}

// retryAfter is at least 1 ns while the breaker is open, and 0 otherwise.
func (b *Breaker) retryAfter() time.Duration {
	if b.era.Load().state != Open {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(1, time.Until(b.retryAt))
}

func (b *Breaker) trialFree() bool {
	c := b.cb.Counts()
	return int64(c.Requests)-int64(c.TotalExclusions) < int64(b.opts.SuccessesToClose)
}

// BreakerStats counts since NewBreaker.
type BreakerStats struct {
	Allowed  uint64 // attempts let through
	Rejected uint64 // attempts answered with OpenError
	Failed   uint64 // outcomes that counted against the broker
	Slow     uint64 // successes that counted as failures for being slow
	Opened   uint64 // times it opened
	Untold   uint64 // changes not reported because OnStateChange was too slow
}

// Stats returns a snapshot of the counters.
func (b *Breaker) Stats() BreakerStats {
	b.mu.Lock()
	untold := b.newsLost
	b.mu.Unlock()
	return BreakerStats{
		Allowed: b.allowed.Load(), Rejected: b.rejected.Load(), Failed: b.failed.Load(),
		Slow: b.slow.Load(), Opened: b.opened.Load(), Untold: untold,
	}
}

func stateOf(s gobreaker.State) State {
	switch s {
	case gobreaker.StateOpen:
		return Open
	case gobreaker.StateHalfOpen:
		return HalfOpen
	default:
		return Closed
	}
}

func clampUint32(n int) uint32 { return uint32(min(uint64(n), 1<<32-1)) }
