// Package slow reports calls of functions that take longer than a threshold.
package slow

import (
	"sync"
	"sync/atomic"
	"time"
)

// Watch watches the calls of several callers. It has one timer, which runs while calls run, at
// intervals of the threshold or less. All methods are safe for concurrent use, except Caller.
type Watch[M any] struct {
	after   time.Duration // the threshold; not positive: the Watch does nothing
	report  func(Call[M])
	callers []*Caller[M]
	armed   atomic.Bool
	stopped atomic.Bool
	timer   *time.Timer
}

// Call describes a call that has not returned.
type Call[M any] struct {
	Message M
	For     time.Duration // since the call began
	Waiting int           // messages that wait for the caller
}

// Caller makes one call at a time.
type Caller[M any] struct {
	watch  *Watch[M]
	queued func() int

	mu    sync.Mutex
	began time.Time     // zero: no call runs
	due   time.Duration // when the call is reported next
	call  Call[M]       // Waiting has the messages that Begin named
}

// New returns a Watch. report is called when a call has taken the threshold, and again at doubled
// intervals.
func New[M any](after time.Duration, report func(Call[M])) *Watch[M] {
	w := &Watch[M]{after: after, report: report}
	w.timer = time.AfterFunc(time.Hour, w.look)
	w.timer.Stop()
	return w
}

// Caller adds a caller, before the first call begins. queued returns how many messages wait for the
// caller, in addition to those that Begin names.
func (w *Watch[M]) Caller(queued func() int) *Caller[M] {
	c := &Caller[M]{watch: w, queued: queued}
	w.callers = append(w.callers, c)
	return c
}

// Begin records that a call for m begins while further messages wait.
func (c *Caller[M]) Begin(m M, waiting int) {
	w := c.watch
	if w.after <= 0 {
		return
	}
	c.mu.Lock()
	c.began, c.due, c.call = time.Now(), w.after, Call[M]{Message: m, Waiting: waiting}
	c.mu.Unlock()
	if !w.armed.Load() && !w.armed.Swap(true) {
		w.timer.Reset(w.after)
	}
}

// End records that the call has returned.
func (c *Caller[M]) End() {
	if c.watch.after <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began, c.call = time.Time{}, Call[M]{}
}

// look reports the calls that take too long.
func (w *Watch[M]) look() {
	next, active := w.after, false
	for _, c := range w.callers {
		call, due, left := c.look()
		if left == 0 {
			continue
		}
		active, next = true, min(next, left)
		if due {
			call.Waiting += c.queued()
			w.report(call)
		}
	}
	if !active {
		w.armed.Store(false) // the next call arms it; check for one that began meanwhile
		if _, longest := w.Running(); longest == 0 || w.armed.Swap(true) {
			return
		}
	}
	if !w.stopped.Load() {
		w.timer.Reset(next)
	}
}

// look returns the call, whether it is reported now, and the time until the next report. The time
// is 0 if no call runs.
func (c *Caller[M]) look() (call Call[M], due bool, left time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		return call, false, 0
	}
	call = c.call
	call.For = time.Since(c.began)
	for call.For >= c.due {
		due = true
		c.due *= 2
	}
	return call, due, c.due - call.For
}

// Running returns the number of calls that have taken the threshold, and the duration of the
// longest call, which is at least 1 ns. Without a call, both are 0.
func (w *Watch[M]) Running() (slow int, longest time.Duration) {
	for _, c := range w.callers {
		c.mu.Lock()
		began := c.began
		c.mu.Unlock()
		if began.IsZero() {
			continue
		}
		took := time.Since(began)
		longest = max(longest, took, 1)
		if took >= w.after {
			slow++
		}
	}
	return slow, longest
}

// Stop stops the reports.
func (w *Watch[M]) Stop() {
	w.stopped.Store(true)
	w.timer.Stop()
}
