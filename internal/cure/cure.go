package cure

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Cure decides which packet identifiers are purged, and when. It is for one goroutine.
type Cure struct {
	g       *session.Generation // the connection that the following is for
	next    [persistence.Priorities]uint64
	portion int       // numbers of a priority that were purged last; 0: none
	until   time.Time // the server answers until then; zero: no purge is open
	wanted  bool
	useless time.Time // the server refused messages although everything was purged
}

const (
	answerTime  = 5 * time.Second // of a server for a purge
	uselessTime = time.Hour       // in which only the last identifiers are purged
)

// Helps reports whether a refusal with this reason code may be due to exchanges that the server holds.
func Helps(code byte) bool {
	return code == wire.ReasonQuotaExceeded || code == wire.ReasonPacketIDInUse
}

// Refused notes that the server has refused a QoS 2 message on g with this reason code.
func (c *Cure) Refused(g *session.Generation, code byte) {
	if !Helps(code) || g == nil || !g.Present {
		return // in a session that began on this connection there is nothing to cure
	}
	if c.g != g {
		*c = Cure{g: g, useless: c.useless}
	}
	switch {
	case !c.until.IsZero(): // the message was sent before the purge
	case c.portion == 0:
		c.wanted = true
	case 2*g.InFlight() < int(g.Limits.ReceiveMaximum):
		c.wanted = c.useless.IsZero() || time.Since(c.useless) > uselessTime
	}
}

// Answered reports whether the server has answered the purge on g. The caller calls it before it looks
// at refusals: those of messages that were sent before the purge have been received by then.
func (c *Cure) Answered(g *session.Generation) bool {
	return c.g == g && !c.until.IsZero() && g.Purging() == 0
}

// Step is called after refusals were noted, with the result of Answered. It begins a purge if one is
// wanted, and gives up one that the server does not answer. held reports whether a deferred message has
// a packet identifier. The caller calls Step again after wait.
func (c *Cure) Step(g *session.Generation, store persistence.Outbox, held func(id uint16) bool, answered bool) (wait time.Duration, err error) {
	switch {
	case c.g != g || g == nil:
		return 0, nil
	case answered:
		c.until = time.Time{}
	case c.until.IsZero():
	case time.Now().Before(c.until):
		return time.Until(c.until), nil
	default:
		c.until, c.useless = time.Time{}, time.Now()
		g.EndPurge()
	}
	if !c.wanted {
		return 0, nil
	}
	c.wanted = false
	size := min(2*c.portion, session.MaxPurge/2)
	var ids []uint16
	for p := range persistence.Priorities {
		ids, err = c.completed(ids, store, persistence.Priority(p), size, held)
		if err != nil {
			return 0, err
		}
	}
	c.portion = max(size, session.Recent)
	if g.Purge(ids) == 0 {
		c.useless = time.Now()
		return 0, nil
	}
	c.until = time.Now().Add(answerTime)
	return answerTime, nil
}

// completed appends the packet identifiers of so many numbers of a priority to ids: those that were used
// in this session and that no message has. size 0 begins with the last ones: those of the messages that may
// be in flight, and Recent before them.
func (c *Cure) completed(ids []uint16, store persistence.Outbox, p persistence.Priority, size int, held func(uint16) bool) ([]uint16, error) {
	last := store.Sent(p) // or less: it is ahead of what was sent
	if p == persistence.Normal {
		last = min(last, store.LastSeq())
	}
	used, err := pending(store, p, last)
	if err != nil {
		return ids, err
	}
	low := c.next[p] - min(c.next[p], uint64(size))
	if size == 0 {
		c.next[p], low = last, last
		if first := store.First(p); first > 0 {
			low = min(low, first)
		}
		low -= min(low, session.Recent)
	}
	low = max(low, last-min(last, session.Lap(uint8(p)))) // all identifiers are above
	for ; c.next[p] > low; c.next[p]-- {
		if id := session.PacketID(uint8(p), c.next[p]); !used[id] && !held(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// pending returns the packet identifiers of the pending messages of a priority with numbers up to last.
func pending(store persistence.Outbox, p persistence.Priority, last uint64) (map[uint16]bool, error) {
	used := map[uint16]bool{}
	at := persistence.Cursor{math.MaxUint64, math.MaxUint64, math.MaxUint64} // this priority only
	var e persistence.Entry
	for at[p] = 0; ; at.Pass(&e) {
		if ok, err := store.Next(&at, &e); err != nil || !ok || e.Number > last {
			return used, err
		}
		used[session.PacketID(uint8(p), e.Number)] = true
	}
}
