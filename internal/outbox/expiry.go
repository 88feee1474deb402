package outbox

import (
	"iter"
	"math"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

const (
	never       = math.MaxInt64
	expiryStep  = 512 // messages per step of a walk
	expiryPause = int64(100 * time.Millisecond)
	storeRetry  = time.Second // pause after an error of the store
)

// expiry ends messages that expire while they wait, whether or not the client is connected. It
// knows the earliest time at which a message can expire. At that time, the send loop walks through
// the store in steps and computes the next such time. Times are nanoseconds since start, so changes
// of the wall clock do not affect them. Only the send loop uses the fields, except due.
type expiry struct {
	start  time.Time
	maxAge time.Duration
	due    atomic.Int64 // no waiting message expires before this time

	timer   *time.Timer
	armed   int64 // the time that timer is set to
	rest    int64 // earliest start of the next walk; walks take at most about a twentieth of the time
	walking bool
	began   int64 // start of the present walk
	place   persistence.Cursor
	entry   persistence.Entry
}

// init prepares for a store. empty reports whether the store is empty.
func (x *expiry) init(maxAge time.Duration, empty bool) {
	x.start, x.maxAge = time.Now(), maxAge
	x.timer, x.armed = time.NewTimer(time.Hour), never
	x.timer.Stop()
	if empty {
		x.due.Store(never)
	}
}

func (x *expiry) now() int64 { return int64(time.Since(x.start)) }

// accepted records that a message with this lifetime was accepted now. A message with lifetime 0
// expires only by MaxAge.
func (x *expiry) accepted(life time.Duration) {
	if x.maxAge > 0 && (life == 0 || life > x.maxAge) {
		life = x.maxAge
	}
	if life > 0 {
		x.by(x.now() + min(int64(life), never/2))
	}
}

// by records that a message may expire at this time.
func (x *expiry) by(at int64) {
	for {
		due := x.due.Load()
		if at >= due || x.due.CompareAndSwap(due, at) {
			return
		}
	}
}

// step does the next step of a walk and yields the messages that have expired. If no walk is due,
// it sets the timer for the next walk. may reports whether a message may expire.
func (x *expiry) step(store Store, may func(*persistence.Entry) bool) iter.Seq2[*persistence.Entry, error] {
	return func(yield func(*persistence.Entry, error) bool) {
		now := x.now()
		if !x.walking {
			if at := max(x.due.Load(), x.rest); at > now {
				x.arm(at, now)
				return
			}
			x.due.Store(never) // messages accepted from here on lower due again
			x.walking, x.began, x.place = true, now, persistence.Cursor{}
		}
		x.look(store, may, yield)
		now = x.now()
		if x.walking { // let the send loop do its other work first
			x.armed = now
			x.timer.Reset(0)
			return
		}
		x.rest = now + max(20*(now-x.began), expiryPause)
		x.arm(max(x.due.Load(), x.rest), now)
	}
}

// look looks at the next messages of a walk.
func (x *expiry) look(store Store, may func(*persistence.Entry) bool, yield func(*persistence.Entry, error) bool) {
	clock, now := store.Now(), x.now() // messages expire by clock
	for range expiryStep {
		ok, err := store.Next(&x.place, &x.entry)
		if err != nil {
			yield(nil, err)
			x.by(now + int64(storeRetry))
		}
		if !ok {
			x.walking = false
			return
		}
		x.place.Pass(&x.entry)
		if e := &x.entry; may(e) {
			if left := e.Expires.Sub(clock); left > 0 {
				x.by(now + min(int64(left), never/2))
			} else {
				yield(e, nil)
			}
		}
	}
}

func (x *expiry) arm(at, now int64) {
	if at == x.armed {
		return
	}
	x.armed = at
	if at == never {
		x.timer.Stop()
		return
	}
	x.timer.Reset(time.Duration(at - now))
}
