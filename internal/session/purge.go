package session

import (
	"maps"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// purges are the packet identifiers for which PUBREL was sent without a message: the server may hold
// an exchange under them that the client has completed or given up. The PUBCOMP ends it on the server,
// with reason code 0x92 if the server has no exchange.
type purges struct {
	ids  map[uint16]bool // true: not answered; false: given up, and an answer may still be received
	open int             // of ids, not answered
}

// MaxPurge bounds the packet identifiers that are purged at a time.
const MaxPurge = 1 << 14

// add adds a packet identifier, unless there are too many. It reports whether it did.
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

// giveUp gives up those of these packet identifiers that are open; no identifiers: all.
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

// answered takes the PUBCOMP of a purge. It reports whether a is one.
// released: the server has accepted a message under its packet identifier with PUBREC. Then a PUBCOMP is
// taken as the message's.
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
