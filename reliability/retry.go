package reliability

import (
	"sync"
	"time"
)

// Retry counts failed attempts and forgets them only when a connection has
// proved itself. A broker that accepts a connection and drops it at once would
// otherwise be dialled in a tight loop, since every success starts the delays
// over.
//
//	for {
//		if conn := dial(); conn != nil {
//			retry.Up()
//			serve(conn)
//			retry.Down()
//		}
//		wait(retry.Next())
//	}
//
// The zero value is usable. A Retry must not be copied after use; its methods
// may be called concurrently.
type Retry struct {
	Backoff Backoff
	// Stable is how long a connection must be up for the count to start over.
	// Default 10 s.
	Stable time.Duration

	mu      sync.Mutex
	attempt int
	up      time.Time // zero while down
	fault   bool      // the last connection ended by Fault
}

const defaultStable = 10 * time.Second

// Next counts a failed attempt or a lost connection and returns how long to
// wait before the next one. Also the first wait after a stable connection is
// jittered: everyone else lost theirs at the same moment.
func (r *Retry) Next() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	n := r.attempt
	r.attempt++
	return r.Backoff.Delay(n)
}

// Later counts like Next, and returns the long wait for a server that has no
// room, see Backoff.Later.
func (r *Retry) Later() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	r.attempt++
	return r.Backoff.Later()
}

// Reset forgets the failed attempts: something has changed, so that the next
// one may fare better.
func (r *Retry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempt = 0
}

// Up says that the connection is up.
func (r *Retry) Up() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	r.up = time.Now()
}

// Down says that the connection is gone. Without an Up before it does nothing.
func (r *Retry) Down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = r.fault && r.up.IsZero()
	r.settle()
	r.up = time.Time{}
}

// Fault says that the connection is gone for a reason that the next one will
// meet again, as a message that cannot be taken and stays with the broker.
// Without an Up before it does nothing. From the second Fault in a row on, the
// count does not start over, however long the connections are up: the delays grow
// until one ends by Down.
func (r *Retry) Fault() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up.IsZero() {
		return
	}
	r.settle()
	r.fault = true
	r.up = time.Time{}
}

// Attempts returns how often Next was called since the last stable connection.
func (r *Retry) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	return r.attempt
}

// settle starts the count over if the connection has been up long enough.
func (r *Retry) settle() {
	stable := r.Stable
	if stable <= 0 {
		stable = defaultStable
	}
	if !r.fault && !r.up.IsZero() && time.Since(r.up) >= stable {
		r.attempt = 0
	}
}
