package cure

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Cure decides which packet identifiers are purged, and when. Only one goroutine may use it.
type Cure struct {
	wanted  bool                // a purge starts as soon as there is a connection
	g       *session.Generation // the connection of the last purge
	until   time.Time           // the server must answer something until then; zero: no purge is open
	latest  time.Time           // the server must answer everything until then
	left    int                 // unanswered packet identifiers when until was set
	ended   time.Time           // end of the last purge
	acked   uint64              // messages accepted on g before the purge
	steps   int                 // consecutive purges while the server refuses; each goes back further
	next    progress            // how far back the purges have gone: identifiers of numbers from here on were purged
	before  progress            // value of next before the last purge
	useless time.Time           // when the server refused messages although everything was purged; zero: never
	refused int                 // consecutive refusals after that
	counted time.Time           // time of the last of these refusals
	since   time.Time           // when everything was purged
	asked   time.Time           // when Stuck last returned true
	purged  int                 // number of identifiers of the last purge
	cut     int                 // consecutive connections that ended before the server answered any of the purge
	failed  int                 // packet identifiers whose purge was given up; see GivenUp
	all     *all                // nil: no purge of all identifiers
}

type progress [persistence.Priorities]uint64

const (
	answerTime  = 5 * time.Second // time for the server to answer something of a purge
	mostTime    = 2 * time.Minute // time for the whole purge; a slow link needs it
	uselessTime = time.Hour       // time in which only the most recent identifiers are purged
	stuckAfter  = 3               // refusals although everything was purged
	stuckPause  = time.Second     // minimum time before each of these refusals
	stuckTime   = 9 * time.Second // minimum time before the last of them; a quota may be exceeded for some seconds
	stuckGap    = pause * 10      // maximum time between two of them; after a longer time, the server had accepted the refused message
	mostWindow  = 1024            // messages accepted after a purge that helped
	mostCuts    = 3               // connections that may end during a purge; some servers end connections because of it
	pause       = time.Minute     // between two purge sequences on one connection
	mostNumbers = session.MaxPurge / 2
)

// Helps reports whether exchanges that the server still holds may cause a refusal with this reason
// code.
func Helps(code byte) bool {
	return code == wire.ReasonQuotaExceeded || code == wire.ReasonPacketIDInUse
}

// Refused records that the server has refused a message on g with this reason code. It is called
// for QoS 2, and for QoS 1 if a quota was exceeded, because both share the quota. Some servers
// close the connection after such a refusal. Then the purge waits for the next connection.
func (c *Cure) Refused(g *session.Generation, code byte) {
	if !Helps(code) || g == nil || !g.Present || g.Limits.MaximumQoS < 2 {
		return // there are no exchanges if the session began on this connection or the server does not support QoS 2
	}
	now := time.Now()
	if c.helped() || c.g != g && accepted(g, 0) || now.Sub(c.counted) > stuckGap {
		c.refused = 0
	}
	if c.Useless() && !c.Open() && now.Sub(c.counted) >= stuckPause {
		c.refused, c.counted = c.refused+1, now
	}
	switch {
	case c.wanted || c.g == g && c.Open(): // the message was sent before the purge
		return
	case c.steps == 0 || c.helped() || c.Useless():
		// The server gets no new stale exchanges during a connection.
		if c.wanted = c.g != g || now.Sub(c.ended) > pause; c.wanted {
			c.steps = 0
		}
	default:
		c.wanted = c.g != g || 2*g.InFlight() < int(g.Limits.ReceiveMaximum)
	}
}

// helped reports whether the server has accepted messages normally after the last purge.
func (c *Cure) helped() bool {
	return c.g != nil && accepted(c.g, c.acked)
}

// accepted reports whether the server has accepted a window of messages on g, in addition to the
// first ones.
func accepted(g *session.Generation, first uint64) bool {
	return g.Accepted() >= first+min(uint64(g.Limits.ReceiveMaximum), mostWindow)
}

// Useless reports whether everything was purged recently without success.
func (c *Cure) Useless() bool { return !c.useless.IsZero() && time.Since(c.useless) < uselessTime }

// notHelped records that no purge can help for some time. Earlier refusals do not count.
func (c *Cure) notHelped(now time.Time) {
	if !c.Useless() {
		c.refused, c.counted, c.since = 0, now, now
	}
	c.useless = now
}

// Stuck reports that the server still refuses messages although everything was purged, so only a
// new session can help. It returns true at most once an hour.
func (c *Cure) Stuck() bool {
	if c.refused < stuckAfter || c.counted.Sub(c.since) < stuckTime || !c.Useless() || c.helped() || !c.asked.IsZero() && time.Since(c.asked) < uselessTime {
		return false
	}
	c.asked = time.Now()
	return true
}

// Lost records that the server has lost its session, including the exchanges in it. It reports
// whether messages were refused in that session.
func (c *Cure) Lost() (refused bool) {
	refused = c.wanted || c.steps > 0
	*c = Cure{useless: c.useless, asked: c.asked}
	return refused
}

// Open reports whether a purge is unanswered. Meanwhile no message is sent, because the server
// would refuse it or could mistake it for another one.
func (c *Cure) Open() bool { return !c.until.IsZero() || c.all != nil }

// Answered reports whether the server has answered the purge on g. The caller must call it before
// it handles refusals. Then refusals of messages that were sent before the purge have already
// arrived.
func (c *Cure) Answered(g *session.Generation) bool {
	return c.g == g && c.Open() && g.Purging() == 0
}

// Step starts a purge if one is needed, and gives up a purge that the server does not answer. It
// must be called after refusals were recorded, with the result of Answered. held reports whether a
// deferred message uses a packet identifier. The caller must call Step again after wait.
func (c *Cure) Step(g *session.Generation, store persistence.Outbox, held func(id uint16) bool, answered bool) (wait time.Duration, err error) {
	if !c.wanted && c.until.IsZero() && c.all == nil && !g.Held() {
		return 0, nil // the usual case
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

// purge sends the PUBRELs. wait is 0 if there was none to send. purge returns false if the
// connection has already ended; then the next connection repeats the purge.
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

// result is the outcome of a purge.
type result int

const (
	none     result = iota // there was no purge
	open                   // the purge is unanswered
	complete               // the purge is answered
	cutOff                 // the connection of the purge has ended
	givenUp                // the server does not answer, or ends connections because of the purge
)

// look returns the outcome of the purge, and ends the purge unless it is open.
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

// GivenUp returns the number of packet identifiers whose purge was given up since the last call.
// The server may still hold them.
func (c *Cure) GivenUp() (n int) {
	n, c.failed = c.failed, 0
	return n
}

// goesOn extends the time if the server has answered something since until was set.
func (c *Cure) goesOn(now time.Time) bool {
	left := c.g.Purging()
	if left >= c.left || !now.Before(c.latest) {
		return false
	}
	c.left, c.until = left, now.Add(answerTime)
	return true
}

// completed appends packet identifiers of a priority to ids that were used in this session and that
// no message uses now. These are the most recent ones: those of numbers that may be in flight, and
// Recent before them. In addition it appends the identifiers of size numbers before next, and
// lowers next. If size is 0, next starts at the most recent ones.
func completed(ids []uint16, store persistence.Outbox, p persistence.Priority, next *uint64, size int, held func(uint16) bool) ([]uint16, error) {
	last := store.Sent(p) // capped below, because the watermark may cover unsent messages
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
	bottom := last - min(last, session.Lap(uint8(p))) // all identifiers belong to higher numbers
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

// pending adds to used the packet identifiers of the first pending messages of a priority, as long
// as ok returns true.
func pending(used map[uint16]bool, store persistence.Outbox, p persistence.Priority, ok func(*persistence.Entry) bool) error {
	at := persistence.Cursor{math.MaxUint64, math.MaxUint64, math.MaxUint64} // visit only this priority
	var e persistence.Entry
	for at[p] = 0; ; at.Pass(&e) {
		if found, err := store.Next(&at, &e); err != nil || !found || !ok(&e) {
			return err
		}
		used[session.PacketID(uint8(p), e.Number)] = true
	}
}
