package outbox

import (
	"math"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/cure"
	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// cursor is the position of the send loop in the log. On each connection the send loop first
// resends the messages that this process sent on earlier connections, in the order of sending. Then
// it goes through the log from the front. Only the send loop uses the cursor.
type cursor struct {
	g       *session.Generation // the connection that the position belongs to
	resend  []uint64            // messages to send first, in this order [MQTT-4.6.0-1]
	offered map[uint64]bool     // messages offered out of order; the walk through the log skips them
	place   persistence.Cursor  // all messages up to here have been offered
	look    persistence.Cursor  // place, or the end of the log for a priority that is held up
	entry   persistence.Entry   // the current message
	resends bool                // entry is resend[0]

	resending bool      // value of len(resend) > 0 at the last call of retries
	joined    bool      // a message has joined the queue of its topic since the last call of retries
	anything  bool      // something was sent on this connection
	retried   time.Time // when deferred messages were last sent
	cure      cure.Cure // purges stale packet identifiers that the server still holds
	purges    purges    // purges for messages that are given up
	maxQoS    byte      // maximum QoS of the server, as far as its answers show
}

// begin returns to the front for a new connection. It offers PUBRELs at once, in the order of their
// PUBRECs [MQTT-4.6.0-4]. PUBRELs need no room in the window [MQTT-3.3.4-8].
func (c *cursor) begin(g *session.Generation, store Store, deferred *deferral.Queue) {
	c.g, c.place, c.anything, c.maxQoS = g, persistence.Cursor{}, false, 2
	c.offered = map[uint64]bool{}
	c.purges.begin()
	for _, p := range store.Released() {
		id := p.PacketID
		if id == 0 {
			id = session.PacketID(uint8(p.Priority), p.Number)
		}
		if g.OfferReleased(p.Seq, id) == session.Admitted {
			c.offered[p.Seq] = true
		}
	}
	c.resend = c.resend[:0]
	for _, seq := range g.Unacked() {
		if deferred.Waits(seq) { // the queue of its topic sends it
			g.Forget(seq)
		} else {
			c.resend = append(c.resend, seq)
		}
	}
	for _, seq := range deferred.InFlight() { // an earlier process may have sent some of them
		if !c.offered[seq] && !slices.Contains(c.resend, seq) && !deferred.Waits(seq) {
			c.resend = append(c.resend, seq)
		}
	}
	c.resending = len(c.resend) > 0
}

// retries reports whether deferred messages must be looked at again: once per connection, when all
// messages have been resent, and when a message has joined the queue of its topic.
func (c *cursor) retries() bool {
	resent, joined := c.resending && len(c.resend) == 0, c.joined
	c.resending, c.joined = c.resending && !resent, false
	return resent || joined
}

// rewind makes next look again at the priorities that were held up.
func (c *cursor) rewind() { c.look = c.place }

// next reads the next message into entry and reports whether there is one.
func (c *cursor) next(store Store) (bool, error) {
	for len(c.resend) > 0 {
		ok, err := store.Get(c.resend[0], &c.entry)
		if ok || err != nil {
			c.resends = ok
			return ok, err
		}
		c.g.Forget(c.resend[0])
		c.resend = c.resend[1:]
	}
	c.resends = false
	for {
		ok, err := store.Next(&c.look, &c.entry)
		if !ok || err != nil || !c.offered[c.entry.Seq] {
			return ok, err
		}
		delete(c.offered, c.entry.Seq)
		c.pass()
	}
}

// pass moves past entry, after it was offered or has ended.
func (c *cursor) pass() {
	if c.resends {
		c.resend = c.resend[1:]
		c.offered[c.entry.Seq] = true
		return
	}
	c.place.Pass(&c.entry)
	c.look.Pass(&c.entry)
}

// hold skips the priority of entry until rewind. It reports whether messages of other priorities
// may be sent. During a resend it returns false, because resends keep their order.
func (c *cursor) hold() bool {
	c.look[c.entry.Priority] = math.MaxUint64
	return !c.resends
}

// first reports whether this is its first call on this connection.
func (c *cursor) first() bool {
	first := !c.anything
	c.anything = true
	return first
}
