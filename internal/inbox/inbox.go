// Package inbox takes received messages from the session to their handlers, and back as
// acknowledgements. It is generic over the message, and does not know topics and handlers.
//
// The steps of a message, in the order of this file:
//
//	Push → queue of a worker → route → claim (dedupe) → arrange (order) → handle → commit → acknowledge
//
// A QoS 1 or 2 message is acknowledged exactly once: after it was handled, refused or recognized as
// a duplicate. If the inbox stops before, it is not acknowledged, and the server sends it again.
package inbox

import (
	"hash/maphash"
	"strings"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
)

// Inbox holds received messages until they are acknowledged. All methods are safe for
// concurrent use, except that Push and Consume belong to the reader of the connection.
type Inbox[M any] struct {
	Counters Counters

	cfg     Config[M]
	workers []*worker[M]
	budget  budget
	keys    inFlight
	lifecycle
}

// Push takes a received message over. It blocks where a QoS 1 or 2 message has
// no room, and nowhere else. A QoS 0 message without room is dropped.
func (b *Inbox[M]) Push(item Item[M]) {
	if !b.reserve(item.In, item.Size) {
		b.dropQoS0(item)
		return
	}
	b.Counters.Received.Add(1)
	if b.worker(item.OrderKey).queue.push(item, b.cfg.QoS0Queue) {
		return
	}
	b.free(item.Size)
	b.dropQoS0(item)
}

// Consume acknowledges a message that no handler gets.
func (b *Inbox[M]) Consume(in *session.Inbound) {
	b.Counters.Received.Add(1)
	b.complete(in, wire.ReasonSuccess, "")
}

func (b *Inbox[M]) worker(orderKey string) *worker[M] {
	return b.workers[maphash.String(seed, orderKey)%uint64(len(b.workers))]
}

var seed = maphash.MakeSeed()

// run is the goroutine of a worker. It ends when the inbox stops. Where a function of the
// application calls runtime.Goexit, another goroutine takes its place, and the call has failed.
func (w *worker[M]) run() {
	returned := false
	defer func() {
		if !returned {
			go w.run()
			return
		}
		w.running.Done()
	}()
	defer w.cfg.Guard.Enter()()
	w.resume(&callback.Panic{Value: callback.ErrGoexit})
	for more := true; more; more = w.wait() {
		for w.stopping.Err() == nil && w.step() {
		}
	}
	returned = true
}

// resume goes on with the message whose call did not return.
func (w *worker[M]) resume(err error) {
	switch w.in {
	case inBegin:
		w.claimed(dedupe.Claim{}, 0, err)
	case inHandle:
		if w.settle(err) {
			w.attempt()
		}
	case inCommit:
		w.committed(err)
	}
}

// step takes one message on. It returns false if there is none.
func (w *worker[M]) step() bool {
	switch {
	case w.ready.len() > 0:
		if next := w.ready.pop(); next.report == nil {
			w.handle(next.item)
		} else if p := callback.Try(next.report); p != nil {
			w.cfg.Observer.CallbackFailed(p)
		}
	case w.items.len() > 0:
		w.route(w.items.pop())
	default:
		ended := w.queue.take(&w.items)
		for _, orderKey := range ended {
			w.items.pushFront(w.waiting[orderKey])
			delete(w.waiting, orderKey)
		}
		return w.items.len() > 0
	}
	return true
}

// route finds the handlers of a message, and makes an item for each.
func (w *worker[M]) route(item Item[M]) {
	if earlier, wait := w.waiting[item.OrderKey]; wait {
		w.waiting[item.OrderKey] = append(earlier, item)
		return
	}
	if !item.routed {
		w.targets = w.cfg.Route(item.Message, w.targets[:0])
		n := len(w.targets)
		if n == 0 {
			w.unhandled(item)
			return
		}
		if item.routed = true; n > 1 {
			item.parts = &parts{left: n}
			rest := make([]Item[M], 0, n-1+w.items.len())
			for _, m := range w.targets[1:] {
				item.Message = m
				rest = append(rest, item)
			}
			w.items.pushFront(rest)
		}
		item.Message = w.targets[0]
		clear(w.targets)
	}
	w.claim(item)
}

func (w *worker[M]) unhandled(item Item[M]) {
	w.Counters.Unhandled.Add(1)
	w.refuse(item, wire.ReasonImplementationSpecific, "no handler for this topic")
	w.cfg.Observer.Unhandled(item.Message)
}

// claim claims the dedupe key of a message. A copy of a message that this client
// holds shares the fate of that message.
func (w *worker[M]) claim(item Item[M]) {
	if w.cfg.Dedupe == nil {
		w.arrange(item)
		return
	}
	w.current = Delivery[M]{Item: item}
	if item.key == "" {
		err := w.do(inBegin, func() error { item.key = w.cfg.DedupeKey(item.Message); return nil })
		switch {
		case err != nil:
			w.claimed(dedupe.Claim{}, 0, err)
			return
		case item.key == "":
			w.arrange(item)
			return
		case !w.join(item):
			w.duplicate(item)
			return
		}
		w.current.key = item.key
	}
	var c dedupe.Claim
	var v dedupe.Verdict
	err := w.do(inBegin, func() (err error) {
		c, v, err = w.cfg.Dedupe.Begin(w.stopping, item.key, w.cfg.Owner)
		return err
	})
	w.claimed(c, v, err)
}

// claimed goes on with the answer of the cache.
func (w *worker[M]) claimed(c dedupe.Claim, v dedupe.Verdict, err error) {
	item := w.current.Item
	switch {
	case err != nil && w.stopping.Err() != nil:
		w.leave(item)
	case err != nil: // neither handled nor acknowledged until the cache answers
		w.cfg.Observer.StoreFailed(err)
		w.waitFor(item, nil)
	case v == dedupe.InFlight && item.tries > 0 && item.awaited == c.Token: // Wait returned early
		item.awaited = 0
		w.waitFor(item, nil)
	case v == dedupe.InFlight: // the other may still fail to handle it
		item.awaited = c.Token
		w.waitFor(item, func() error { return w.cfg.Dedupe.Wait(w.stopping, c) })
	case v == dedupe.Duplicate:
		w.duplicate(item)
		w.acknowledge(item, wire.ReasonSuccess, "")
	default:
		w.keys.grant(c)
		w.arrange(item)
	}
}

// arrange brings a message in the order of its publisher: it is handled now or later, or dropped.
func (w *worker[M]) arrange(item Item[M]) {
	if w.order == nil {
		w.handle(item)
		return
	}
	switch result := w.place(item); {
	case result == 0: // not numbered
		w.handle(item)
		return
	case result == ordering.Duplicate:
		w.duplicate(item)
	case result == ordering.Late && w.cfg.Ordering.Late == ordering.DropLate:
		w.Counters.Late.Add(1)
		w.cfg.Observer.LateDropped(item.Message)
	case result == ordering.NumberRepeated:
		w.Counters.Repeated.Add(1)
		w.cfg.Observer.NumberRepeated(item.Message)
	case result == ordering.NumberReused:
		w.Counters.Reused.Add(1)
		w.cfg.Observer.NumberReused(item.Message)
		return
	default:
		return // it is ready, or will be
	}
	w.commit(item)
}

// place gives a message to the resequencer; 0: it has no number. A message with a dedupe key is no
// copy: the cache has said so.
func (w *worker[M]) place(item Item[M]) ordering.Result {
	stream, epoch, seq, id := w.cfg.Position(item.Message)
	if seq == 0 {
		return 0
	}
	if w.cfg.Restored != nil {
		if p, ok := w.cfg.Restored(item.Message); ok {
			w.order.Restore(stream, p)
		}
	}
	if item.key != "" {
		return w.order.PushNew(stream, epoch, seq, item, w.emit)
	}
	return w.order.Push(stream, epoch, seq, id, item, w.emit)
}

// handle has a message handled, again after errors.
func (w *worker[M]) handle(item Item[M]) {
	w.current = Delivery[M]{Item: item}
	if item.key != "" {
		w.current.Claim = w.keys.claim(item.key)
	}
	w.attempt()
}

func (w *worker[M]) attempt() {
	for again := true; again; {
		w.current.Attempt++
		again = w.settle(w.do(inHandle, func() error { return w.cfg.Handle(w.handling, &w.current) }))
	}
}

// settle finishes the current message, by what its handler returned. It returns true
// if the handler is to be called again.
func (w *worker[M]) settle(err error) (again bool) {
	d, n := &w.current, &w.Counters
	switch {
	case err == nil:
		n.Handled.Add(1)
		w.commit(d.Item)
		return false
	case w.handling.Err() != nil:
		w.leave(d.Item)
		return false
	}
	code, reason, refused := w.cfg.Refusal(err)
	last := refused || d.Attempt >= w.cfg.Attempts
	n.Failed.Add(1)
	w.cfg.Observer.HandlerFailed(d.Message, err, last)
	switch {
	case refused:
		w.refuse(d.Item, code, reason)
	case last:
		w.refuse(d.Item, wire.ReasonUnspecifiedError, "handler failed")
	default:
		if w.sleep(w.cfg.Backoff(d.Attempt - 1)) {
			return true
		}
		w.leave(d.Item)
	}
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

// committed acknowledges the current message, also if the cache failed: its effect has happened.
func (w *worker[M]) committed(err error) {
	if err != nil {
		w.cfg.Observer.StoreFailed(err)
	}
	w.acknowledge(w.current.Item, wire.ReasonSuccess, "")
}

// maxReason limits the reason string of a refusal, in bytes.
const maxReason = 1024

// refuse gives the claim of a message back, and acknowledges it with a reason code and
// a reason string that MQTT can carry [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func (w *worker[M]) refuse(item Item[M], code byte, reason string) {
	w.Counters.Refused.Add(1)
	if item.key != "" {
		c := w.keys.claim(item.key)
		callback.Try(func() { _ = w.cfg.Dedupe.Abort(w.finishing, c) }) // else its lease ends it
	}
	reason = strings.ReplaceAll(strings.ToValidUTF8(reason, "\uFFFD"), "\x00", "")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	w.acknowledge(item, max(code, wire.ReasonUnspecifiedError), reason) // the session replaces invalid codes
}

// acknowledge finishes a message and its copies. The session sends acknowledgements in
// order of receipt.
func (b *Inbox[M]) acknowledge(item Item[M], code byte, text string) {
	b.answer(receipt{item.In, item.parts, item.Size}, code, text)
	if item.key != "" {
		for _, r := range b.keys.end(item.key) {
			b.answer(r, code, text)
		}
	}
}

// answer acknowledges a PUBLISH when all its handlers have finished. It is refused if one of them
// has refused it.
func (b *Inbox[M]) answer(r receipt, code byte, text string) {
	if r.parts != nil {
		last := false
		if code, text, last = r.parts.finish(code, text); !last {
			return
		}
	}
	b.complete(r.in, code, text)
	b.free(r.size)
}

func (b *Inbox[M]) complete(in *session.Inbound, code byte, text string) {
	if in == nil {
		return
	}
	if err := b.cfg.Session.Complete(in, code, text); err != nil {
		b.cfg.Observer.StoreFailed(err)
	}
}
