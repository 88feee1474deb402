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

// feed is the drainer's place in the log. Only the drainer touches it, but for
// sentUpTo.
type feed struct {
	gen    uint64 // the connection that after belongs to
	begun  uint64 // the connection on which something was sent
	after  uint64 // all up to here was offered on it
	safe   uint64 // packet identifiers up to this sequence are free, durably
	resend uint64 // up to here a message may have been sent before
	sent   uint64 // up to here this process has sent in the present session
	entry  persistence.Entry
	batch  []byte
	retry  *time.Timer // when to look again although nothing happened: the breaker, the store
}

// drain sends what is in the store, in order, until ctx ends. It starts from
// the front on each new connection, so a resend and a first send are the same:
// what is not done is offered again, and counts against the server's Receive
// Maximum again.
func (c *Client) drain(ctx context.Context) {
	c.feed.safe = session.Lap
	// What an earlier process may have sent: its last full window at most.
	c.feed.resend = min(c.firstPending()+1<<16, c.pending.before)
	c.feed.retry = time.NewTimer(time.Hour)
	defer c.feed.retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-c.feed.retry.C:
		}
		c.mu.Lock()
		up, caughtUp := c.up, c.caughtUp
		c.mu.Unlock()
		if up == nil {
			continue
		}
		if wait := subscribeFirst - up.Age(); caughtUp != up && wait > 0 {
			c.feed.retry.Reset(wait)
			continue
		}
		if up.Gen.Number != c.feed.gen {
			c.feed.gen, c.feed.after = up.Gen.Number, 0
			c.pending.unsent()
			if !up.Gen.Present {
				c.feed.resend, c.feed.sent = 0, 0
			}
		}
		for more := true; more && ctx.Err() == nil; {
			more = c.drainBatch(up)
		}
	}
}

// drainBatch offers messages until a batch is full and sends it. It returns
// false when there is nothing to do until the next wake.
func (c *Client) drainBatch(up *link.Up) (more bool) {
	f := &c.feed
	f.batch = f.batch[:0]
	for len(f.batch) < batchBytes {
		ok, err := c.store.Next(&persistence.Cursor{f.after}, &f.entry)
		if err != nil {
			c.storeFailed(err)
			f.retry.Reset(storeRetry)
			break
		}
		if !ok || !c.offer(up) {
			break
		}
		f.after = f.entry.Seq
		more = len(f.batch) >= batchBytes
	}
	if len(f.batch) == 0 {
		return false
	}
	err := up.Send(func(dst []byte) []byte { return append(dst, f.batch...) })
	return err == nil && more
}

// offer puts the message in f.entry into the batch, or finishes with it. It
// returns false if the message must wait.
func (c *Client) offer(up *link.Up) bool {
	f := &c.feed
	e := &f.entry
	if !c.identifierFree(e.Seq) {
		return false
	}
	if e.Released {
		if up.Gen.OfferReleased(e.Seq) != session.Admitted {
			return false
		}
		c.noteFirst(up, 0)
		return true
	}
	qos := e.Packet[0] >> 1 & 3
	again := e.Seq <= f.resend
	var left time.Duration
	if !e.Expires.IsZero() {
		// Once sent, a message does not expire: it is resent [MQTT-4.4.0-1]
		// [MQTT-4.3.3-7]. What an earlier process may have sent counts as sent
		// at QoS 2, where giving up is wrong, and not at QoS 1, where being late
		// is.
		left = e.Expires.Sub(c.clock.now())
		if left <= 0 && e.Seq > f.sent && !(again && qos == 2) {
			c.finish(e.Seq, persistence.Outcome{Kind: persistence.Expired}, Outcome{State: Expired, Err: &ExpiredError{ID: e.ID}}, e.ID)
			return true
		}
	}
	if err := fits(len(e.Packet), qos, e.Packet[0]&1 != 0, up.Gen.Limits); err != nil {
		c.finish(e.Seq, persistence.Outcome{Kind: persistence.Refused, Reason: err.Code}, Outcome{State: Refused, Reason: err.Code, Err: err}, e.ID)
		return true
	}
	report, err := c.breaker.Allow()
	if err != nil {
		c.wakeWhenClosed(err)
		return false
	}
	id, answer := up.Gen.Offer(e.Seq, qos)
	if answer != session.Admitted {
		report(errNotTried)
		return false
	}
	c.pending.sent(e.Seq, e.ID, report)
	c.noteFirst(up, e.Seq)
	f.batch = wire.AppendImage(f.batch, e.Packet, id, again, seconds(left))
	f.sent = max(f.sent, e.Seq)
	f.resend = max(f.resend, e.Seq)
	return true
}

// noteFirst tells which message goes out first on a connection.
func (c *Client) noteFirst(up *link.Up, seq uint64) {
	if c.feed.begun != up.Gen.Number {
		c.feed.begun = up.Gen.Number
		c.suspect.first(up.Gen.Number, seq, c.feed.entry.ID)
	}
}

// identifierFree reports whether the packet identifier that follows from seq
// is free. The done record of its last user, one lap earlier, must be durable
// before it is used again: so once per lap the store is synced.
func (c *Client) identifierFree(seq uint64) bool {
	if seq <= c.feed.safe {
		return true
	}
	safe := c.firstPending() - 1 + session.Lap
	if seq > safe {
		return false // its last user is pending
	}
	if err := c.store.Sync(); err != nil {
		c.storeFailed(err)
		c.feed.retry.Reset(storeRetry)
		return false
	}
	c.feed.safe = safe
	return true
}

// firstPending is the oldest message that is not done; there is one whenever
// it matters.
func (c *Client) firstPending() uint64 {
	return max(c.store.First(persistence.Normal), 1)
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
	c.progress.Store(c.clock.since())
	c.suspect.acked.Store(true)
	kind, o := persistence.Acked, Outcome{State: Acked, Reason: reason}
	if reason >= 0x80 {
		kind = persistence.Refused
		o.State, o.Err = Refused, &RefusedError{Code: reason, Reason: text}
	}
	c.finish(seq, persistence.Outcome{Kind: kind, Reason: reason}, o, MessageID{})
}

// finish makes an outcome final: in the store, to the breaker, and to whoever
// awaits the Delivery. id is used where the message was never sent.
func (c *Client) finish(seq uint64, stored persistence.Outcome, o Outcome, id MessageID) {
	if err := c.store.Done(seq, stored); err != nil {
		// The outcome stands; at worst the message is sent again after a restart.
		c.storeFailed(err)
	}
	m := c.pending.settle(seq)
	if m.report != nil {
		m.report(o.Err)
	}
	m.delivery.resolve(o)
	if !m.delivery.ID.IsZero() {
		id = m.delivery.ID
	}
	switch o.State {
	case Refused, Dropped:
		c.event(MessageRefused{ID: id, Err: o.Err})
	case Expired:
		c.event(MessageExpired{ID: id})
	}
	c.drained()
}

// hadSession reports whether the server may be expected to know us: from an
// earlier connection, or one of an earlier process.
func (c *Client) hadSession() bool {
	if c.cfg.SessionExpiry == NoSession {
		return false
	}
	return c.counters.connections.Load() > 0 || c.resumes && !c.cfg.CleanStart
}

// sessionLost runs when a CONNACK says that the server has no session.
func (c *Client) sessionLost(inFlight []uint64) {
	if len(inFlight) > 0 || c.hadSession() {
		c.counters.sessionsLost.Add(1)
		c.event(SessionLost{InFlight: len(inFlight)})
	}
	if c.cfg.OnSessionLost != FailInFlight {
		return
	}
	c.pending.unsent() // that they fail says nothing about the server
	for _, seq := range inFlight {
		c.finish(seq, persistence.Outcome{Kind: persistence.Dropped}, Outcome{State: Dropped, Err: ErrSessionLost}, MessageID{})
	}
}
