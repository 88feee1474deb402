package client

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// errNotTried tells the breaker that an attempt says nothing about the server:
// it was not made, or the connection ended first. Links that break are the
// reconnecting backoff's business; the breaker's are answers and their delay.
var errNotTried = context.Canceled

// batchBytes is how much the drainer hands to the connection at a time.
const batchBytes = 32 << 10

// subscribeFirst is how long the drainer waits on a new connection for its
// subscriptions to be made, so that a client receives what it publishes itself.
// A server that does not answer holds nothing up for longer.
const subscribeFirst = time.Second

// storeRetry is how long the drainer leaves a store alone that gave an error.
const storeRetry = time.Second

// answer is what becomes of a message that the drainer looks at.
type answer int

const (
	passed  answer = iota // it is sent, or has its outcome
	held                  // it has to wait, and all of its priority with it
	stopped               // nothing can be sent now
	gone                  // it was dropped since it was read
)

// drain sends what is in the store until ctx ends: the highest priority first,
// and each in order. It starts from the front on each new connection, so a resend
// and a first send are the same: what is not done is offered again, and counts
// against the server's Receive Maximum again.
func (c *Client) drain(ctx context.Context) {
	f := &c.feed
	f.begin(c.store)
	defer f.retry.Stop()
	defer c.ageing.timer.Stop()
	c.expire()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-f.retry.C:
		case <-c.ageing.timer.C:
		}
		c.expire()
		up := c.current()
		if up == nil || !up.Ready.IsSet() {
			continue
		}
		if wait := subscribeFirst - up.Uptime(); !up.Subscribed.IsSet() && wait > 0 {
			f.retry.Reset(wait)
			continue
		}
		if up.Gen.Number != f.gen {
			if c.suspect.waits() && c.session.Directs() > 0 {
				continue // their acknowledgement wakes
			}
			f.connected(up, c.store)
			if !up.Gen.Present {
				c.ageing.by(0) // what was sent in the session that is lost may be over
				c.wakeDrainer()
			}
			if len(f.resent) > 0 {
				c.noteFirst(up, 0)
			}
			c.pending.unsent()
		}
		f.look = f.place
		for more := true; more && ctx.Err() == nil; {
			more = c.drainBatch(up)
		}
	}
}

// drainBatch offers messages until a batch is full and sends it. It returns
// false when there is nothing to do until the next wake.
func (c *Client) drainBatch(up *link.Up) (more bool) {
	f := &c.feed
	f.batch, f.handed = f.batch[:0], false
	before := f.sent()
	for a := passed; a != stopped && len(f.batch) < batchBytes; {
		ok, err := c.nextEntry()
		if err != nil {
			c.storeSick(err)
			break
		}
		if !ok {
			break
		}
		switch a = c.offer(up); {
		case a == passed:
			f.pass()
			more = len(f.batch) >= batchBytes
		case a == held && f.inAgain:
			a = stopped // what comes again keeps its order
		case a == held:
			f.hold()
		}
	}
	if len(f.batch) == 0 {
		return false
	}
	err := up.Gen.Publish(func(dst []byte) []byte {
		f.handed = true
		return append(dst, f.batch...)
	})
	if !f.handed {
		f.unsend(before) // the connection was over: none of it left
	}
	return err == nil && more
}

// offer puts the message in f.entry into the batch, or finishes with it.
func (c *Client) offer(up *link.Up) answer {
	f := &c.feed
	e := &f.entry
	if a := c.identifierFree(); a != passed {
		return a
	}
	id := session.PacketID(uint8(e.Priority), e.Number)
	if e.Released {
		if a := admitted(up.Gen.OfferReleased(e.Seq, id)); a != passed {
			return a
		}
		c.noteFirst(up, 0)
		return passed
	}
	l := &f.lines[e.Priority]
	qos := e.Packet[0] >> 1 & 3
	again := e.Number <= max(l.before, l.sent)
	var left time.Duration
	if !e.Expires.IsZero() {
		if left = e.Expires.Sub(c.store.Now()); left <= 0 && f.canExpire(e) {
			c.giveUpExpired(e)
			return passed
		}
	}
	if !again && c.pending.isStale(e.Seq) {
		c.conflated(e)
		return passed
	}
	if err := fits(len(e.Packet), qos, e.Packet[0]&1 != 0, up.Gen.Limits); err != nil {
		stored, o := c.refusal(err.Code, err)
		c.giveUp(e.Seq, stored, o, e.ID)
		return passed
	}
	report, err := c.breaker.Allow()
	if err != nil {
		c.wakeWhenClosed(err)
		return stopped
	}
	a := c.mark(up)
	if a == passed {
		a = admitted(up.Gen.Offer(e.Seq, id, qos))
	}
	switch {
	case a == gone:
		report(errNotTried)
		return passed
	case a != passed:
		report(errNotTried)
		return a
	}
	c.pending.sent(e.Seq, e.ID, report)
	c.noteFirst(up, e.Seq)
	f.batch = wire.AppendImage(f.batch, e.Packet, id, again, seconds(left))
	l.sent = max(l.sent, e.Number)
	l.count++
	return passed
}

// admitted is what an answer of the session means to the drainer.
func admitted(a session.Admission) answer {
	switch a {
	case session.Admitted:
		return passed
	case session.Taken:
		return held
	}
	return stopped
}

// noteFirst tells which message goes out first on a connection.
func (c *Client) noteFirst(up *link.Up, seq uint64) {
	if c.feed.begun != up.Gen.Number {
		c.feed.begun = up.Gen.Number
		c.suspect.first(up.Gen.Number, seq, c.feed.entry.ID, c.session.Directs() == 0)
	}
}

// fits says why this server cannot take a packet, or nil.
func fits(size int, qos byte, retain bool, l session.Limits) *RefusedError {
	switch {
	case l.MaximumPacketSize > 0 && size > int(l.MaximumPacketSize):
		return &RefusedError{Code: wire.ReasonPacketTooLarge, Reason: "larger than the server's Maximum Packet Size; send less at a time"}
	case qos > l.MaximumQoS:
		return &RefusedError{Code: wire.ReasonQoSNotSupported, Reason: "above the server's Maximum QoS; publish with a lower one"}
	case retain && !l.RetainAvailable:
		return &RefusedError{Code: wire.ReasonRetainNotSupported, Reason: "the server has no retained messages; publish without Retain"}
	}
	return nil
}

// wakeWhenClosed has the drainer look again when the breaker lets something
// through. Half-open with all trials taken it need not look: their answers wake
// it.
func (c *Client) wakeWhenClosed(err error) {
	var open *reliability.OpenError
	if errors.As(err, &open) && open.RetryAfter > 0 {
		c.feed.retry.Reset(open.RetryAfter)
	}
}

// settled takes the server's final acknowledgement. It runs on the reader's
// goroutine.
func (c *Client) settled(seq uint64, reason byte, text string) {
	c.suspect.acked.Store(true)
	stored, o := persistence.Result{Kind: persistence.Acked, Reason: reason}, Outcome{State: Acked, Reason: reason}
	if reason >= 0x80 {
		stored, o = c.refusal(reason, &RefusedError{Code: reason, Reason: text})
	}
	c.finish(seq, stored, o, MessageID{})
}

// refusal is the outcome of a message that no server takes as it is.
func (c *Client) refusal(reason byte, err error) (persistence.Result, Outcome) {
	kind, state := persistence.Refused, Refused
	if c.cfg.Store.DeadLetters > 0 {
		kind, state = persistence.DeadLettered, DeadLettered
	}
	return persistence.Result{Kind: kind, Reason: reason}, Outcome{State: state, Reason: reason, Err: err}
}

// finish makes an outcome final: in the store, to the breaker, and to whoever
// awaits the Delivery. id is used where the message was never sent.
func (c *Client) finish(seq uint64, stored persistence.Result, o Outcome, id MessageID) {
	if err := c.store.Done(seq, stored); err != nil {
		// The outcome stands; at worst the message is sent again after a restart.
		c.storeFailed(err)
	}
	m := c.pending.settle(seq)
	if m.report != nil {
		m.report(o.Err)
	}
	m.delivery.resolve(o)
	if !m.id.IsZero() {
		id = m.id
	}
	switch o.State {
	case Refused, DeadLettered, Dropped:
		c.event(MessageRefused{ID: id, Err: o.Err, DeadLetter: o.State == DeadLettered})
	case Expired:
		c.event(MessageExpired{ID: id})
	}
	c.drained()
}

// giveUp ends a message that may have been sent without an acknowledgement.
func (c *Client) giveUp(seq uint64, stored persistence.Result, o Outcome, id MessageID) {
	c.session.Forget(seq)
	c.finish(seq, stored, o, id)
}
