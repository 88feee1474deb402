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
	wanted  bool                // a purge begins as soon as there is a connection
	g       *session.Generation // the connection of the last purge
	until   time.Time           // the server answers until then; zero: no purge is open
	ended   time.Time           // of the last purge
	acked   uint64              // messages that were acknowledged on g before it
	steps   int                 // purges since the server refuses; each goes back further
	next    progress            // the identifiers of higher numbers were purged, before the last ones
	before  progress            // next before the last purge
	useless time.Time           // the server refused messages although everything was purged
}

type progress [persistence.Priorities]uint64

const (
	answerTime  = 5 * time.Second // of a server for a purge
	uselessTime = time.Hour       // in which only the last identifiers are purged
	again       = time.Minute     // between two that begin anew on one connection
	mostNumbers = session.MaxPurge / 2
)

// Helps reports whether a refusal with this reason code may be due to exchanges that the server holds.
func Helps(code byte) bool {
	return code == wire.ReasonQuotaExceeded || code == wire.ReasonPacketIDInUse
}

// Refused notes that the server has refused a message on g with this reason code: one of QoS 2, or of
// QoS 1 because of a quota, which is the same for both. Some servers
// close the connection after that: then the purge waits for the next one.
func (c *Cure) Refused(g *session.Generation, code byte) {
	if !Helps(code) || g == nil || !g.Present {
		return // in a session that began on this connection there is nothing to cure
	}
	now := time.Now()
	switch {
	case c.wanted || c.g == g && c.Open(): // it was sent before the purge
		return
	case c.steps == 0 || c.helped() || c.wasUseless():
		// On one connection the server has nothing new.
		if c.wanted = c.g != g || now.Sub(c.ended) > again; c.wanted {
			c.steps = 0
		}
	default:
		c.wanted = c.g != g || 2*g.InFlight() < int(g.Limits.ReceiveMaximum)
	}
}

// helped reports whether the server has accepted messages as usual after the last purge.
func (c *Cure) helped() bool {
	return c.g.Acknowledged() >= c.acked+uint64(c.g.Limits.ReceiveMaximum)
}

func (c *Cure) wasUseless() bool { return !c.useless.IsZero() && time.Since(c.useless) < uselessTime }

// Lost notes that the session of the server is lost, and what it held with it.
func (c *Cure) Lost() { *c = Cure{useless: c.useless} }

// Open reports whether a purge is not answered. No message is sent meanwhile: the server would refuse it.
func (c *Cure) Open() bool { return !c.until.IsZero() }

// Answered reports whether the server has answered the purge on g. The caller calls it before it looks
// at refusals: those of messages that were sent before the purge have been received by then.
func (c *Cure) Answered(g *session.Generation) bool {
	return c.g == g && c.Open() && g.Purging() == 0
}

// Step is called after refusals were noted, with the result of Answered. It begins a purge if one is
// wanted, and gives up one that the server does not answer. held reports whether a deferred message has
// a packet identifier. The caller calls Step again after wait.
func (c *Cure) Step(g *session.Generation, store persistence.Outbox, held func(id uint16) bool, answered bool) (wait time.Duration, err error) {
	now := time.Now()
	switch {
	case !c.Open():
	case answered:
		c.until, c.ended = time.Time{}, now
	case c.g != g: // its connection has ended
		c.until, c.wanted, c.next, c.steps = time.Time{}, true, c.before, c.steps-1
	case now.Before(c.until):
		return c.until.Sub(now), nil
	default:
		c.until, c.ended, c.useless = time.Time{}, now, now
		g.EndPurge()
	}
	if g.Held() && c.g != g {
		c.wanted = true
		if c.steps > 0 && (c.helped() || c.wasUseless()) {
			c.steps = 0
		}
	}
	if !c.wanted {
		return 0, nil
	}
	size := 0
	if c.steps > 0 {
		size = min(session.Recent<<c.steps, mostNumbers)
	}
	var ids []uint16
	next, more := c.next, false
	for p := range persistence.Priorities {
		before := next[p]
		ids, err = completed(ids, store, persistence.Priority(p), &next[p], size, held)
		if err != nil {
			return 0, err
		}
		more = more || next[p] < before || size == 0
	}
	c.wanted, c.before, c.next, c.g = false, c.next, next, g
	c.steps, c.acked = min(c.steps+1, 10), g.Acknowledged()
	if !more {
		c.useless = now
	}
	if g.Purge(ids) == 0 {
		c.ended = now
		return 0, nil
	}
	c.until = now.Add(answerTime)
	return answerTime, nil
}

// completed appends packet identifiers of numbers of a priority to ids: those that were used in this session and
// that no message has. These are the last ones, of the messages that may be in flight and Recent before
// them, and size numbers before next, which it lowers; size 0: next begins at the last ones.
func completed(ids []uint16, store persistence.Outbox, p persistence.Priority, next *uint64, size int, held func(uint16) bool) ([]uint16, error) {
	last := store.Sent(p) // or less: it is ahead of what was sent
	if p == persistence.Normal {
		last = min(last, store.LastSeq())
	}
	used, err := pending(store, p, last)
	if err != nil {
		return ids, err
	}
	list := func(high, low uint64) {
		for ; high > low; high-- {
			if id := session.PacketID(uint8(p), high); !used[id] && !held(id) {
				ids = append(ids, id)
			}
		}
	}
	bottom := last - min(last, session.Lap(uint8(p))) // all identifiers are above
	low := last
	if front := store.First(p); front > 0 {
		low = min(low, front)
	}
	low = max(bottom, low-min(low, session.Recent))
	list(last, low)
	if size == 0 {
		*next = low
		return ids, nil
	}
	high := min(*next, low)
	low = max(min(high, bottom), high-min(high, uint64(size)))
	list(high, low)
	*next = low
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
