package inbox

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/ordering"
)

// worker takes messages through their steps, one after the other. Messages with the
// same ordering key have the same worker.
type worker[M any] struct {
	*Inbox[M]
	queue queue[M]

	// All below belongs to the worker's goroutine.
	items   fifo[Item[M]] // taken from the queue
	targets []M           // of route
	// waiting are messages that cannot be claimed yet, by ordering key: another owner
	// handles the message, or the cache fails. The worker goes on with other keys.
	waiting map[string][]Item[M]
	order   *ordering.Resequencer[Item[M]] // nil: messages are handled as they come
	ready   fifo[ready[M]]                 // in order, to be handled
	timer   *time.Timer                    // of the oldest gap
	current Delivery[M]
	in      call // of the application, for current

	ended       bool // the goroutine has
	interrupted int  // QoS 1 and 2 messages whose handling Stop has interrupted
}

// ready is a message that is in order, or the report of a gap at its place.
type ready[M any] struct {
	item   Item[M]
	report func() // nil: handle item
}

// call is a function of the application that a worker may be in.
type call uint8

const (
	none call = iota
	inBegin
	inHandle
	inCommit
)

// wait waits until there is something to do. It returns false when the inbox stops:
// messages that wait then are not acknowledged.
func (w *worker[M]) wait() bool {
	var gap <-chan time.Time
	if w.order != nil {
		if next := w.order.Expire(w.emit); !next.IsZero() {
			w.timer.Reset(time.Until(next))
			gap = w.timer.C
		}
		if w.ready.len() > 0 {
			return w.stopping.Err() == nil
		}
	}
	w.current = Delivery[M]{} // its memory is not needed any more
	select {
	case <-w.stopping.Done():
		return false
	case <-w.queue.ready:
	case <-gap:
	}
	return true
}

// do calls a function of the application. A panic in it is an error.
func (w *worker[M]) do(in call, f func() error) (err error) {
	w.in = in
	if p := callback.Try(func() { err = f() }); p != nil {
		err = p
	}
	w.in = none
	return err
}

// leave takes a message whose handling Stop has interrupted. It is not acknowledged: the server
// sends it again, unless its QoS is 0.
func (w *worker[M]) leave(item Item[M]) {
	if !w.dropQoS0(item) {
		w.interrupted++
	}
}

// emit takes a message from the resequencer. It is handled after the resequencer has returned.
func (w *worker[M]) emit(item Item[M], outOfOrder bool) {
	if item.OutOfOrder = outOfOrder; outOfOrder {
		w.Counters.OutOfOrder.Add(1)
	}
	w.ready.push(ready[M]{item: item})
}
