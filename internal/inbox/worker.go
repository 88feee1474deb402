package inbox

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/slow"
	"github.com/mooring-mqtt/mooring/ordering"
)

// worker takes messages through their steps, one at a time. Messages with the same ordering key go
// to the same worker.
type worker[M any] struct {
	*Inbox[M]
	queue queue[M]

	// Only the goroutine of the worker uses the fields below.
	items   fifo[Item[M]] // taken from the queue
	targets []M           // result of route
	waits   waits[M]
	// waiting holds the messages that cannot be claimed yet, by ordering key. Either another owner
	// handles the message, or the cache fails. The worker continues with other keys.
	waiting map[string][]Item[M]
	order   *ordering.Resequencer[Item[M]] // nil: messages are handled in the order of receipt
	copies  map[place][]receipt            // copies of the messages that order holds
	ready   fifo[ready[M]]                 // messages in order, to be handled
	timer   *time.Timer                    // for the oldest gap
	current Delivery[M]
	in      call            // function of the application that runs for current
	call    *slow.Caller[M] // watches the calls of handlers
	calling atomic.Bool     // a handler runs

	ended       bool // the goroutine has ended
	interrupted int  // QoS 1 and 2 messages whose handling Stop has interrupted
}

// ready is a message that is in order, or the report of a gap at this position.
type ready[M any] struct {
	item   Item[M]
	report func() // nil: handle item
}

// call identifies the function of the application that a worker is in.
type call uint8

const (
	none call = iota
	inBegin
	inHandle
	inCommit
	inPause // in the observer; the current message is attempted again afterwards
)

// wait waits until there is something to do. It returns false if the inbox stops. Messages that
// still wait are then not acknowledged.
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
	w.current = Delivery[M]{} // frees its memory
	select {
	case <-w.stopping.Done():
		return false
	case <-w.queue.ready:
	case <-gap:
	}
	return true
}

// do calls a function of the application. It returns a panic as an error.
func (w *worker[M]) do(in call, f func() error) (err error) {
	w.in = in
	if p := callback.Try(func() { err = callback.Probe(f()) }); p != nil {
		err = p
	}
	w.in = none
	return err
}

// callHandler calls the handler of the current message.
func (w *worker[M]) callHandler(d *Delivery[M]) error {
	w.calling.Store(true)
	defer w.calling.Store(false)
	w.call.Begin(d.Message, w.items.len()+w.ready.len())
	defer w.call.End() // also after runtime.Goexit
	return w.do(inHandle, func() error { return w.cfg.Handle(w.handling, d) })
}

// leave drops a message whose handling Stop has interrupted. The message is not acknowledged, so
// the server sends it again, unless its QoS is 0.
func (w *worker[M]) leave(item Item[M]) {
	switch {
	case item.Aside != 0: // it stays in the list
	case !w.dropQoS0(item):
		w.interrupted++
	}
}

// place is the position of a message in the order of its publisher.
type place struct {
	stream     string
	epoch, seq uint64 // seq 0: the message has no number
	id         ordering.ID
}

func (w *worker[M]) placeOf(item *Item[M]) (p place) {
	p.stream, p.epoch, p.seq, p.id = w.cfg.Position(item.Message)
	return p
}

// emit takes a message from the resequencer. It is handled after the resequencer has returned.
func (w *worker[M]) emit(item Item[M], outOfOrder bool) {
	if len(w.copies) > 0 {
		at := w.placeOf(&item)
		item.copies = w.copies[at]
		delete(w.copies, at)
	}
	if item.OutOfOrder = outOfOrder; outOfOrder {
		w.Counters.OutOfOrder.Add(1)
	}
	w.ready.push(ready[M]{item: item})
}

// place passes a message to the resequencer. It returns 0 for a message without a number. A message
// with a dedupe key is not a copy, because the cache has accepted it.
func (w *worker[M]) place(item Item[M]) (result ordering.Result, at place) {
	if w.order == nil || item.Aside != 0 { // a message from the list: its number was emitted before
		return 0, at
	}
	if at = w.placeOf(&item); at.seq == 0 {
		return 0, at
	}
	if w.cfg.Restored != nil {
		if p, ok := w.cfg.Restored(item.Message); ok {
			w.order.Restore(at.stream, p)
		}
	}
	if item.key != "" {
		return w.order.PushNew(at.stream, at.epoch, at.seq, item, w.emit), at
	}
	if result = w.order.Push(at.stream, at.epoch, at.seq, at.id, item, w.emit); result == ordering.Held {
		if w.copies == nil {
			w.copies = map[place][]receipt{}
		}
		w.copies[at] = nil
	}
	return result, at
}

// share makes a copy of a held message be acknowledged together with that message. If the copy were
// acknowledged earlier, the message would be lost when the process ends.
func (w *worker[M]) share(item Item[M], at place) (held bool) {
	copies, held := w.copies[at]
	if !held {
		return false
	}
	r := item.copied()
	w.free(item.Size - r.size)
	if r != (receipt{}) { // at QoS 0 there is nothing to acknowledge
		w.copies[at] = append(copies, r)
	}
	return true
}

// refill takes the messages that wait for the worker. It returns false if there are none.
func (w *worker[M]) refill() bool {
	ended := w.queue.take(&w.items)
	for _, orderKey := range ended {
		w.items.pushFront(w.waiting[orderKey])
		delete(w.waiting, orderKey)
	}
	w.rematch(nil)
	w.endWaiting()
	return w.items.len() > 0
}

func (b *Inbox[M]) worker(orderKey string) *worker[M] {
	return b.workers[maphash.String(seed, orderKey)%uint64(len(b.workers))]
}

var seed = maphash.MakeSeed()

func (item *Item[M]) receipt() receipt { return receipt{item.In, item.parts, item.Size, item.Aside} }

func (b *Inbox[M]) reportStore(err error) {
	if err != nil {
		b.cfg.Observer.StoreFailed(err)
	}
}

// drops reports whether a message is dropped because of its number.
func (w *worker[M]) drops(r ordering.Result) bool {
	return r == ordering.Duplicate || r == ordering.NumberRepeated || r == ordering.Late && w.cfg.Ordering.Late == ordering.DropLate
}

// placed counts and reports the decision of the resequencer about a message.
func (w *worker[M]) placed(item Item[M], r ordering.Result) {
	switch {
	case r == ordering.Duplicate:
		w.duplicate(item)
	case r == ordering.Late && w.drops(r):
		w.Counters.Late.Add(1)
		w.cfg.Observer.LateDropped(item.Message)
	case r == ordering.NumberRepeated:
		w.Counters.Repeated.Add(1)
		w.cfg.Observer.NumberRepeated(item.Message)
	case r == ordering.NumberReused:
		w.Counters.Reused.Add(1)
		w.cfg.Observer.NumberReused(item.Message)
	}
}

// load loads a message from the list. It returns false if the message cannot be read, was
// discarded, or no longer has a handler.
func (w *worker[M]) load(item *Item[M]) bool {
	m, err := w.cfg.Aside.Load(item.Aside, item.Message)
	switch {
	case w.discarded(*item):
		return false
	case err != nil:
		w.cfg.Aside.Kept(item.Aside)
		w.cfg.Observer.StoreFailed(err)
		return false
	}
	if w.targets, _ = w.cfg.Route(m, true, w.targets[:0]); len(w.targets) == 0 {
		w.waits.list = append(w.waits.list, *item)
		return false
	}
	item.Message, item.stored = m, false
	return true
}

// split creates an item for each of the targets. The first one is item; the others become the next
// in the queue.
func (w *worker[M]) split(item *Item[M]) {
	if item.routed = true; len(w.targets) > 1 {
		item.parts = &parts{left: len(w.targets)}
		rest := make([]Item[M], 0, len(w.targets)-1+w.items.len())
		for _, m := range w.targets[1:] {
			item.Message = m
			rest = append(rest, *item)
		}
		w.items.pushFront(rest)
	}
	item.Message = w.targets[0]
	clear(w.targets)
}
