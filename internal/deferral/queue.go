package deferral

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Queue has the messages that are not sent for now: those that the server refused with a code
// that may pass, those of the same topic and priority that wait for them, and those over which
// connections ended. It is pure: it reads and sends nothing.
//
// The messages of one topic and priority are a lane, in the order of the log. While there is a lane,
// all messages of its topic and priority go through it. When its time has come, its first message is
// sent. If that is acknowledged, the lane is open: the others follow. If it is refused, the lane
// waits again, for longer.
type Queue struct {
	backoff reliability.Backoff
	any     atomic.Bool // there is something here

	mu       sync.Mutex
	refused  []Refusal // not looked at yet
	lanes    [persistence.Priorities]map[string]*lane
	waiting  laneHeap         // lanes that wait for their time
	isolated laneHeap         // of these, those whose messages are sent alone
	ready    []*lane          // may send; each at most once
	queued   map[uint64]*lane // of each message that is not sent
	sent     map[uint64]flight
	held     map[uint16]uint64 // packet identifiers that a deferred message may have been sent under
	count    [persistence.Priorities]int
	bytes    int64
	expires  int64     // no message expires before, in Unix milliseconds
	trial    uint64    // the message that was sent alone; 0: none
	rest     time.Time // none is sent alone before: a connection ended over the last one
	givenUp  map[uint64]GivenUp
}

// Refusal is an answer of the server that the send loop has still to look at.
type Refusal struct {
	Seq  uint64
	Code byte
	Text string // the reason string

	Alone   bool // connections ended over the message
	Topic   bool // and over others of its topic
	Strikes int  // so many in a row
	Final   bool // it is given up for that
}

// New returns an empty Queue.
func New(b reliability.Backoff) *Queue {
	d := &Queue{backoff: b, queued: map[uint64]*lane{}, sent: map[uint64]flight{}, held: map[uint16]uint64{}, expires: never, givenUp: map[uint64]GivenUp{}}
	for p := range d.lanes {
		d.lanes[p] = map[string]*lane{}
	}
	return d
}

// Any reports whether there may be something in it.
func (d *Queue) Any() bool { return d.any.Load() }

// Longest is the longest time that a message is deferred for at a time.
func (d *Queue) Longest() time.Duration { return d.backoff.Later() * 2 }

// Note takes an answer for the send loop.
func (d *Queue) Note(r Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, r)
	d.any.Store(true)
}

// Take returns the answers that were noted.
func (d *Queue) Take() []Refusal {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.refused
	d.refused = nil
	d.settle()
	return list
}

// settle notes whether there is anything here.
func (d *Queue) settle() {
	d.any.Store(len(d.refused)+len(d.waiting)+len(d.isolated)+len(d.ready)+len(d.sent)+len(d.givenUp)+len(d.held) > 0)
}

// Blocks reports whether a message of this topic and priority has to wait in a lane.
func (d *Queue) Blocks(topic []byte, p persistence.Priority) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lanes[p][string(topic)] != nil
}

// Holds reports whether a packet identifier belongs to another message than seq.
func (d *Queue) Holds(id uint16, seq uint64) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	by, held := d.held[id]
	return held && by != seq
}

// Refuse defers a message that was refused under a packet identifier, and returns until when.
func (d *Queue) Refuse(topic string, e *persistence.Entry, id uint16, code byte, now time.Time) (until time.Time, attempts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.laneOf(topic, e.Priority, now)
	refused := uint16(0)
	if code == wire.ReasonPacketIDInUse {
		refused = id
	}
	was := d.remove(e.Seq)
	if l.alone { // the server answers
		d.leave(l)
		l.alone, l.silent = false, false
	}
	// Messages of a lane that were sent together are refused together, which is one attempt.
	if l.attempts == 0 || !now.Before(l.until) {
		l.attempts++
		l.until = now.Add(d.backoff.Delay(l.attempts - 1))
	}
	l.open, l.code = false, code
	d.enter(l, e, Item{Refused: refused})
	d.wait(l)
	if was != nil && was != l {
		d.schedule(was, now)
	}
	return l.until, l.attempts
}

// Follow adds a message that waits for others of its topic and priority. A lane is made if there is
// none, which sends at once: the message only needs another packet identifier.
func (d *Queue) Follow(topic string, e *persistence.Entry, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.laneOf(topic, e.Priority, now)
	d.enter(l, e, Item{})
	d.schedule(l, now)
}

// silentTrials is how often a message has to end a connection alone before others of its topic overtake
// it, if the server gives no reason: the link may be as bad as that.
const silentTrials = 3

// Isolate defers a message over which connections ended. It keeps its packet identifier and is sent
// alone. The others of its topic and priority overtake it; if the connections ended without a reason
// code, they wait for it until it has been tried silentTrials times. If another message of its topic and
// priority is isolated already, the topic is the reason: all its messages wait, and are sent alone until
// one of them is acknowledged.
func (d *Queue) Isolate(topic string, e *persistence.Entry, id uint16, r Refusal, now time.Time) (until time.Time, attempts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	tried := d.trial == e.Seq
	was := d.remove(e.Seq)
	l := was
	switch {
	case r.Topic:
		l = d.isolatedLane(topic, e.Priority, true, now)
		l.silent = false
	case l != nil && l.silent:
		if r.Code != 0 || l.attempts >= silentTrials {
			l = d.split(l, now)
		}
	case l == nil || !l.alone:
		first := d.single(topic, e.Priority) == nil
		l = d.isolatedLane(topic, e.Priority, r.Code == 0, now)
		l.silent = r.Code == 0 && first && !l.alone
	}
	d.leave(l)
	l.alone, l.open, l.code = true, false, r.Code
	l.attempts++
	if l.until = now.Add(d.backoff.Delay(l.attempts - 1)); tried {
		d.rest = l.until // each costs a connection, however many topics there are
	}
	d.enter(l, e, Item{ID: id})
	d.wait(l)
	if was != nil && was != l {
		d.schedule(was, now)
	}
	return l.until, l.attempts
}

// split lets the messages of a lane go, except the first: it returns a lane of its own for that.
func (d *Queue) split(l *lane, now time.Time) *lane {
	one := &lane{topic: l.topic, priority: l.priority, alone: true, one: true, since: l.since, attempts: l.attempts, index: -1}
	d.leave(l)
	d.reopen(l, now)
	return one
}

// isolatedLane returns the lane for a message that is isolated: its own, or that of its topic if another
// is isolated already, or if all wait.
func (d *Queue) isolatedLane(topic string, p persistence.Priority, all bool, now time.Time) *lane {
	l, one := d.lanes[p][topic], d.single(topic, p)
	switch {
	case l != nil && l.alone:
		return l
	case one == nil && !all:
		return &lane{topic: topic, priority: p, alone: true, one: true, since: now, index: -1}
	case one == nil:
		return d.laneOf(topic, p, now)
	case l == nil:
		l = d.laneOf(topic, p, now)
		l.since, l.until, l.attempts = one.since, one.until, one.attempts
	}
	if one.until.After(l.until) {
		l.until = one.until
	}
	for _, x := range one.queue {
		d.insert(l, x)
	}
	one.queue = nil
	d.end(one)
	return l
}

// single returns the lane of a message of this topic and priority that is sent alone; nil: there is
// none that waits.
func (d *Queue) single(topic string, p persistence.Priority) *lane {
	for _, l := range d.isolated {
		if l.one && l.topic == topic && l.priority == p {
			return l
		}
	}
	return nil
}

// Isolated reports whether a message of this topic and priority is sent alone; all: all of them are.
func (d *Queue) Isolated(topic []byte, p persistence.Priority) (isolated, all bool) {
	if !d.any.Load() {
		return false, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[p][string(topic)]
	all = l != nil && l.alone
	return all || d.single(string(topic), p) != nil, all
}

// Keep adds a message that was sent on an earlier connection, and whose topic is sent alone. It keeps
// its packet identifier.
func (d *Queue) Keep(topic string, e *persistence.Entry, id uint16, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, was := d.laneOf(topic, e.Priority, now), d.remove(e.Seq)
	d.enter(l, e, Item{ID: id})
	d.schedule(l, now)
	if was != nil && was != l {
		d.schedule(was, now)
	}
}

// Restore adds a message that an earlier process deferred. It is in flight if it was released, or may
// have been sent and is not alone.
func (d *Queue) Restore(topic string, e *persistence.Entry, left time.Duration, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, since := &e.Deferral, now.Add(left+e.Deferral.Since.Sub(e.Deferral.Until))
	if x.GivenUp {
		d.giveUp(e, x.PacketID, x.Code, now)
		return
	}
	var l *lane
	silent := x.Code == 0 && x.Attempts <= silentTrials
	switch {
	case e.Released: // the server has taken it: no other message waits for it
		l = d.laneOf(topic, e.Priority, now)
	case x.Alone:
		first := d.single(topic, e.Priority) == nil
		l = d.isolatedLane(topic, e.Priority, silent, now)
		d.leave(l)
		l.silent = silent && !l.one && (l.silent || first && !l.alone)
		l.alone, l.open = true, false
	default:
		l = d.laneOf(topic, e.Priority, now)
		l.open = l.open && x.Attempts == 0
	}
	if !e.Released {
		if until := now.Add(left); until.After(l.until) {
			l.until = until
		}
		l.code, l.attempts = cmp.Or(x.Code, l.code), max(l.attempts, x.Attempts)
	}
	if since.Before(l.since) {
		l.since = since
	}
	d.enter(l, e, Item{ID: x.PacketID})
	if e.Released || x.PacketID != 0 && !x.Alone {
		i := l.find(e.Seq)
		d.sent[e.Seq] = flight{l, l.queue[i]}
		delete(d.queued, e.Seq)
		l.queue = slices.Delete(l.queue, i, i+1)
		l.sent++
	}
	d.schedule(l, now)
}
