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

// Queue holds the messages that are not sent for now. These are messages that the server refused
// with a temporary reason code, messages of the same topic and priority that wait for them, and
// messages that caused connections to end. Queue does no I/O.
//
// The messages of one topic and priority form a topic queue, in the order of the log. While a topic
// queue exists, all messages of its topic and priority go through it. When its time comes, its
// first message is sent. If the server acknowledges the message, the topic queue is open, and the
// others follow. If the server refuses it, the topic queue waits again, for longer.
type Queue struct {
	backoff reliability.Backoff
	any     atomic.Bool // the Queue is not empty

	mu       sync.Mutex
	refused  []Refusal // not handled yet
	topics   [persistence.Priorities]map[string]*topicQueue
	waiting  queueHeap              // topic queues that wait for their time
	isolated queueHeap              // the waiting topic queues whose messages are sent alone
	ready    []*topicQueue          // topic queues that may send; each at most once
	queued   map[uint64]*topicQueue // topic queue of each unsent message
	sent     map[uint64]flight
	held     map[uint16]uint64 // packet identifiers under which deferred messages may have been sent
	count    [persistence.Priorities]int
	bytes    int64
	expires  int64     // no message expires before this time, in Unix milliseconds
	trial    uint64    // the message that was sent alone; 0: none
	rest     time.Time // no message is sent alone before this time, because a connection ended during the last trial
	givenUp  map[uint64]GivenUp
}

// Refusal is an answer of the server that the send loop has not handled yet.
type Refusal struct {
	Seq  uint64
	Code byte
	Text string // reason string

	Alone   bool // connections ended because of the message
	Topic   bool // connections also ended because of other messages of its topic
	Strikes int  // consecutive connections
	Final   bool // the message is given up for that reason
}

// New returns an empty Queue.
func New(b reliability.Backoff) *Queue {
	d := &Queue{backoff: b, queued: map[uint64]*topicQueue{}, sent: map[uint64]flight{}, held: map[uint16]uint64{}, expires: never, givenUp: map[uint64]GivenUp{}}
	for p := range d.topics {
		d.topics[p] = map[string]*topicQueue{}
	}
	return d
}

// Any reports whether the Queue may be non-empty.
func (d *Queue) Any() bool { return d.any.Load() }

// Longest returns the maximum delay of one deferral.
func (d *Queue) Longest() time.Duration { return d.backoff.Later() * 2 }

// Note records an answer for the send loop.
func (d *Queue) Note(r Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, r)
	d.any.Store(true)
}

// Take returns the recorded answers and removes them.
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

// settle updates any.
func (d *Queue) settle() {
	d.any.Store(len(d.refused)+len(d.waiting)+len(d.isolated)+len(d.ready)+len(d.sent)+len(d.givenUp)+len(d.held) > 0)
}

// Blocks reports whether a message of this topic and priority must wait in a topic queue.
func (d *Queue) Blocks(topic []byte, p persistence.Priority) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.topics[p][string(topic)] != nil
}

// Holds reports whether a packet identifier belongs to a message other than seq.
func (d *Queue) Holds(id uint16, seq uint64) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	by, held := d.held[id]
	return held && by != seq
}

// Refuse defers a message that the server has refused, and returns the time until which it waits.
func (d *Queue) Refuse(topic string, e *persistence.Entry, id uint16, code byte, now time.Time) (until time.Time, attempts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.queueOf(topic, e.Priority, now)
	refused := uint16(0)
	if code == wire.ReasonPacketIDInUse {
		refused = id
	}
	was := d.remove(e.Seq)
	if l.alone { // the server answered, so connections no longer end
		d.leave(l)
		l.alone, l.silent = false, false
	}
	// If messages of a topic queue were sent together and refused together, that is one attempt.
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

// Follow adds a message that waits for other messages of its topic and priority. If there is no
// topic queue, Follow creates one that may send at once. In that case the message only needs
// another packet identifier.
func (d *Queue) Follow(topic string, e *persistence.Entry, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.queueOf(topic, e.Priority, now)
	d.enter(l, e, Item{})
	d.schedule(l, now)
}

// silentTrials is how often a message, sent alone, must end a connection before other messages of
// its topic overtake it, if the server gives no reason. Before that, the cause may be a bad link.
const silentTrials = 3

// Isolate defers a message that caused connections to end. The message keeps its packet identifier
// and is sent alone. Other messages of its topic and priority overtake it. If the connections ended
// without a reason code, they overtake it only after silentTrials attempts. If another message of
// the topic and priority is already isolated, the topic is the cause. Then all its messages wait
// and are sent alone until one of them is acknowledged.
func (d *Queue) Isolate(topic string, e *persistence.Entry, id uint16, r Refusal, now time.Time) (until time.Time, attempts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	tried := d.trial == e.Seq
	was := d.remove(e.Seq)
	l := was
	switch {
	case r.Topic:
		l = d.isolatedQueue(topic, e.Priority, true, now)
		l.silent = false
	case l != nil && l.silent:
		if r.Code != 0 || l.attempts >= silentTrials {
			l = d.split(l, now)
		}
	case l == nil || !l.alone:
		first := d.single(topic, e.Priority) == nil
		l = d.isolatedQueue(topic, e.Priority, r.Code == 0, now)
		l.silent = r.Code == 0 && first && !l.alone
	}
	d.leave(l)
	l.alone, l.open, l.code = true, false, r.Code
	l.attempts++
	if l.until = now.Add(d.backoff.Delay(l.attempts - 1)); tried {
		d.rest = l.until // each trial costs a connection, however many topics there are
	}
	d.enter(l, e, Item{ID: id})
	d.wait(l)
	if was != nil && was != l {
		d.schedule(was, now)
	}
	return l.until, l.attempts
}

// split releases all messages of a topic queue except the first, and returns a separate queue for
// the first.
func (d *Queue) split(l *topicQueue, now time.Time) *topicQueue {
	one := &topicQueue{topic: l.topic, priority: l.priority, alone: true, one: true, since: l.since, attempts: l.attempts, index: -1}
	d.leave(l)
	d.reopen(l, now)
	return one
}

// isolatedQueue returns the queue for an isolated message. It is the queue of the topic if all its
// messages wait, or if another one is already isolated. Otherwise it is a separate queue.
func (d *Queue) isolatedQueue(topic string, p persistence.Priority, all bool, now time.Time) *topicQueue {
	l, one := d.topics[p][topic], d.single(topic, p)
	switch {
	case l != nil && l.alone:
		return l
	case one == nil && !all:
		return &topicQueue{topic: topic, priority: p, alone: true, one: true, since: now, index: -1}
	case one == nil:
		return d.queueOf(topic, p, now)
	case l == nil:
		l = d.queueOf(topic, p, now)
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

// single returns the waiting queue of a single isolated message of this topic and priority, or nil.
func (d *Queue) single(topic string, p persistence.Priority) *topicQueue {
	for _, l := range d.isolated {
		if l.one && l.topic == topic && l.priority == p {
			return l
		}
	}
	return nil
}

// Isolated reports whether a message of this topic and priority is sent alone, and whether all of
// them are.
func (d *Queue) Isolated(topic []byte, p persistence.Priority) (isolated, all bool) {
	if !d.any.Load() {
		return false, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.topics[p][string(topic)]
	all = l != nil && l.alone
	return all || d.single(string(topic), p) != nil, all
}

// Keep adds a message that was sent on an earlier connection and whose topic is sent alone. The
// message keeps its packet identifier.
func (d *Queue) Keep(topic string, e *persistence.Entry, id uint16, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, was := d.queueOf(topic, e.Priority, now), d.remove(e.Seq)
	d.enter(l, e, Item{ID: id})
	d.schedule(l, now)
	if was != nil && was != l {
		d.schedule(was, now)
	}
}

// Restore adds a message that an earlier process deferred. The message is in flight if it was
// released, or if it may have been sent and is not isolated.
func (d *Queue) Restore(topic string, e *persistence.Entry, left time.Duration, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, since := &e.Deferral, now.Add(left+e.Deferral.Since.Sub(e.Deferral.Until))
	if x.GivenUp {
		d.giveUp(e, x.PacketID, x.Code, now)
		return
	}
	var l *topicQueue
	silent := x.Code == 0 && x.Attempts <= silentTrials
	switch {
	case e.Released: // the server has accepted it, so no other message waits for it
		l = d.queueOf(topic, e.Priority, now)
	case x.Alone:
		first := d.single(topic, e.Priority) == nil
		l = d.isolatedQueue(topic, e.Priority, silent, now)
		d.leave(l)
		l.silent = silent && !l.one && (l.silent || first && !l.alone)
		l.alone, l.open = true, false
	default:
		l = d.queueOf(topic, e.Priority, now)
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
