package inbox

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// failed records a failed attempt and sets last.Result: retried, set aside, refused or dropped.
func (w *worker[M]) failed(err error) Verdict {
	d, v := &w.current, w.cfg.Verdict(err)
	w.Counters.Failed.Add(1)
	if d.panics++; !v.Panic {
		d.panics = 0
	}
	if d.since.IsZero() {
		d.since = time.Now()
	}
	d.last = Failure{Err: err, Attempt: d.Attempt, Since: d.since}
	if d.In != nil {
		d.In.Failures.Add(1)
		d.last.Behind = w.cfg.Session.Behind(d.In)
	}
	switch {
	case v.Refused:
		d.last.Result = Refused
	case v.Permanent, w.cfg.Attempts > 0 && d.Attempt >= w.cfg.Attempts, w.cfg.Panics > 0 && d.panics >= w.cfg.Panics:
		return w.giveUp()
	}
	return v
}

// giveUp sets the current message aside. Without a list, the message is refused. If the list cannot
// store the message, the worker tries again later. Until then it neither handles nor acknowledges
// the message.
func (w *worker[M]) giveUp() (v Verdict) {
	d := &w.current
	v = Verdict{Code: wire.ReasonUnspecifiedError, Reason: "handler failed"}
	switch d.givenUp = true; {
	case d.In == nil && d.Aside == 0:
		d.last.Result = Dropped
	case w.cfg.Aside == nil:
		d.last.Result = Refused
	default:
		_, _, v.store = w.cfg.Aside.Add(d.Message, Given{Err: d.last.Err, Attempts: d.last.Attempt})
		if d.Aside != 0 && d.parts == nil && errors.Is(v.store, ErrAsideFull) { // the existing entry is enough
			w.cfg.Aside.Kept(d.Aside)
			d.Aside, v.store = 0, nil
		}
		if d.last.Result = Retried; v.store == nil {
			d.last.Result = SetAside
			w.Counters.SetAside.Add(1)
		}
	}
	return v
}

// reportFailure reports the last attempt, or the error of the list that could not store the
// message.
func (w *worker[M]) reportFailure(v Verdict) {
	if v.store != nil {
		w.cfg.Observer.StoreFailed(v.store)
	} else {
		w.cfg.Observer.HandlerFailed(w.current.Message, w.current.last)
	}
}

// pause waits before the next attempt. It returns false if the inbox stops.
func (w *worker[M]) pause() bool {
	w.in = none
	if w.sleep(w.cfg.Backoff(w.current.Attempt - 1)) {
		return true
	}
	w.leave(w.current.Item)
	return false
}

// abort returns the claim of a message that had no effect.
func (w *worker[M]) abort(item Item[M]) {
	if item.key != "" {
		c := w.keys.claim(item.key)
		w.abandon(c)
	}
}

// reasonString returns a text that is valid in an MQTT packet [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func reasonString(text string) string {
	const most = 1024
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}

// setAside stores a message without a handler. While the list cannot store it, setAside waits.
func (w *worker[M]) setAside(item Item[M]) (Result, error) {
	if w.cfg.Aside == nil {
		return Refused, nil
	}
	for attempt := 0; ; attempt++ {
		id, stored, err := w.cfg.Aside.Add(item.Message, Given{})
		switch {
		case errors.Is(err, ErrAsideFull):
			return Refused, err
		case err == nil:
			w.Counters.SetAside.Add(1)
			w.forget()
			w.waits.list = append(w.waits.list, Item[M]{Message: stored, OrderKey: item.OrderKey, Aside: id, stored: true})
			return SetAside, nil
		}
		w.items.pushFront([]Item[M]{item}) // keeps the item even if the observer ends the goroutine
		w.cfg.Observer.StoreFailed(err)
		item = w.items.pop()
		if !w.sleep(w.cfg.Backoff(attempt)) {
			w.leave(item)
			return Retried, nil
		}
	}
}

// grace is the grace period of messages without a handler. Each inbox has one.
type grace struct {
	begin   sync.Once
	timer   *time.Timer
	ended   atomic.Bool
	waiting atomic.Int64 // QoS 1 and 2 messages that wait for a handler
}

// waits holds the messages of a worker that have no handler, in the order of receipt. They are
// either unacknowledged or set aside. Of messages set aside, only the part that routing needs is in
// memory.
type waits[M any] struct {
	list     []Item[M]
	keys     map[string]bool // ordering keys of messages for which another handler may still be declared
	declared uint64          // value of Config.Declared when the list was last matched
	most     int             // length of list at which forget searches it next
}

// forget removes the messages that the application has discarded. It searches the list each time
// the list has doubled.
func (w *worker[M]) forget() {
	if q := &w.waits; len(q.list) >= q.most {
		q.list = slices.DeleteFunc(q.list, w.discarded)
		q.most = max(64, 2*len(q.list))
	}
}

// discarded reports whether the application has discarded a message that was set aside.
func (w *worker[M]) discarded(item Item[M]) bool {
	return item.Aside != 0 && !w.cfg.Aside.Has(item.Aside)
}

// Connected starts the grace period of messages without a handler. Only the first call has an
// effect.
func (b *Inbox[M]) Connected() {
	b.grace.begin.Do(func() { b.grace.timer = time.AfterFunc(b.cfg.Grace, b.endGrace) })
}

func (b *Inbox[M]) endGrace() {
	if !b.grace.ended.Swap(true) {
		b.wakeAll()
	}
}

// Declared makes the workers look for handlers of the waiting messages again.
func (b *Inbox[M]) Declared() { b.wakeAll() }

func (b *Inbox[M]) wakeAll() {
	for _, w := range b.workers {
		w.queue.ready.Set()
	}
}

// Restore adds a message without a handler that an earlier process set aside. It must be called
// before Start, in the order of receipt.
func (b *Inbox[M]) Restore(id uint64, stored M, orderKey string) {
	w := b.worker(orderKey)
	w.waits.list = append(w.waits.list, Item[M]{Message: stored, OrderKey: orderKey, Aside: id, stored: true})
}

// Redeliver queues a message that was set aside.
func (b *Inbox[M]) Redeliver(id uint64, stored M, orderKey string) {
	item := Item[M]{Message: stored, OrderKey: orderKey, Aside: id, stored: true}
	if !b.worker(orderKey).queue.push(item, b.cfg.QoS0Queue) {
		b.cfg.Aside.Kept(id)
	}
}

// find finds the handlers of a message. later is true if the message must wait. It waits if another
// handler may still be declared for it, or if an earlier message with its ordering key waits.
func (w *worker[M]) find(item Item[M]) (later bool) {
	waits := item.In != nil && item.Aside == 0 && !w.grace.ended.Load()
	if waits && !item.first && w.waits.keys[item.OrderKey] {
		return true
	}
	w.targets, later = w.cfg.Route(item.Message, !waits, w.targets[:0])
	return later && waits
}

// held finds the handlers of a message, and keeps the message if it must wait. If a handler was
// declared meanwhile, held returns the message to the queue, so that earlier messages are matched
// first. It returns false if the message can be handled now.
func (w *worker[M]) held(item Item[M]) bool {
	if !w.find(item) {
		again := len(w.waits.list) > 0 && w.cfg.Declared() != w.waits.declared
		if again {
			w.items.pushFront([]Item[M]{item})
		}
		return again
	}
	w.waits.hold(item.OrderKey)
	w.waits.list = append(w.waits.list, item)
	w.grace.waiting.Add(1)
	return true
}

// hold makes later messages with this ordering key wait.
func (w *waits[M]) hold(orderKey string) {
	if w.keys == nil {
		w.keys = map[string]bool{}
	}
	w.keys[orderKey] = true
}

// hold keeps a message without a handler until one is declared or the grace period ends. If it
// returns Retried, the caller has nothing to do.
func (w *worker[M]) hold(item Item[M]) (Result, error) {
	if item.Aside != 0 { // it stays in the list
		w.waits.list = append(w.waits.list, item)
		return Retried, nil
	}
	if !item.held {
		w.Counters.Unhandled.Add(1)
		item.held = true
	}
	switch {
	case item.In == nil:
		return Dropped, nil
	case w.grace.ended.Load():
		return w.setAside(item)
	}
	w.waits.list = append(w.waits.list, item)
	w.grace.waiting.Add(1)
	return Waiting, nil
}

// endWaiting returns the unacknowledged messages without a handler to the queue after the grace
// period.
func (w *worker[M]) endWaiting() {
	if w.grace.waiting.Load() == 0 {
		return
	}
	if !w.grace.ended.Load() && w.cfg.Session.Unacknowledged() >= w.cfg.MaxWaiting {
		w.endGrace()
	}
	if !w.grace.ended.Load() {
		return
	}
	var due []Item[M]
	w.waits.list = slices.DeleteFunc(w.waits.list, func(item Item[M]) bool {
		if item.Aside == 0 {
			due = append(due, item)
		}
		return item.Aside == 0
	})
	w.grace.waiting.Add(int64(-len(due)))
	w.waits.keys = nil
	w.items.pushFront(due) // hold sets them aside
}

// rematch returns waiting messages to the queue if they have a handler now, followed by next, a
// later message. If no message has a handler now, it returns false and does not use next.
func (w *worker[M]) rematch(next *Item[M]) bool {
	if len(w.waits.list) == 0 {
		return false
	}
	declared := w.cfg.Declared()
	if declared == w.waits.declared {
		return false
	}
	w.waits.declared = declared
	var ready []Item[M]
	w.waits.keys = nil // the loop adds the keys of messages that still wait
	w.waits.list = slices.DeleteFunc(w.waits.list, func(item Item[M]) bool {
		if w.find(item) {
			w.waits.hold(item.OrderKey)
			return false
		}
		if len(w.targets) == 0 {
			return false
		}
		if item.Aside == 0 {
			w.grace.waiting.Add(-1)
		}
		item.first = true
		ready = append(ready, item)
		return true
	})
	if len(ready) == 0 {
		return false
	}
	if next != nil {
		ready = append(ready, *next)
	}
	w.items.pushFront(ready)
	return true
}
