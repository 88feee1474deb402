package session

import (
	"maps"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// purges holds the packet identifiers for which PUBREL was sent without a message. The server may
// still hold an exchange under them that the client has completed or given up. The server ends that
// exchange and answers PUBCOMP, with reason code 0x92 if there is no exchange.
type purges struct {
	ids  map[uint16]bool // true: unanswered; false: given up, but an answer may still arrive
	open int             // number of unanswered ids
}

// MaxPurge is the maximum number of packet identifiers that are purged at the same time.
const MaxPurge = 1 << 14

// add adds a packet identifier. It returns false if the identifier is already there or there are
// too many.
func (p *purges) add(id uint16) bool {
	if p.ids[id] || id == 0 || p.open >= MaxPurge {
		return false
	}
	if p.ids == nil {
		p.ids = map[uint16]bool{}
	}
	p.ids[id] = true
	p.open++
	return true
}

// giveUp gives up the unanswered purges of the given packet identifiers, or all if ids is empty.
func (p *purges) giveUp(ids []uint16) {
	if len(ids) == 0 {
		ids = slices.Collect(maps.Keys(p.ids))
	}
	for _, id := range ids {
		if p.ids[id] {
			p.ids[id] = false
			p.open--
		}
	}
}

// answered handles a possible PUBCOMP of a purge, and reports whether a is one. released means that
// the server has accepted a message under the packet identifier with PUBREC. Then the PUBCOMP
// belongs to the message.
func (p *purges) answered(a wire.Ack, released bool) (purged bool) {
	open, purged := p.ids[a.PacketID]
	if !purged || a.Type != wire.PUBCOMP || released {
		return false
	}
	delete(p.ids, a.PacketID)
	if open {
		p.open--
	}
	return true
}
