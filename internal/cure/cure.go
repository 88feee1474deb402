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
	until   time.Time           // the server answers something until then; zero: no purge is open
	latest  time.Time           // and all until then
	left    int                 // packet identifiers that were not answered when until was set
	ended   time.Time           // of the last purge
	acked   uint64              // messages that were accepted on g before it
	steps   int                 // purges since the server refuses; each goes back further
	next    progress            // the identifiers of higher numbers were purged, before the last ones
	before  progress            // next before the last purge
	useless time.Time           // the server refused messages although everything was purged
	refused int                 // times in a row that it did after that
	counted time.Time           // the last of these
	since   time.Time           // everything was purged
	asked   time.Time           // Stuck has returned true
	purged  int                 // identifiers of the last purge
	cut     int                 // connections in a row that ended before the server answered anything of it
	failed  int                 // packet identifiers whose purge was given up, see GivenUp
	all     *all                // nil: there is no purge of all identifiers
}

type progress [persistence.Priorities]uint64

const (
	answerTime  = 5 * time.Second // of a server for something of a purge
	mostTime    = 2 * time.Minute // for all of it: a slow link takes its time
	uselessTime = time.Hour       // in which only the last identifiers are purged
	stuckAfter  = 3               // refusals although everything was purged
	stuckPause  = time.Second     // before each of them
	stuckTime   = 9 * time.Second // before the last of them: a quota may be exceeded for some seconds
	stuckGap    = pause * 10      // between two of them: the server has accepted the message that it refused
	mostWindow  = 1024            // messages that are accepted after a purge that has helped
	mostCuts    = 3               // connections that may end during a purge: some servers end them because of it
	pause       = time.Minute     // between two that begin anew on one connection
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
	if !Helps(code) || g == nil || !g.Present || g.Limits.MaximumQoS < 2 {
		return // in a session that began on this connection, or without QoS 2, there is nothing to cure
	}
	now := time.Now()
	if c.helped() || c.g != g && accepted(g, 0) || now.Sub(c.counted) > stuckGap {
		c.refused = 0
	}
	if c.Useless() && !c.Open() && now.Sub(c.counted) >= stuckPause {
		c.refused, c.counted = c.refused+1, now
	}
	switch {
	case c.wanted || c.g == g && c.Open(): // it was sent before the purge
		return
	case c.steps == 0 || c.helped() || c.Useless():
		// On one connection the server has nothing new.
		if c.wanted = c.g != g || now.Sub(c.ended) > pause; c.wanted {
			c.steps = 0
		}
	default:
		c.wanted = c.g != g || 2*g.InFlight() < int(g.Limits.ReceiveMaximum)
	}
}

// helped reports whether the server has accepted messages as usual after the last purge.
func (c *Cure) helped() bool {
	return c.g != nil && accepted(c.g, c.acked)
}

// accepted reports whether the server has accepted a window of messages on g, beside the first ones.
func accepted(g *session.Generation, first uint64) bool {
	return g.Accepted() >= first+min(uint64(g.Limits.ReceiveMaximum), mostWindow)
}

// Useless reports whether everything was purged lately, or nothing can be.
func (c *Cure) Useless() bool { return !c.useless.IsZero() && time.Since(c.useless) < uselessTime }

// notHelped notes that no purge can help for some time. The refusals before that do not count.
func (c *Cure) notHelped(now time.Time) {
	if !c.Useless() {
		c.refused, c.counted, c.since = 0, now, now
	}
	c.useless = now
}

// Stuck reports, at most once an hour, that the server goes on refusing messages although everything was
// purged: only a new session can help.
func (c *Cure) Stuck() bool {
	if c.refused < stuckAfter || c.counted.Sub(c.since) < stuckTime || !c.Useless() || c.helped() || !c.asked.IsZero() && time.Since(c.asked) < uselessTime {
		return false
	}
	c.asked = time.Now()
	return true
}

// Lost notes that the session of the server is lost, and what it held with it. It reports whether
// messages were refused in it.
func (c *Cure) Lost() (refused bool) {
	refused = c.wanted || c.steps > 0
	*c = Cure{useless: c.useless, asked: c.asked}
	return refused
}

// Open reports whether a purge is not answered. No message is sent meanwhile: the server would refuse it,
// or could take it for another one.
func (c *Cure) Open() bool { return !c.until.IsZero() || c.all != nil }

// Answered reports whether the server has answered the purge on g. The caller calls it before it looks
// at refusals: those of messages that were sent before the purge have been received by then.
func (c *Cure) Answered(g *session.Generation) bool {
	return c.g == g && c.Open() && g.Purging() == 0
}

// Step is called after refusals were noted, with the result of Answered. It begins a purge if one is
// wanted, and gives up one that the server does not answer. held reports whether a deferred message has
// a packet identifier. The caller calls Step again after wait.
func (c *Cure) Step(g *session.Generation, store persistence.Outbox, held func(id uint16) bool, answered bool) (wait time.Duration, err error) {
	if !c.wanted && c.until.IsZero() && c.all == nil && !g.Held() {
		return 0, nil // as nearly always
	}
	now := time.Now()
	result := c.look(g, answered, now)
	if result == open {
		return c.until.Sub(now), nil
	}
	if c.all != nil {
		return c.stepAll(g, store, held, result, now)
	}
	switch result {
	case cutOff:
		c.wanted, c.next, c.steps = true, c.before, c.steps-1
	case complete:
		c.ended = now
	case givenUp:
		c.ended = now
		c.notHelped(now)
	}
	if g.Held() && c.g != g {
		c.wanted = true
		if c.steps > 0 && (c.helped() || c.Useless()) {
			c.steps = 0
		}
	}
	if !c.wanted || g.Limits.MaximumQoS < 2 {
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
	wait, sent := c.purge(g, ids, now)
	if !sent {
		return 0, nil
	}
	c.wanted, c.before, c.next = false, c.next, next
	c.steps, c.acked = min(c.steps+1, 10), g.Accepted()
	if !more {
		c.notHelped(now)
	}
	if wait == 0 {
		c.ended = now
	}
	return wait, nil
}

// purge sends the PUBRELs; wait 0: there was none to send. It returns false if the connection has ended
// before: the purge is made on the next one.
func (c *Cure) purge(g *session.Generation, ids []uint16, now time.Time) (wait time.Duration, sent bool) {
	n := g.Purge(ids)
	if n == 0 && g.Ended() {
		return 0, false
	}
	if c.g, c.purged = g, n; n == 0 {
		return 0, true
	}
	c.until, c.latest, c.left = now.Add(answerTime), now.Add(mostTime), n
	return answerTime, true
}

// result is what became of a purge.
type result int

const (
	none     result = iota // there was none
	open                   // it is not answered
	complete               // it is answered
	cutOff                 // its connection has ended
	givenUp                // the server does not answer it, or ends connections over it
)

// look returns what became of the purge, and ends it unless it is open.
func (c *Cure) look(g *session.Generation, answered bool, now time.Time) result {
	switch {
	case c.until.IsZero():
		return none
	case !answered && c.g == g && (now.Before(c.until) || c.goesOn(now)):
		return open
	}
	c.until = time.Time{}
	switch {
	case answered:
		c.cut = 0
		return complete
	case c.g == g:
		c.failed += g.Purging()
		g.EndPurge()
		return givenUp
	}
	if c.cut++; c.g.Purging() < c.purged {
		c.cut = 0
	}
	if c.cut < mostCuts {
		return cutOff
	}
	c.cut = 0
	c.failed += c.g.Purging()
	return givenUp
}

// GivenUp returns how many packet identifiers the server may still hold, because it did not answer their
// purge, since the last call.
func (c *Cure) GivenUp() (n int) {
	n, c.failed = c.failed, 0
	return n
}

// goesOn gives the server more time if it has answered something since until was set.
func (c *Cure) goesOn(now time.Time) bool {
	left := c.g.Purging()
	if left >= c.left || !now.Before(c.latest) {
		return false
	}
	c.left, c.until = left, now.Add(answerTime)
	return true
}

// completed appends packet identifiers of numbers of a priority to ids: those that were used in this session and
// that no message has. These are the last ones, of the messages that may be in flight and Recent before
// them, and size numbers before next, which it lowers; size 0: next begins at the last ones.
func completed(ids []uint16, store persistence.Outbox, p persistence.Priority, next *uint64, size int, held func(uint16) bool) ([]uint16, error) {
	last := store.Sent(p) // or less: it is ahead of what was sent
	if p == persistence.Normal {
		last = min(last, store.LastSeq())
	}
	used := map[uint16]bool{}
	err := pending(used, store, p, func(e *persistence.Entry) bool { return e.Number <= last })
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

// pending adds the packet identifiers of the first pending messages of a priority to used: those for
// which ok returns true.
func pending(used map[uint16]bool, store persistence.Outbox, p persistence.Priority, ok func(*persistence.Entry) bool) error {
	at := persistence.Cursor{math.MaxUint64, math.MaxUint64, math.MaxUint64} // this priority only
	var e persistence.Entry
	for at[p] = 0; ; at.Pass(&e) {
		if found, err := store.Next(&at, &e); err != nil || !found || !ok(&e) {
			return err
		}
		used[session.PacketID(uint8(p), e.Number)] = true
	}
}
