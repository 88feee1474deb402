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
	used     map[uint16]bool // by these; nil: not looked up
	at, from int             // purged up to at; from is the beginning of the last part
}

// All begins a purge of all packet identifiers, except those of the pending messages up to the sequence
// last: the store has lost messages that were sent, and gives their identifiers to others. No message is
// sent before the server has answered.
func (c *Cure) All(last uint64) { c.all = &all{last: last, at: session.Lowest} }

// Unknown begins a purge of all packet identifiers, also of those below session.Lowest, except those that
// are in use on the connection: nothing is known of the server's session.
func (c *Cure) Unknown() { c.all = &all{at: 1} }

// stepAll is Step for the purge of all.
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
