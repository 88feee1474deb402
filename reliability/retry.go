package reliability

import (
	"cmp"
	"sync"
	"time"
)

// Retry counts failed attempts and computes the delay before the next one. A server may accept
// connections and close them at once, so the count is only reset after a connection has been up for
// Stable. Call Up, serve the connection, call Down, and wait for Next before the next attempt. The
// zero value is usable. A Retry must not be copied after first use. It is safe for concurrent use.
type Retry struct {
	Backoff Backoff
	Stable  time.Duration // how long a connection must be up to reset the count; default 10 s

	mu      sync.Mutex
	attempt int
	up      time.Time // zero while down
	fault   bool      // the last connection ended by Fault
}

// Next counts a failed attempt or a lost connection, and returns the delay before the next attempt.
// The first delay after a stable connection has jitter too, because other clients may have lost
// their connections at the same moment.
func (r *Retry) Next() time.Duration { return r.count(r.Backoff.Delay) }

// Later counts like Next, and returns the long delay for a server that is short of resources, see
// Backoff.Later.
func (r *Retry) Later() time.Duration {
	return r.count(func(int) time.Duration { return r.Backoff.Later() })
}

func (r *Retry) count(delay func(attempt int) time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	r.attempt++
	return delay(r.attempt - 1)
}

// Reset resets the count. Use it when something has changed, so that the next attempt may succeed.
func (r *Retry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempt = 0
}

// Up records that the connection is up.
func (r *Retry) Up() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	r.up = time.Now()
}

// Down records that the connection has ended. Without an earlier Up it has no effect.
func (r *Retry) Down() { r.end(false) }

// Fault is Down for a cause that will recur, such as a message of the server that cannot be
// received. From the second consecutive Fault on, a stable connection does not reset the count, so
// the delays grow until a connection ends with Down.
func (r *Retry) Fault() { r.end(true) }

func (r *Retry) end(fault bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up.IsZero() {
		return
	}
	r.fault = r.fault && fault // the second consecutive Fault
	r.settle()
	r.fault, r.up = fault, time.Time{}
}

// Attempts returns the number of calls of Next and Later since the last reset.
func (r *Retry) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	return r.attempt
}

// settle resets the count if the connection has been up for Stable.
func (r *Retry) settle() {
	if !r.fault && !r.up.IsZero() && time.Since(r.up) >= cmp.Or(max(0, r.Stable), 10*time.Second) {
		r.attempt = 0
	}
}
