package client

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
)

// The receive path, in the order a message takes it: receive (on the reader's
// goroutine) → lane → admit (dedupe Begin) → arrange (ordering) → handle →
// commit (dedupe Commit) → session.Complete, which queues the acknowledgement.

// received by the session: a message on its way through a lane.
type arrival struct {
	in *session.Inbound // nil at QoS 0
	m  *Message

	claim dedupe.Claim // held in Config.Receiving.Dedupe; zero: none

	size int64 // in the inbound budget
}

// receive copies a message out of the reader's buffer and gives it to its
// lane. QoS 1 and 2 are bounded by our Receive Maximum (what a resumed session
// sends again, by the packet identifiers there are), QoS 0 messages are dropped
// when their lane is full, and all by Config.Receiving.MaxBufferedBytes. It blocks where
// that is used up, and nowhere else.
func (c *Client) receive(in *session.Inbound, topic string, v wire.PublishView) {
	p := v.Decode(topic)
	m := received(&p)
	only := c.tapped(m)
	if c.heardOwn(in, topic, v.Payload) {
		return
	}
	if only {
		c.counters.received.Add(1)
		c.taken(in)
		return
	}
	size := footprint(topic, v)
	if !c.hasRoom(in, size) {
		return
	}
	c.counters.received.Add(1)
	if !c.laneOf(c.laneKey(m)).push(arrival{in: in, m: m, size: size}) {
		c.free(arrival{size: size})
		if in == nil { // others come again
			c.counters.dropped.Add(1)
		}
	}
}

// laneKey is what keeps m in order with others: its topic, unless the program
// says otherwise.
func (c *Client) laneKey(m *Message) string {
	if c.cfg.Receiving.OrderingKey == nil {
		return m.Topic
	}
	return c.ask(c.cfg.Receiving.OrderingKey, m, m.Topic)
}

// dedupeKey is what makes m the same message as another; empty: nothing.
func (c *Client) dedupeKey(m *Message) string {
	switch {
	case c.cfg.Receiving.Dedupe == nil, c.stored(m):
		return ""
	case c.cfg.Receiving.DedupeKey != nil:
		return c.ask(c.cfg.Receiving.DedupeKey, m, "")
	case m.ID.IsZero():
		return ""
	}
	return string(m.ID[:])
}

// stored reports whether m was sent because of a subscription that was made, out
// of the server's retained messages: it is the state of its topic, wanted each
// time, and neither a repetition nor late. With RetainAsPublished that cannot be
// told from the flag.
func (c *Client) stored(m *Message) bool { return m.Retain && !c.retainAsPublished.Load() }

// ask calls a function of the program's that names a message; otherwise stands
// in if it panics.
func (c *Client) ask(f func(*Message) string, m *Message, otherwise string) (key string) {
	defer func() {
		if v := recover(); v != nil {
			c.event(HandlerFailed{Message: m, Err: &PanicError{Value: v, Stack: debug.Stack()}})
			key = otherwise
		}
	}()
	return f(m)
}

// admit claims the message's key, and ends its way here if it was handled
// before.
func (l *lane) admit(a arrival) (arrival, bool) {
	c := l.c
	key := c.dedupeKey(a.m)
	if key == "" {
		return a, true
	}
	if !c.claims.join(key, a.in) {
		// The first copy is held by the resequencer or in another lane; this one
		// shares its fate.
		c.counters.duplicates.Add(1)
		c.free(a)
		return a, false
	}
	claim, verdict := l.begin(key)
	switch verdict {
	case dedupe.Fresh:
		c.claims.hold(claim)
		a.claim, a.m.Claim = claim, claim
		return a, true
	case dedupe.Duplicate:
		c.counters.duplicates.Add(1)
		l.completeAll(a, key, wire.ReasonSuccess, "")
	default: // the client stops
		c.claims.end(key)
	}
	c.free(a)
	return a, false
}

// begin claims key in the cache. While the cache fails, or another owner holds the
// key, the message can neither be handled nor acknowledged, and the server does
// not send it again on this connection: begin retries, and waits for the owner. It
// returns no verdict if the client stops.
func (l *lane) begin(key string) (dedupe.Claim, dedupe.Verdict) {
	cache := l.c.cfg.Receiving.Dedupe
	var waitedFor uint64
	for attempt := 0; ; attempt++ {
		claim, verdict, err := cache.Begin(l.accepting, key, l.c.claims.owner)
		if err == nil && verdict != dedupe.InFlight {
			return claim, verdict
		}
		if err == nil && claim.Token != waitedFor { // else Wait returned early
			waitedFor = claim.Token
			if err = cache.Wait(l.accepting, claim); err == nil {
				continue
			}
		}
		if l.accepting.Err() != nil {
			return dedupe.Claim{}, 0
		}
		if err != nil {
			l.c.storeFailed(err)
		}
		if !l.pause(attempt) {
			return dedupe.Claim{}, 0
		}
	}
}

// arrange hands the message on in its publisher's order: now, later, or not at
// all.
func (l *lane) arrange(a arrival) {
	o := a.m.Origin
	if l.order == nil || o.Seq == 0 || l.c.stored(a.m) {
		l.handle(a)
		return
	}
	dropped := &l.c.counters.duplicates
	switch l.order.Push(streamKey(o.Publisher, a.m.Topic), o.Epoch, o.Seq, a, l.handle) {
	case ordering.Late:
		if l.c.cfg.Receiving.Ordering.Late != ordering.DropLate {
			return // it was handled
		}
		dropped = &l.c.counters.late
		fallthrough
	case ordering.Duplicate:
		dropped.Add(1)
		l.commit(a)
		l.complete(a, wire.ReasonSuccess, "")
		l.c.free(a)
	}
}

// handle runs the handlers and settles the message.
func (l *lane) handle(a arrival) {
	c := l.c
	defer c.free(a)
	var room [4]*route
	handlers := c.router.match(a.m.Topic, room[:0])
	if len(handlers) == 0 {
		c.counters.unhandled.Add(1)
		l.refuse(a, &Refusal{Code: wire.ReasonImplementationSpecific, Reason: "no handler for this topic"})
		c.event(Unhandled{Message: a.m})
		return
	}
	for attempt := 1; ; attempt++ {
		done, err := l.runAll(handlers, a.m)
		if err == nil {
			c.counters.handled.Add(1)
			l.commit(a)
			l.complete(a, wire.ReasonSuccess, "")
			return
		}
		if l.ctx.Err() != nil {
			l.release(a) // not acknowledged: it comes again
			return
		}
		handlers = handlers[done:] // those that accepted it have had it
		var refusal *Refusal
		last := errors.As(err, &refusal) || attempt >= c.cfg.Receiving.HandlerAttempts
		c.counters.failed.Add(1)
		c.event(HandlerFailed{Message: a.m, Err: err, Refused: last})
		if last {
			if refusal == nil {
				refusal = &Refusal{Code: wire.ReasonUnspecifiedError, Reason: "handler failed"}
			}
			l.refuse(a, refusal)
			return
		}
		if !l.pause(attempt - 1) {
			l.release(a)
			return
		}
	}
}

// runAll returns how many handlers accepted the message before one did not.
func (l *lane) runAll(handlers []*route, m *Message) (done int, err error) {
	for _, h := range handlers {
		if err := l.runOne(h.Value, m); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

func (l *lane) runOne(h Handler, m *Message) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return h.Handle(l.ctx, m)
}

func (l *lane) commit(a arrival) {
	if a.claim.Token == 0 {
		return
	}
	if err := l.c.cfg.Receiving.Dedupe.Commit(context.Background(), a.claim); err != nil {
		// The effect has happened: acknowledging is the lesser evil.
		l.c.storeFailed(err)
	}
}

func (l *lane) refuse(a arrival, r *Refusal) {
	l.c.counters.refused.Add(1)
	l.abort(a.claim)
	l.complete(a, r.code(), r.text())
}

// release gives the claim back without an answer to the server.
func (l *lane) release(a arrival) {
	if a.claim.Token != 0 {
		l.abort(a.claim)
		l.c.claims.end(a.claim.Key)
	}
}

// abort gives claim back, if it is one.
func (l *lane) abort(claim dedupe.Claim) {
	if claim.Token != 0 {
		// After an error the lease ends, or another owner has the claim.
		_ = l.c.cfg.Receiving.Dedupe.Abort(context.Background(), claim)
	}
}

// complete queues the acknowledgement of the message, and of its copies.
func (l *lane) complete(a arrival, reason byte, text string) {
	l.completeAll(a, a.claim.Key, reason, text)
}

// completeAll is complete for the message and the copies that wait for key, if it
// is not empty.
func (l *lane) completeAll(a arrival, key string, reason byte, text string) {
	l.completeOne(a.in, reason, text)
	if key == "" {
		return
	}
	for _, in := range l.c.claims.end(key) {
		l.completeOne(in, reason, text)
	}
}

func (l *lane) completeOne(in *session.Inbound, reason byte, text string) {
	if in == nil {
		return
	}
	if err := l.c.session.Complete(in, reason, text); err != nil {
		l.c.storeFailed(err)
	}
}
