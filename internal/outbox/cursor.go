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

// cursor is the position of the send loop in the log. On each connection it starts
// with what this process sent on earlier ones, in the order of sending, and then
// goes through the log from the front. Only the send loop uses it.
type cursor struct {
	g       *session.Generation // the connection that the position is for
	resend  []uint64            // comes first, in this order [MQTT-4.6.0-1]
	offered map[uint64]bool     // offered out of turn: the log has still to pass them
	place   persistence.Cursor  // offered up to here
	look    persistence.Cursor  // place, or the end of a priority that is held up
	entry   persistence.Entry   // the current message
	resends bool                // entry is resend[0]

	resending bool      // resend was not empty when resent looked last
	anything  bool      // something was sent on this connection
	retried   time.Time // when deferred messages were sent last
	cure      cure.Cure // purges packet identifiers that the server wrongly holds
	purges    purges    // for messages that are given up
	maxQoS    byte      // of the server, as far as its answers say
}

// begin returns to the front for a new connection. PUBRELs are offered at once, in the order of the
// PUBRECs [MQTT-4.6.0-4]; they need no room in the window [MQTT-3.3.4-8].
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
		if deferred.Waits(seq) { // it has its own turn
			g.Forget(seq)
		} else {
			c.resend = append(c.resend, seq)
		}
	}
	for _, seq := range deferred.InFlight() { // an earlier process has sent some
		if !c.offered[seq] && !slices.Contains(c.resend, seq) && !deferred.Waits(seq) {
			c.resend = append(c.resend, seq)
		}
	}
	c.resending = len(c.resend) > 0
}

// resent reports, once on a connection, that all has been resent.
func (c *cursor) resent() bool {
	ended := c.resending && len(c.resend) == 0
	c.resending = c.resending && !ended
	return ended
}

// rewind looks again at priorities that were held up.
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

// pass moves past entry, which was offered or has ended.
func (c *cursor) pass() {
	if c.resends {
		c.resend = c.resend[1:]
		c.offered[c.entry.Seq] = true
		return
	}
	c.place.Pass(&c.entry)
	c.look.Pass(&c.entry)
}

// hold leaves out the priority of entry until rewind. It reports whether other
// messages may go on: resends keep their order, so nothing overtakes them.
func (c *cursor) hold() bool {
	c.look[c.entry.Priority] = math.MaxUint64
	return !c.resends
}

// first reports whether this is the first call on this connection.
func (c *cursor) first() bool {
	first := !c.anything
	c.anything = true
	return first
}
