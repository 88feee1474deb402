package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Add stores a message and returns when it is durable under the store's sync policy. w gets the
// result of the message. If Add returns an error other than *UnknownError, the message was not
// accepted.
func (o *Outbox) Add(ctx context.Context, d *Draft, w *Waiter) error {
	o.adding.Add(1)
	defer o.added()
	if err := o.Refused(); err != nil {
		return err
	}
	ticket, err := o.admit(ctx, d)
	m := added{ticket: ticket, id: d.ID, expiry: d.Expiry, waiter: w, unnumbered: d.unnumbered()}
	if err == nil {
		m.end, m.closed = o.open.register(ticket.Seq, ticket.Replaced, d, w)
	}
	o.endDropped(&ticket, d)
	if err != nil {
		if o.cfg.WhenFull == DropNewest && storeFull(err) {
			o.report(w, tooFull(d.ID, d, err).described(o.cfg.Describe))
			return nil
		}
		return o.failed(err)
	}
	if err = o.cfg.Store.Wait(bounded(ctx, o.endless), ticket); tookTooLong(ctx, err) { // the outcome is unknown: the store may still store it
		o.adding.Add(1)
		o.late.Do(m)
		return &UnknownError{err}
	}
	return o.stored(&m, err)
}

// stored completes Add after the store has answered. err is the answer of the store.
func (o *Outbox) stored(m *added, err error) error {
	if err != nil {
		if !errors.Is(err, persistence.ErrDegraded) { // after ErrDegraded, the message is stored when the outage ends
			o.open.forget(m.ticket.Seq)
			m.waiter.Resolve(Result{State: Abandoned, Err: err})
		}
		return &UnknownError{o.failed(err)}
	}
	m.report(&o.cfg)
	switch {
	case m.end != nil: // other goroutines have already committed, sent and ended the message
		m.end.ID = m.id
		o.report(m.waiter, m.end.described(o.cfg.Describe))
	case m.closed != nil:
		m.waiter.Resolve(Result{State: Abandoned, Err: m.closed})
	}
	o.expiry.accepted(m.expiry)
	o.Wake()
	return nil
}

// admit enqueues d without waiting for the disk. If the policy is Block or d.Block is set, it waits
// for room.
func (o *Outbox) admit(ctx context.Context, d *Draft) (persistence.Ticket, error) {
	ticket, err := o.enqueue(ctx, d)
	for (d.Block || o.cfg.WhenFull == Block) && mayPass(err) {
		ticket, err = o.enqueueLater(ctx, d, deferredFull(err))
	}
	return ticket, err
}

// enqueueLater retries each time a message ends. If deferred is false, only one call at a time
// retries. If it is true, all calls retry, because the limit depends on the topic.
func (o *Outbox) enqueueLater(ctx context.Context, d *Draft, deferred bool) (ticket persistence.Ticket, err error) {
	if !deferred {
		if err := o.wait(ctx, o.turn); err != nil {
			return ticket, err
		}
		defer func() { o.turn <- struct{}{} }()
	}
	for {
		changed := o.ended.Changed()
		if ticket, err = o.enqueue(ctx, d); !mayPass(err) || deferredFull(err) != deferred {
			return ticket, err
		}
		if err := o.waitRoom(ctx, changed, err); err != nil {
			return ticket, err
		}
	}
}

// enqueue appends d to the log. A message of a stream gets its number in the same step. So the
// numbers have the order of the log, and only a stored message uses up a number.
func (o *Outbox) enqueue(ctx context.Context, d *Draft) (ticket persistence.Ticket, err error) {
	if full := o.fullOfDeferred(d); full != nil && full.oldest == 0 {
		return ticket, full
	} else if full != nil {
		o.end(full.oldest, tooFull([16]byte{}, d, full))
	}
	d.begin(o.cfg.Store)
	if d.Key != "" {
		o.replaces.Store(true)
	}
	if d.StreamName != "" {
		var s *stream
		s, err = o.streams.lock(ctx, o.cfg.Store, d.StreamName)
		switch {
		case err == nil:
			d.Stream, d.StreamSeq = s.id, s.last+1
			defer func() { s.unlock(ticket.Seq > 0) }()
		case o.cfg.Unnumbered == nil || !streamsFull(err):
			return ticket, err
		}
	}
	d.Packet = d.Encode(d.Packet[:0], d.StreamSeq)
	if ticket, err = o.cfg.Store.Enqueue(bounded(ctx, o.endless), &d.Message); err != nil {
		o.endDropped(&ticket, d)
		ticket.Drops = nil
	}
	return ticket, err
}

// Run is the send loop. It sends the stored messages until ctx ends: the highest priority first,
// and in order within each priority. On each connection it starts at the front again. It offers all
// messages that have not ended, and they count against the server's Receive Maximum again.
func (o *Outbox) Run(ctx context.Context) {
	defer o.again.Stop()
	defer o.expiry.timer.Stop()
	for {
		o.restoreDeferred()
		looked := time.Now()
		for e, err := range o.expiry.step(o.cfg.Store, o.sent.canExpire) {
			if err != nil {
				o.storeFailed(err)
			} else {
				o.end(e.Seq, expired(e))
			}
		}
		o.expireDeferred()
		o.endCancelled()
		if g := o.ready(); g != nil {
			o.cursor.rewind()
			for ctx.Err() == nil && o.sendBatch(g) {
			}
		}
		o.awaitDeferred(looked)
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-o.again.C:
			o.againAt = time.Time{}
		case <-o.expiry.timer.C:
		}
	}
}

// ready returns the connection to send on. It returns nil if there is none, or if messages must
// wait for an answer of the server.
func (o *Outbox) ready() *session.Generation {
	g := o.up.Load()
	o.answerRefusals(g) // handle refusals of an earlier connection before sending on this one
	o.endAll()
	if g != nil && g != o.cursor.g {
		o.begin(g)
	}
	if g == nil || o.unreadable() || o.lookAtRefusals(g) || o.poison.mustWait(g) {
		g = nil
	}
	o.endAll()
	return g
}

// sendBatch offers messages until a batch is full, and sends it. It returns false if the send loop
// must wait for the next wake.
func (o *Outbox) sendBatch(g *session.Generation) (more bool) {
	o.batch = o.batch[:0]
	before := o.sent
	for more = !o.lookAtRefusals(g) && !o.retry(g, false); more && len(o.batch) < batchBytes; {
		ok, err := o.cursor.next(o.cfg.Store)
		if err != nil {
			o.storeFailed(err)
		}
		if !ok {
			more = false
			if err == nil && len(o.batch) == 0 && g.InFlight() == 0 {
				o.retry(g, true)
			}
			break
		}
		switch o.offer(g) {
		case passed, gone:
			o.cursor.pass()
		case held:
			more = o.cursor.hold()
		default:
			more = false
		}
	}
	o.endAll()
	if more = o.cursor.retries() || more; len(o.batch) == 0 { // deferred messages follow the resent ones
		return more
	}
	handed := false
	err := g.Publish(func(dst []byte) []byte {
		handed = true
		return append(dst, o.batch...)
	})
	if !handed {
		o.sent = before // the connection had ended, so none of the batch was sent
	}
	return err == nil && more
}

// offer appends the current message to the batch, ends it, or makes it wait.
func (o *Outbox) offer(g *session.Generation) verdict {
	e := &o.cursor.entry
	w := &o.sent[e.Priority]
	id, deferred := e.Deferral.PacketID, e.Deferral.PacketID != 0
	if !deferred {
		if free, err := w.identifierFree(o.cfg.Store, e); err != nil {
			return o.storeFailed(err)
		} else if !free {
			return held
		}
		id = session.PacketID(uint8(e.Priority), e.Number)
	}
	if e.Released {
		return g.OfferReleased(e.Seq, id)
	}
	dup, left := deferred || o.sent.maybeSent(e), o.timeLeft(e)
	if end, over := o.unsendable(g, e, dup, left, !deferred && o.sent.canExpire(e)); over {
		if !dup || !o.givenUpByLimit(e, end) {
			o.end(e.Seq, end)
		}
		return passed
	}
	if !deferred && o.follow(id, dup) || dup && o.keep(g, id) {
		return passed
	}
	if limit := o.window.Limit(); limit > 0 && g.InFlight() >= limit {
		return stopped
	}
	judge := o.allow()
	if judge == nil {
		return stopped
	}
	v := verdict(passed)
	if !deferred {
		v = o.persist(g, w)
	}
	if v == passed {
		v = g.Offer(e.Seq, id, o.qosFor(g, e))
	}
	if v != passed {
		judge(errNotTried)
		return v
	}
	o.open.sent(e.Seq, e.ID, o.qosFor(g, e), judge)
	if o.cursor.first() {
		o.poison.sendingFirst(g)
	}
	o.batch = o.image(g, o.batch, e, id, dup, left)
	if !deferred {
		w.advance(e)
	}
	return passed
}

// Acknowledged handles the final acknowledgement of a message. It runs on the goroutine that reads
// from the connection. The send loop handles a refusal later.
func (o *Outbox) Acknowledged(seq uint64, reason byte, text string) {
	o.answered(reason < 0x80)
	if reason >= 0x80 {
		o.deferred.Note(deferral.Refusal{Seq: seq, Code: reason, Text: text})
		o.Wake()
		return
	}
	o.end(seq, End{State: Acked, Reason: reason})
}

// end records the result of a message in the store and reports it. Every message ends here, except
// those that report handles.
func (o *Outbox) end(seq uint64, e End) {
	if !e.stored {
		if e.State != Acked && e.Topic == "" {
			e.Topic = o.topicOf(seq)
		}
		if err := o.cfg.Store.Done(seq, e.result()); err != nil {
			o.cfg.StoreFailed(err) // at worst the message is sent again after a restart
		}
	}
	if o.deferred.Any() {
		o.deferred.Ended(seq, e.Cause == ByServer, e.State == Acked, time.Now())
	}
	c := o.open.end(seq, &e)
	e = e.described(o.cfg.Describe)
	if c.judge != nil {
		c.judge(e.judged())
	}
	if !c.registered {
		return
	}
	o.cfg.Ended(e)
	if c.results != nil {
		c.results.resolve(c.slot, e.outcome())
	}
	o.ended.Notify()
}

// report reports the end of a message that Add did not store, or that ended before Add registered
// it.
func (o *Outbox) report(w *Waiter, e End) {
	o.cfg.Ended(e)
	w.Resolve(e.outcome())
	o.ended.Notify()
}
