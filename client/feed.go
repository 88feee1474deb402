package client

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// feed is the drainer's place in the log. Only the drainer touches it.
type feed struct {
	gen     uint64             // the connection that the rest belongs to
	begun   uint64             // the connection on which something was sent
	again   []uint64           // what this process sent on earlier ones comes first, in that order
	resent  map[uint64]bool    // what was offered out of turn: place has still to pass it
	place   persistence.Cursor // all up to here was offered
	look    persistence.Cursor // place, or the end for priorities that are held up
	lines   [persistence.Priorities]line
	entry   persistence.Entry
	inAgain bool // entry is the first of again
	batch   []byte
	handed  bool        // batch was handed to the connection
	retry   *time.Timer // when to look again although nothing happened: the breaker, the store

	marking bool      // a mark is being made, and comes through made
	made    chan made // of length 1
}

// made is a mark that was made ahead of need, or not made: number is then 0.
type made struct {
	priority persistence.Priority
	number   uint64
}

// line is how far the messages of one priority have come, by Entry.Number. What
// is pending and not above sent or before may have been sent in this session.
type line struct {
	safe   uint64 // packet identifiers up to here are free, durably
	marked uint64 // it is on record, durably, that messages up to here may have been sent
	before uint64 // up to here an earlier process may have sent
	sent   uint64 // up to here this process has sent
	ahead  uint64 // how many messages the next mark is for; 0: as many as the window has room for
	low    uint64 // when no more than that are left of the last mark, the next one is asked for
	count  uint64 // messages sent on this connection
}

// begin reads what the session has seen so far, before the first connection.
func (f *feed) begin(store persistence.Store) {
	f.resent = map[uint64]bool{}
	f.made = make(chan made, 1)
	f.retry = time.NewTimer(time.Hour)
	for p := range f.lines {
		f.lines[p].safe = session.Lap(uint8(p))
		f.lines[p].before = store.Sent(persistence.Priority(p))
	}
}

// connected goes back to the front for a new connection.
func (f *feed) connected(up *link.Up, store persistence.Store) {
	f.gen, f.place = up.Gen.Number, persistence.Cursor{}
	clear(f.resent)
	// PUBRELs are offered first, in the order of the PUBRECs, whichever process had
	// them [MQTT-4.6.0-4]. They wait for no room [MQTT-3.3.4-8].
	for _, p := range store.Released() {
		if up.Gen.OfferReleased(p.Seq, session.PacketID(uint8(p.Priority), p.Number)) == session.Admitted {
			f.resent[p.Seq] = true
		}
	}
	f.again = up.Gen.Unacked()
	f.takeMade() // so that what the store says is durable
	for p := range f.lines {
		l := &f.lines[p]
		l.ahead, l.low, l.count = 0, 0, 0
		// ResetSession takes the marks back, and with them what was sent.
		l.marked = store.Sent(persistence.Priority(p))
		l.before, l.sent = min(l.before, l.marked), min(l.sent, l.marked)
		if !up.Gen.Present {
			l.before, l.sent = 0, 0
		}
	}
}

// next fills f.entry: first with what has to come again in the order of sending,
// then with the first message behind place that is not held up.
func (c *Client) nextEntry() (bool, error) {
	f := &c.feed
	for len(f.again) > 0 {
		ok, err := c.store.Get(f.again[0], &f.entry)
		if ok || err != nil {
			f.inAgain = ok
			return ok, err
		}
		c.session.Forget(f.again[0]) // it has its outcome
		f.again = f.again[1:]
	}
	f.inAgain = false
	for {
		ok, err := c.store.Next(&f.look, &f.entry)
		if !ok || err != nil || !f.resent[f.entry.Seq] {
			return ok, err
		}
		delete(f.resent, f.entry.Seq)
		f.pass()
	}
}

// pass goes behind the entry: it was offered.
func (f *feed) pass() {
	if f.inAgain {
		f.again = f.again[1:]
		f.resent[f.entry.Seq] = true
		return
	}
	f.place.Pass(&f.entry)
	f.look.Pass(&f.entry)
}

// sent is up to where messages were sent, of each priority.
func (f *feed) sent() (numbers [persistence.Priorities]uint64) {
	for p := range f.lines {
		numbers[p] = f.lines[p].sent
	}
	return numbers
}

// unsend takes back what was said to be sent.
func (f *feed) unsend(numbers [persistence.Priorities]uint64) {
	for p := range f.lines {
		f.lines[p].sent = numbers[p]
	}
}

// unmark takes the marks back to what was sent, when nothing more can be: what
// only was marked comes without DUP from the next process [MQTT-3.3.1-3]. What an
// earlier process, which was killed, has marked stays so.
func (c *Client) unmark() {
	sent, beyond := c.feed.sent(), false
	for p := range sent {
		sent[p] = max(sent[p], c.feed.lines[p].before)
		beyond = beyond || c.store.Sent(persistence.Priority(p)) > sent[p]
	}
	if !beyond {
		return
	}
	if err := c.store.UnmarkSent(sent); err != nil {
		c.storeFailed(err)
	}
}

// hold passes over the priority of the entry, until the drainer is woken again.
func (f *feed) hold() { f.look[f.entry.Priority] = math.MaxUint64 }

// identifierFree says whether the packet identifier of the entry is free. The
// done record of its last user, one lap earlier in the same priority, must be
// durable before it is used again: so once per lap the store is synced.
func (c *Client) identifierFree() answer {
	e := &c.feed.entry
	l := &c.feed.lines[e.Priority]
	if e.Number <= l.safe {
		return passed
	}
	safe := max(c.store.First(e.Priority), 1) - 1 + session.Lap(uint8(e.Priority))
	if e.Number > safe {
		return held // its last user is pending
	}
	if err := c.store.Sync(); err != nil {
		return c.storeSick(err)
	}
	l.safe = safe
	return passed
}

const (
	// firstAhead is for how many messages the first mark of a connection is at
	// most, maxAhead for how many one is when many are sent.
	firstAhead, maxAhead = 64, 4096
	// maxSlack is how many messages that are still to come a mark may be for.
	maxSlack = 1024
)

// mark sees to it that the store knows, durably, that the entry may have been
// sent, before it is. A mark takes a commit, so it is for several messages: twice
// as many each time on a connection, as far as there are so many. When half of it
// is used up the next one is made, and sending goes on meanwhile. Where nothing can
// be dropped, and being marked costs a message nothing, a mark goes ahead of what
// is there, by an eighth of what was sent on the connection: else one who publishes
// one by one would wait for two commits each time.
func (c *Client) mark(up *link.Up) answer {
	f := &c.feed
	e := &f.entry
	l := &f.lines[e.Priority]
	known := e.Number <= l.marked
	if !known {
		f.takeMade()
	}
	if e.Number <= l.marked {
		if l.marked-e.Number < l.low && !f.marking {
			c.markAhead()
		}
		if known {
			return passed
		}
		return c.stillThere()
	}
	free := up.Gen.Free()
	if free == 0 {
		return stopped
	}
	if l.ahead == 0 {
		l.ahead = uint64(min(free, firstAhead))
	}
	upTo := c.reach()
	if err := c.store.MarkSent(e.Priority, upTo); err != nil {
		return c.storeSick(err)
	}
	l.marked, l.low, l.ahead = upTo, (upTo-e.Number)/2, min(2*l.ahead, maxAhead)
	return c.stillThere()
}

// stillThere looks at the entry again once it is marked: until then, a newer
// message may have taken its place or made it give room, and what was told to be
// dropped must not be sent.
func (c *Client) stillThere() answer {
	ok, err := c.store.Get(c.feed.entry.Seq, &c.feed.entry)
	switch {
	case err != nil:
		return c.storeSick(err)
	case !ok:
		return gone
	}
	return passed
}

// markAhead has the next mark made, if it would reach much further.
func (c *Client) markAhead() {
	f := &c.feed
	p := f.entry.Priority
	l := &f.lines[p]
	upTo := c.reach()
	if upTo < l.marked+l.low {
		l.low /= 2 // and looks again later
		return
	}
	l.low, l.ahead = (upTo-f.entry.Number)/2, min(2*l.ahead, maxAhead)
	f.marking = true
	c.work.Go(func() {
		if err := c.store.MarkSent(p, upTo); err != nil {
			f.made <- made{} // the drainer comes to it, and tells
			return
		}
		f.made <- made{p, upTo}
	})
}

// takeMade waits for the mark that is being made.
func (f *feed) takeMade() {
	if !f.marking {
		return
	}
	f.marking = false
	if m := <-f.made; m.number > 0 {
		f.lines[m.priority].marked = max(f.lines[m.priority].marked, m.number)
	}
}

// reach is how far a mark for the entry goes.
func (c *Client) reach() uint64 {
	e := &c.feed.entry
	l := &c.feed.lines[e.Priority]
	there := c.lastNumber()
	if !c.droppable.Load() {
		there += min(l.count/8, maxSlack)
	}
	return min(e.Number+l.ahead-1, there)
}

// lastNumber is the Number of the last message of the entry's priority, or less
// where messages behind the entry are done.
func (c *Client) lastNumber() uint64 {
	e := &c.feed.entry
	if e.Priority == Normal { // numbers go by sequence
		return e.Number + c.store.LastSeq() - e.Seq
	}
	first := c.store.First(e.Priority)
	return max(first+c.store.Stats().PendingOf[e.Priority], e.Number+1) - 1
}

// storeSick leaves the store alone for a while.
func (c *Client) storeSick(err error) answer {
	c.storeFailed(err)
	c.feed.retry.Reset(storeRetry)
	return stopped
}
