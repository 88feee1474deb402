package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// This file is the path of a message, from top to bottom.

// Draft is a message for Add. Of Message, Add sets Accepted, Expires, Stream,
// StreamSeq and Packet.
type Draft struct {
	persistence.Message
	Expiry     time.Duration                          // lifetime; 0: it does not expire
	StreamName string                                 // the stream that numbers it; empty: none
	Encode     func(dst []byte, number uint64) []byte // appends its PUBLISH; number 0: none
}

// Add stores a message and returns when it is durable under the store's sync policy.
// w gets its result. After an error nothing was accepted, unless the store failed
// while it wrote.
func (o *Outbox) Add(ctx context.Context, d *Draft, w *Waiter) error {
	o.adding.Add(1)
	defer o.added()
	if refused := o.refuse.Load(); refused != nil {
		return *refused
	}
	ticket, err := o.admit(ctx, d)
	if err != nil {
		if o.cfg.WhenFull == DropNewest && storeFull(err) {
			o.report(w, o.described(End{ID: d.ID, State: Dropped, Cause: StoreFull, Err: err}))
			return nil
		}
		return o.failed(err)
	}
	end := o.open.register(ticket.Seq, d, w)
	for _, d := range ticket.Drops {
		o.end(d.Seq, dropped(d))
	}
	if err := o.cfg.Store.Wait(ticket); err != nil {
		o.open.forget(ticket.Seq)
		return safe.Unknown(o.failed(err)) // it may be in the log
	}
	if end != nil { // others have committed, sent and ended it already
		end.ID = d.ID
		o.report(w, o.described(*end))
	}
	o.expiry.accepted(d.Expiry)
	o.Wake()
	return nil
}

// enqueue gives a message its number and its place in the log.
func (o *Outbox) enqueue(d *Draft) (persistence.Ticket, error) {
	d.Accepted, d.Expires = time.Time{}, time.Time{}
	if d.Expiry > 0 {
		d.Accepted = o.cfg.Store.Now()
		d.Expires = d.Accepted.Add(d.Expiry)
	}
	if d.Key != "" {
		o.replaces.Store(true)
	}
	if d.StreamName == "" {
		return d.enqueue(o.cfg.Store)
	}
	s, err := o.streams.get(o.cfg.Store, d.StreamName)
	if err != nil {
		return persistence.Ticket{}, err
	}
	return s.enqueue(o.cfg.Store, d)
}

func (d *Draft) enqueue(store Store) (persistence.Ticket, error) {
	d.Packet = d.Encode(d.Packet[:0], d.StreamSeq)
	return store.Enqueue(&d.Message)
}

// failed returns the error of Add for an error of the store.
func (o *Outbox) failed(err error) error {
	switch {
	case errors.Is(err, persistence.ErrFailed):
		o.cfg.StoreFailed(err)
	case errors.Is(err, persistence.ErrClosed) && o.closing.Err() != nil: // by its owner, meanwhile
		return context.Cause(o.closing)
	}
	return err
}

func (o *Outbox) added() {
	if o.adding.Add(-1) == 0 {
		o.ended.Notify()
	}
}

// errNotTried makes the breaker ignore an attempt: it was not made, or the connection
// ended first. Broken links are the reconnect backoff's business.
var errNotTried = context.Canceled

const (
	batchBytes = 32 << 10    // what is handed to the connection at a time
	storeRetry = time.Second // after an error of the store
)

// verdict is what becomes of a message that the send loop looks at.
type verdict int

const (
	passed  verdict = iota // it is sent, or has ended
	held                   // it has to wait, with all of its priority
	stopped                // nothing can be sent now
	gone                   // it was dropped since it was read
)

// Run is the send loop: it sends what is in the store until ctx ends, the highest
// priority first and each in order. On each connection it starts at the front again:
// what has not ended is offered again, and counts against the server's Receive
// Maximum again.
func (o *Outbox) Run(ctx context.Context) {
	defer o.retry.Stop()
	defer o.expiry.timer.Stop()
	for {
		for e := range o.timePassed {
			o.end(e.Seq, expired(e))
		}
		if g := o.ready(); g != nil {
			o.cursor.rewind()
			for ctx.Err() == nil && o.sendBatch(g) {
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-o.retry.C:
		case <-o.expiry.timer.C:
		}
	}
}

// ready returns the connection to send on, and prepares for a new one; nil: there is
// none, or it waits for the acknowledgement of unstored messages, which wakes the send
// loop.
func (o *Outbox) ready() *session.Generation {
	g := o.up.Load()
	if g == nil || g == o.cursor.g {
		return g
	}
	if o.poison.mustWait(g) {
		return nil
	}
	o.open.connectionEnded()
	o.cursor.begin(g, o.cfg.Store)
	o.sent.begin(o.cfg.Store, g.Present)
	if len(o.cursor.offered) > 0 {
		o.sending(g, 0)
	}
	if !g.Present { // what was sent in the lost session can expire now
		o.expiry.by(0)
		o.Wake()
	}
	return g
}

// sendBatch offers messages until a batch is full, and sends it. It returns false
// when there is nothing to do until the next wake.
func (o *Outbox) sendBatch(g *session.Generation) (more bool) {
	o.batch = o.batch[:0]
	before := o.sent.sent()
	for v := passed; v != stopped && len(o.batch) < batchBytes; {
		ok, err := o.cursor.next(o.cfg.Store)
		if err != nil {
			o.storeFailed(err)
			break
		}
		if !ok {
			break
		}
		switch v = o.offer(g); v {
		case passed:
			o.cursor.pass()
			more = len(o.batch) >= batchBytes
		case held:
			if !o.cursor.hold() {
				v = stopped
			}
		}
	}
	if len(o.batch) == 0 {
		return false
	}
	handed := false
	err := g.Publish(func(dst []byte) []byte {
		handed = true
		return append(dst, o.batch...)
	})
	if !handed {
		o.sent.takeBack(before) // the connection had ended: none of it was sent
	}
	return err == nil && more
}

// offer puts the current message into the batch, or ends it, or lets it wait.
func (o *Outbox) offer(g *session.Generation) verdict {
	e := &o.cursor.entry
	w := &o.sent[e.Priority]
	if free, err := w.identifierFree(o.cfg.Store, e); err != nil {
		return o.storeFailed(err)
	} else if !free {
		return held
	}
	id := session.PacketID(uint8(e.Priority), e.Number)
	if e.Released {
		return admitted(g.OfferReleased(e.Seq, id))
	}
	dup := o.sent.maybeSent(e)
	var left time.Duration
	if !e.Expires.IsZero() {
		left = e.Expires.Sub(o.cfg.Store.Now())
	}
	reason := g.Limits.Check(len(e.Packet), qos(e), e.Packet[0]&1 != 0)
	switch {
	case left <= 0 && o.canExpire(e):
		o.end(e.Seq, expired(e))
		return passed
	case !dup && o.open.isReplaced(e.Seq):
		o.end(e.Seq, End{ID: e.ID, State: Dropped, Cause: Replaced})
		return passed
	case reason != 0:
		end := o.refused(ByLimit, reason)
		end.ID = e.ID
		o.end(e.Seq, end)
		return passed
	}
	judge, err := o.cfg.Breaker.Allow()
	if err != nil {
		o.awaitBreaker(err)
		return stopped
	}
	v := o.persist(g, w)
	if v == passed {
		v = admitted(g.Offer(e.Seq, id, qos(e)))
	}
	if v == gone {
		judge(errNotTried)
		return passed
	}
	if v != passed {
		judge(errNotTried)
		return v
	}
	o.open.sent(e.Seq, e.ID, judge)
	o.sending(g, e.Seq)
	o.batch = wire.AppendImage(o.batch, e.Packet, id, dup, wire.Seconds(left))
	w.advance(e)
	return passed
}

// persist makes it durable that the current message may have been sent.
func (o *Outbox) persist(g *session.Generation, w *watermark) verdict {
	e := &o.cursor.entry
	if e.Number <= w.persisted {
		return passed
	}
	free := g.Free()
	if free == 0 {
		return stopped
	}
	if err := w.raise(o.cfg.Store, e, free, o.replaces.Load()); err != nil {
		return o.storeFailed(err)
	}
	// Until then the store could drop it.
	ok, err := o.cfg.Store.Get(e.Seq, e)
	switch {
	case err != nil:
		return o.storeFailed(err)
	case !ok:
		return gone
	}
	return passed
}

// admitted is the verdict for an answer of the session.
func admitted(a session.Admission) verdict {
	switch a {
	case session.Admitted:
		return passed
	case session.Taken:
		return held
	}
	return stopped
}

// sending notes the first message that is sent on a connection; seq is 0 if only its
// PUBREL is.
func (o *Outbox) sending(g *session.Generation, seq uint64) {
	if !o.cursor.anything {
		o.cursor.anything = true
		o.poison.sendingFirst(g, seq, o.cursor.entry.ID)
	}
}

// awaitBreaker lets the send loop look again when the breaker allows an attempt. If
// all trials of a half-open breaker are taken, their acknowledgements wake it.
func (o *Outbox) awaitBreaker(err error) {
	var open *reliability.OpenError
	if errors.As(err, &open) && open.RetryAfter > 0 {
		o.retry.Reset(open.RetryAfter)
	}
}

// storeFailed leaves the store alone for a while.
func (o *Outbox) storeFailed(err error) verdict {
	o.cfg.StoreFailed(err)
	o.retry.Reset(storeRetry)
	return stopped
}

// Acknowledged takes the final acknowledgement of a message. It runs on the goroutine
// that reads from the connection.
func (o *Outbox) Acknowledged(seq uint64, reason byte, text string) {
	end := End{State: Acked, Reason: reason}
	if reason >= 0x80 {
		end = o.refused(ByServer, reason)
		end.Text = text
	}
	o.end(seq, end)
}

// end is the only way for a message to end: it records the result, reports to the
// breaker, resolves the waiter and reports e.
func (o *Outbox) end(seq uint64, e End) {
	if !e.stored {
		if err := o.cfg.Store.Done(seq, e.result()); err != nil {
			o.cfg.StoreFailed(err) // at worst the message is sent again after a restart
		}
	}
	m, registered := o.open.end(seq, &e)
	e = o.described(e)
	if m.judge != nil {
		m.judge(e.judged())
	}
	if registered {
		o.report(m.waiter, e)
	}
}

// described completes e with the application's error.
func (o *Outbox) described(e End) End {
	if e.State != Acked {
		e.Err = o.cfg.Describe(e)
	}
	return e
}

// report makes e known; w is nil if an earlier process accepted the message.
func (o *Outbox) report(w *Waiter, e End) {
	o.cfg.Ended(e)
	if w != nil {
		w.Resolve(Result{State: e.State, Reason: e.Reason, Err: e.Err})
	}
	o.ended.Notify()
}
