package inbox

import (
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/slow"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Inbox holds received messages until they are acknowledged. All methods are safe for concurrent
// use, except Push and Consume, which only the reader of the connection may call.
type Inbox[M any] struct {
	Counters Counters

	cfg     Config[M]
	workers []*worker[M]
	budget  budget
	keys    inFlight
	grace   grace
	window  window
	slow    *slow.Watch[M]
	lifecycle
}

// Push accepts a received message. It blocks only if a QoS 1 or 2 message has no room. A QoS 0
// message without room is dropped.
func (b *Inbox[M]) Push(item Item[M]) {
	if !b.reserve(item.In, item.Size) {
		b.dropQoS0(item)
		return
	}
	b.Counters.Received.Add(1)
	b.window.watch()
	if b.worker(item.OrderKey).queue.push(item, b.cfg.QoS0Queue) {
		return
	}
	b.free(item.Size)
	if !b.dropQoS0(item) {
		b.late.Add(1)
	}
}

// Consume acknowledges a message without passing it to a handler, or refuses it.
func (b *Inbox[M]) Consume(in *session.Inbound, code byte, reason string) {
	b.Counters.Received.Add(1)
	b.complete(in, code, reason)
}

// run is the goroutine of a worker. If a call of the application ends the goroutine with
// runtime.Goexit, another goroutine replaces it.
func (w *worker[M]) run() {
	returned := false
	defer func() {
		if !returned {
			go w.run()
			return
		}
		w.workerEnded()
	}()
	defer w.cfg.Guard.Enter()()
	w.resume(&callback.Panic{Value: callback.ErrGoexit})
	for more := true; more; more = w.wait() {
		for w.stopping.Err() == nil && w.step() {
		}
	}
	returned = true
}

// resume continues with the message whose call did not return.
func (w *worker[M]) resume(err error) {
	again := false
	switch w.in {
	case inBegin:
		w.claimed(dedupe.Claim{}, 0, err)
	case inHandle:
		again = w.settle(err)
	case inCommit:
		w.committed(err)
	case inPause:
		again = w.pause()
	}
	if again {
		w.attempt()
	}
}

// step processes one message. It returns false if no message waits.
func (w *worker[M]) step() bool {
	switch {
	case w.ready.len() > 0:
		if next := w.ready.pop(); next.report == nil {
			w.handle(next.item)
		} else if p := w.cfg.Guard.Call(next.report); p != nil {
			w.cfg.Observer.CallbackFailed(p)
		}
	case w.items.len() > 0:
		w.route(w.items.pop())
	default:
		return w.refill()
	}
	return true
}

// route finds the handlers of a message and creates an item for each.
func (w *worker[M]) route(item Item[M]) {
	if earlier, wait := w.waiting[item.OrderKey]; wait {
		w.waiting[item.OrderKey] = append(earlier, item)
		return
	}
	if !item.routed {
		if w.rematch(&item) || w.held(item) {
			return // earlier messages that waited for the handler come first
		}
		switch {
		case len(w.targets) == 0:
			w.unhandled(item)
			return
		case item.stored && !w.load(&item):
			return
		}
		w.split(&item)
	}
	w.claim(item)
}

// unhandled finishes a message without a handler, unless the message waits for one.
func (w *worker[M]) unhandled(item Item[M]) {
	result, err := w.hold(item)
	switch result {
	case Retried: // it stays in the list, or the inbox stops
		return
	case Refused:
		w.refuse(item, wire.ReasonImplementationSpecific, "no handler for this topic")
	case SetAside, Dropped:
		w.acknowledge(item, wire.ReasonSuccess, "")
	}
	w.cfg.Observer.Unhandled(item.Message, result, err)
}

// claim claims the dedupe key of a message. If the client is already handling a message with this
// key, the item is a copy and is acknowledged with that message.
func (w *worker[M]) claim(item Item[M]) {
	if w.cfg.Dedupe == nil {
		w.arrange(item)
		return
	}
	w.current = Delivery[M]{Item: item}
	if item.key == "" {
		switch isCopy, invalid, err := w.identify(&item); {
		case err != nil:
			w.claimed(dedupe.Claim{}, 0, err)
			return
		case invalid != nil:
			w.current.Attempt++ // it fails without a call of the handler
			if w.settle(invalid) {
				w.attempt()
			}
			return
		case item.key == "":
			w.arrange(item)
			return
		case isCopy:
			w.duplicate(item)
			return
		}
		w.current.key = item.key
	}
	w.claimed(w.begin(item.key))
}

// claimed processes the answer of the cache.
func (w *worker[M]) claimed(c dedupe.Claim, v dedupe.Verdict, err error) {
	item := w.current.Item
	switch {
	case err != nil && w.stopping.Err() != nil:
		w.leave(item)
	case err != nil: // the message is neither handled nor acknowledged until the cache answers
		w.waitFor(item, nil)
		w.cfg.Observer.StoreFailed(err)
	case v == dedupe.InFlight: // the other owner may still fail to handle it
		w.await(item, c)
	case v == dedupe.Duplicate:
		w.acknowledge(item, wire.ReasonSuccess, "")
		w.duplicate(item)
	default:
		w.keys.grant(c)
		w.arrange(item)
	}
}

// arrange puts a message into the order of its publisher. The message is handled now or later, or
// dropped.
func (w *worker[M]) arrange(item Item[M]) {
	result, at := w.place(item)
	switch {
	case result == 0: // it has no number
		w.handle(item)
	case w.drops(result) && !w.share(item, at):
		w.commit(item)
	} // otherwise the message is ready or will be
	w.placed(item, result)
}

// handle handles a message, and retries after errors.
func (w *worker[M]) handle(item Item[M]) {
	w.current = Delivery[M]{Item: item, Claim: w.keys.claim(item.key)}
	w.attempt()
}

func (w *worker[M]) attempt() {
	for again := true; again; {
		d := &w.current
		discarded := w.discarded(d.Item)
		switch {
		case discarded, w.cfg.Expired != nil && w.cfg.Expired(d.Message):
			w.abort(d.Item)
			w.acknowledge(d.Item, wire.ReasonSuccess, "")
			if !discarded {
				w.Counters.Expired.Add(1)
				w.cfg.Observer.Expired(d.Message)
			}
			return
		case d.givenUp: // the list could not store it
			again = w.finish(w.giveUp())
		default:
			d.Attempt++
			again = w.settle(w.callHandler(d))
		}
	}
}

// settle processes the result of the handler. It returns true if the handler must be called again.
func (w *worker[M]) settle(err error) (again bool) {
	switch {
	case err == nil:
		w.Counters.Handled.Add(1)
		w.commit(w.current.Item)
		return false
	case w.handling.Err() != nil:
		w.leave(w.current.Item)
		return false
	}
	return w.finish(w.failed(err))
}

// finish acknowledges the current message if it is not attempted again.
func (w *worker[M]) finish(v Verdict) (again bool) {
	d := &w.current
	switch d.last.Result {
	case Retried:
		w.in = inPause
		w.reportFailure(v)
		return w.pause()
	case SetAside:
		w.abort(d.Item)
		w.acknowledge(d.Item, wire.ReasonSuccess, "")
	default:
		w.refuse(d.Item, v.Code, v.Reason)
	}
	w.reportFailure(v)
	return false
}

// commit records that a message was handled, and acknowledges it.
func (w *worker[M]) commit(item Item[M]) {
	if item.key == "" {
		w.acknowledge(item, wire.ReasonSuccess, "")
		return
	}
	w.current.Item = item
	c := w.keys.claim(item.key)
	w.committed(w.do(inCommit, func() error { return w.cfg.Dedupe.Commit(w.finishing, c) }))
}

// committed acknowledges the current message even if the cache failed, because the message has had
// its effect.
func (w *worker[M]) committed(err error) {
	w.acknowledge(w.current.Item, wire.ReasonSuccess, "")
	w.reportStore(err)
}

// refuse returns the claim of a message and acknowledges the message with a reason code and a
// reason string.
func (w *worker[M]) refuse(item Item[M], code byte, reason string) {
	w.Counters.Refused.Add(1)
	w.abort(item)
	w.acknowledge(item, max(code, wire.ReasonUnspecifiedError), reasonString(reason)) // the session replaces invalid codes
}

// acknowledge finishes a message and its copies. The session sends acknowledgements in the order of
// receipt.
func (b *Inbox[M]) acknowledge(item Item[M], code byte, text string) {
	b.answer(item.receipt(), code, text)
	for _, r := range b.copiesOf(item) {
		b.answer(r, code, text)
	}
}

// answer acknowledges a PUBLISH after all its handlers have finished. If one handler refuses it, it
// is refused.
func (b *Inbox[M]) answer(r receipt, code byte, text string) {
	if r.parts != nil {
		last := false
		if code, text, last = r.parts.finish(code, text); !last {
			return
		}
	}
	if r.aside != 0 {
		b.reportStore(b.cfg.Aside.Remove(r.aside))
	}
	b.complete(r.in, code, text)
	b.free(r.size)
}

func (b *Inbox[M]) complete(in *session.Inbound, code byte, text string) {
	if in != nil {
		b.reportStore(b.cfg.Session.Complete(in, code, text))
	}
}
