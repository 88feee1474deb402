package cure

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// all is a purge of all packet identifiers, in parts.
type all struct {
	last     uint64          // the store knows the messages up to this sequence; 0: it knows none
	used     map[uint16]bool // identifiers of these messages; nil: not computed yet
	at, from int             // identifiers below at were purged; from is the start of the last part
}

// All starts a purge of all packet identifiers, except those of the pending messages up to sequence
// last. It is needed if the store has lost messages that were sent, because it then assigns their
// identifiers to other messages. No message is sent until the server has answered.
func (c *Cure) All(last uint64) { c.all = &all{last: last, at: session.Lowest} }

// Unknown starts a purge of all packet identifiers, including those below session.Lowest, because
// the content of the server's session is unknown. It omits identifiers in use on the connection.
func (c *Cure) Unknown() { c.all = &all{at: 1} }

// stepAll is Step during the purge of all identifiers.
func (c *Cure) stepAll(g *session.Generation, store persistence.Outbox, held func(id uint16) bool, before result, now time.Time) (wait time.Duration, err error) {
	a := c.all
	switch {
	case !g.Present, g.Limits.MaximumQoS < 2, before == givenUp:
		a.at = math.MaxUint16 + 1
	case before == cutOff:
		a.at = a.from
	}
	if a.used == nil {
		used := map[uint16]bool{}
		for p := range persistence.Priorities {
			if a.last == 0 {
				break
			}
			if err := pending(used, store, persistence.Priority(p), func(e *persistence.Entry) bool { return e.Seq <= a.last }); err != nil {
				return 0, err
			}
		}
		a.used = used
	}
	var ids []uint16
	for a.from = a.at; a.at <= math.MaxUint16 && len(ids) < session.MaxPurge; a.at++ {
		if id := uint16(a.at); !a.used[id] && !held(id) {
			ids = append(ids, id)
		}
	}
	wait, sent := c.purge(g, ids, now)
	switch {
	case !sent:
		a.at = a.from
	case wait == 0:
		c.all = nil
	}
	return wait, nil
}
