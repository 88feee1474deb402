package reliability

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker is a circuit breaker. It stops attempts for some time when the server cannot accept
// messages. It opens after FailureThreshold consecutive failures, and then allows no attempt. After
// RecoveryTimeout it is half-open, and allows SuccessesToClose trial attempts. If all trials
// succeed, the breaker closes. If one trial fails, the breaker opens again. A Breaker is safe for
// concurrent use.
//
// Breaker uses the two-step circuit breaker of github.com/sony/gobreaker/v2. It adds four
// features: a Judge for errors, a limit for slow acknowledgements, the time of the next trial, and
// an OnStateChange that may call the breaker.
type Breaker struct {
	opts  BreakerOptions
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}]
	phase atomic.Pointer[phase]

	opened, allowed, rejected, failed, slow atomic.Uint64

	reporting sync.Mutex   // held while OnStateChange runs
	reported  atomic.Int32 // the State with which OnStateChange was last called
}

// phase is the time between two changes of state.
type phase struct {
	state   State
	retryAt time.Time // the time at which trials begin, if the breaker is open
	// done records the result of an attempt. All attempts of a closed phase share it, so that Allow
	// takes no lock and allocates nothing.
	done atomic.Pointer[func(error)]
}

// State is the state of a Breaker.
type State uint8

const (
	Closed   = State(gobreaker.StateClosed)   // allows all attempts
	HalfOpen = State(gobreaker.StateHalfOpen) // allows trials
	Open     = State(gobreaker.StateOpen)     // allows no attempt
)

// String returns the name of the state.
func (s State) String() string { return gobreaker.State(s).String() }

// BreakerOptions configures a Breaker. The zero value is usable.
type BreakerOptions struct {
	FailureThreshold int           // number of consecutive failures that open the breaker; default: 5
	RecoveryTimeout  time.Duration // how long the breaker stays open; default: 60 s
	SuccessesToClose int           // number of trials; all of them must succeed to close the breaker; default: 3
	// SlowAck is the longest time from Allow to a result that counts as a success. A later success
	// counts as a failure. Default: 0, which means no limit.
	SlowAck time.Duration

	// Judge decides whether an error counts as a failure. It is not called with a nil error.
	// Default: the function [Judge].
	Judge func(error) Judgment
	// OnStateChange is called after the state has changed. Calls do not overlap. The function may
	// call the breaker. If the state changes several times during a call, the breaker reports only
	// the last change. Default: nil.
	OnStateChange func(from, to State)
}

// OpenError is the error that Allow returns while the breaker blocks attempts.
type OpenError struct {
	// RetryAfter is the time until trials begin. It is 0 if the breaker is half-open and all trials
	// are in use.
	RetryAfter time.Duration
}

// Error returns the error text, which names the time of the next attempt.
func (e *OpenError) Error() string {
	if e.RetryAfter == 0 {
		return "reliability: circuit breaker is half-open and its trials are taken; try again later, or publish with QoS 1 or 2"
	}
	return fmt.Sprintf("reliability: circuit breaker is open; try again in %v, or publish with QoS 1 or 2", e.RetryAfter)
}

// SafeToRetry returns true, because no attempt was made.
func (*OpenError) SafeToRetry() bool { return true }

// Results that the breaker passes to gobreaker. The breaker calls Judge before it calls gobreaker,
// so Judge runs without the lock of gobreaker.
var errSlow, errIgnored = errors.New("slow"), errors.New("ignored")

// NewBreaker returns a closed breaker.
func NewBreaker(o BreakerOptions) *Breaker {
	o.FailureThreshold = cmp.Or(max(0, o.FailureThreshold), 5)
	o.RecoveryTimeout = cmp.Or(max(0, o.RecoveryTimeout), time.Minute)
	o.SuccessesToClose = cmp.Or(max(0, o.SuccessesToClose), 3)
	if o.Judge == nil {
		o.Judge = Judge
	}
	b := &Breaker{opts: o}
	b.phase.Store(&phase{state: Closed})
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(min(uint64(o.SuccessesToClose), math.MaxUint32)),
		Timeout:       o.RecoveryTimeout,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int64(c.ConsecutiveFailures) >= int64(o.FailureThreshold) },
		OnStateChange: b.changed,
		IsExcluded:    func(err error) bool { return err == errIgnored },
	})
	return b
}

// Allow asks the breaker for permission to make an attempt. The error is nil or [*OpenError]. If
// the error is nil, the caller must call done exactly once with the result of the attempt. This is
// also required if the caller has made no attempt, because a trial without a result stays in use.
func (b *Breaker) Allow() (done func(error), err error) {
	now := b.phase.Load()
	result := now.done.Load()
	if result == nil {
		if result, err = b.ask(now); err != nil {
			b.rejected.Add(1)
			return nil, err
		}
	}
	b.allowed.Add(1)
	if b.opts.SlowAck <= 0 {
		return *result, nil
	}
	start := time.Now()
	return func(err error) {
		if err == nil && time.Since(start) > b.opts.SlowAck {
			err = errSlow
		}
		(*result)(err)
	}, nil
}

// ask requests permission from gobreaker. While the breaker is closed, later calls of Allow reuse
// the function done of this answer.
func (b *Breaker) ask(now *phase) (*func(error), error) {
	inner, err := b.cb.Allow()
	b.report()
	if err != nil {
		return nil, &OpenError{RetryAfter: b.phase.Load().retryAfter()}
	}
	done := func(err error) {
		inner(b.judge(err))
		b.report()
	}
	// If the phase has not changed, inner belongs to this phase.
	if now.state == Closed && b.phase.Load() == now {
		now.done.Store(&done)
	}
	return &done, nil
}

func (b *Breaker) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case err == errSlow:
		b.slow.Add(1)
		return err
	}
	switch b.opts.Judge(err) {
	case Failed:
		b.failed.Add(1)
		return err
	case Ignored:
		return errIgnored
	}
	return nil
}

// changed is called by gobreaker, which holds its lock.
func (b *Breaker) changed(_ string, _, to gobreaker.State) {
	p := &phase{state: State(to)}
	if p.state == Open {
		b.opened.Add(1)
		// gobreaker has read the clock earlier. It allows trials only after this time, so add 1 ns.
		p.retryAt = time.Now().Add(b.opts.RecoveryTimeout).Add(1)
	}
	b.phase.Store(p)
}

// report calls OnStateChange with the present state. If the state changes during the call, report
// calls OnStateChange again. If another goroutine is already in report, that goroutine also reports
// this change. It checks the state again after it has unlocked reporting.
func (b *Breaker) report() {
	for b.opts.OnStateChange != nil && b.phase.Load().state != State(b.reported.Load()) && b.reporting.TryLock() {
		b.reportOne()
	}
}

func (b *Breaker) reportOne() {
	defer b.reporting.Unlock()
	to := b.phase.Load().state
	if from := State(b.reported.Swap(int32(to))); from != to {
		b.opts.OnStateChange(from, to)
	}
}

// State returns the present state.
func (b *Breaker) State() State {
	s := State(b.cb.State())
	b.report()
	return s
}

// RetryAfter returns the time until the breaker allows trials. It returns 0 if the breaker is not
// open.
func (b *Breaker) RetryAfter() time.Duration {
	if b.phase.Load().state != Closed {
		b.State() // the breaker may have become half-open
	}
	return b.phase.Load().retryAfter()
}

// retryAfter returns at least 1 ns while the breaker is open.
func (p *phase) retryAfter() time.Duration {
	if p.state != Open {
		return 0
	}
	return max(1, time.Until(p.retryAt))
}

// BreakerStats are counters since NewBreaker.
type BreakerStats struct {
	Allowed  uint64 // attempts that the breaker allowed
	Rejected uint64 // attempts that the breaker rejected with OpenError
	Failed   uint64 // results that counted as failures
	Slow     uint64 // successes that counted as failures because they were slow
	Opened   uint64 // how many times the breaker opened
}

// Stats returns a snapshot of the counters.
func (b *Breaker) Stats() BreakerStats {
	return BreakerStats{b.allowed.Load(), b.rejected.Load(), b.failed.Load(), b.slow.Load(), b.opened.Load()}
}

// Judgment tells a [Breaker] how to count the result of an attempt.
type Judgment uint8

const (
	Succeeded Judgment = iota // the result counts as a success
	Failed                    // the result counts as a failure
	Ignored                   // the result does not count
)

// ReasonCoder is an error with an MQTT reason code.
type ReasonCoder interface {
	error
	ReasonCode() byte
}

// Judge is the default of BreakerOptions.Judge. A nil error is a success. An error with a reason
// code is a failure if [Class.Counts] is true for the class of the code. If Counts is false, Judge
// ignores the error. Judge also ignores an error that wraps context.Canceled. All other errors,
// such as a lost connection or a [*TimeoutError], are failures.
func Judge(err error) Judgment {
	if err == nil {
		return Succeeded
	}
	var coded ReasonCoder
	if errors.As(err, &coded) {
		switch class := Classify(coded.ReasonCode()); {
		case class == Success:
			return Succeeded
		case class.Counts():
			return Failed
		}
		return Ignored
	}
	if errors.Is(err, context.Canceled) {
		return Ignored
	}
	return Failed
}
