package reliability

import (
	"cmp"
	"math"
	"sync"
	"time"
)

// Retry counts failed attempts to connect, and computes the delay before the next attempt. A
// connection that has been up for the time Stable resets the count. A shorter connection reduces
// the count in proportion to the time it was up. A connection that ends at once does not reduce it,
// because a server may accept connections and close them at once. Call Up when the connection is
// up, and Down when it has ended. Then wait for the duration that Next returns before the next
// attempt. With several servers, count rounds of attempts: call Next only after each server has
// failed. The zero value is usable. A Retry must not be copied after first use. It is safe for
// concurrent use.
type Retry struct {
	Backoff Backoff
	Stable  time.Duration // how long a connection must be up to reset the count completely; default: 10 s

	mu      sync.Mutex
	attempt int
	up      time.Time // when the connection came up; zero while it is down
	fault   bool      // the last connection ended with Fault
}

// Next counts a failed attempt or a lost connection, and returns the delay before the next attempt.
// The first delay after a stable connection is also random, because other clients may have lost
// their connections at the same moment.
func (r *Retry) Next() time.Duration { return r.count(r.Backoff.Delay) }

// Later counts an attempt like Next does. It returns the long delay of Backoff.Later, for a server
// that lacks resources.
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

// Reset sets the count to zero. Call it when something has changed and the next attempt may
// succeed.
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

// Down records that the connection has ended. If the connection was up for Stable, Down resets the
// count. Otherwise the count first drops to the one at which the delays reach Backoff.Max, unless
// it is lower. Then it is reduced in proportion: a connection that was up for 30 % of Stable reduces
// it by 30 %, rounded up. Without an earlier call of Up, Down has no effect.
func (r *Retry) Down() { r.end(false) }

// Fault is like Down. Call it instead of Down if the problem that ended the connection will occur
// again. An example is a message from the server that the client cannot receive. From the second
// consecutive Fault on, a stable connection does not reduce the count. The delays then grow until a
// connection ends with Down.
func (r *Retry) Fault() { r.end(true) }

func (r *Retry) end(fault bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up.IsZero() {
		return
	}
	r.fault = r.fault && fault // true from the second consecutive Fault on
	r.settle()
	if !r.fault {
		left := 1 - float64(time.Since(r.up))/float64(r.stable())
		r.attempt = int(math.Ceil(min(float64(r.attempt), r.Backoff.steps()) * max(0, left)))
	}
	r.fault, r.up = fault, time.Time{}
}

// Attempts returns the count: how many times Next and Later were called since the last reset, less
// the reduction by connections.
func (r *Retry) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	return r.attempt
}

// settle resets the count if the connection has been up for Stable.
func (r *Retry) settle() {
	if !r.fault && !r.up.IsZero() && time.Since(r.up) >= r.stable() {
		r.attempt = 0
	}
}

func (r *Retry) stable() time.Duration { return cmp.Or(max(0, r.Stable), 10*time.Second) }
