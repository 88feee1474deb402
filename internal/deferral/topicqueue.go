package deferral

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// topicQueue holds the deferred messages of one topic and priority.
type topicQueue struct {
	topic    string
	priority persistence.Priority
	alone    bool   // its messages are sent alone
	one      bool   // the queue of a single message, not of its topic
	silent   bool   // alone, because connections ended without a reason code while its first message was unacknowledged
	queue    []Item // unsent messages, by sequence
	sent     int    // number of messages sent and not acknowledged
	open     bool   // the last answer was not a refusal, so all messages may be sent
	queued   bool   // in ready
	attempts int    // consecutive refusals
	code     byte   // code of the last refusal
	since    time.Time
	until    time.Time
	index    int // in waiting or isolated; -1: in neither
}

// Item is a message in a topic queue.
type Item struct {
	Seq     uint64
	size    int
	expires int64  // in Unix milliseconds; never: it does not expire
	Alone   bool   // set for a picked message that is sent alone
	ID      uint16 // identifier under which it may have been sent in this session; 0: it was not
	Refused uint16 // identifier under which it was refused because the identifier is in use; 0: none
}

type flight struct {
	topicQueue *topicQueue
	Item
}

// queueOf returns the queue of a topic and priority. It creates the queue if necessary.
func (d *Queue) queueOf(topic string, p persistence.Priority, now time.Time) *topicQueue {
	l := d.topics[p][topic]
	if l == nil {
		l = &topicQueue{topic: topic, priority: p, open: true, since: now, index: -1}
		d.topics[p][topic] = l
	}
	return l
}

// enter inserts a message into a queue by sequence. x has the packet identifiers of the message. If
// the server refused the message because an identifier is in use, the message is never sent under
// that identifier again.
func (d *Queue) enter(l *topicQueue, e *persistence.Entry, x Item) {
	if x.Seq, x.size, x.expires = e.Seq, len(e.Packet), never; !e.Expires.IsZero() {
		x.expires = e.Expires.UnixMilli()
	}
	x.Refused = cmp.Or(x.Refused, e.Deferral.RefusedID)
	if x.ID != 0 {
		d.held[x.ID] = e.Seq
	}
	d.insert(l, x)
	d.count[l.priority]++
	d.bytes += int64(x.size)
}

func (d *Queue) insert(l *topicQueue, x Item) {
	i := len(l.queue)
	for i > 0 && l.queue[i-1].Seq > x.Seq { // usually the last position
		i--
	}
	l.queue = slices.Insert(l.queue, i, x)
	d.queued[x.Seq] = l
	if x.ID == 0 {
		d.expires = min(d.expires, x.expires)
	}
	d.any.Store(true)
}

// find returns the position of a message in the queue.
func (l *topicQueue) find(seq uint64) int {
	i, _ := slices.BinarySearchFunc(l.queue, seq, func(x Item, seq uint64) int { return cmp.Compare(x.Seq, seq) })
	return i
}

// remove removes a message from its queue and returns the queue, or nil if it was in none.
func (d *Queue) remove(seq uint64) *topicQueue {
	l := d.queued[seq]
	if l == nil {
		return d.endFlight(seq)
	}
	i := l.find(seq)
	d.forget(l, l.queue[i])
	l.queue = slices.Delete(l.queue, i, i+1)
	return l
}

// forget updates the state after a message has left its queue.
func (d *Queue) forget(l *topicQueue, x Item) {
	delete(d.queued, x.Seq)
	d.release(x.ID, x.Seq)
	d.count[l.priority]--
	d.bytes -= int64(x.size)
}

// wait makes a queue wait until its time.
func (d *Queue) wait(l *topicQueue) {
	switch {
	case l.queued: // Pick checks its time
	case l.index < 0:
		heap.Push(d.heapOf(l), l)
	default:
		heap.Fix(d.heapOf(l), l.index)
	}
}

func (d *Queue) heapOf(l *topicQueue) *queueHeap {
	if l.alone {
		return &d.isolated
	}
	return &d.waiting
}

// leave removes a queue from its heap.
func (d *Queue) leave(l *topicQueue) {
	if l.index >= 0 {
		heap.Remove(d.heapOf(l), l.index)
	}
}

// schedule makes a queue send as many messages as it may, or ends the queue.
func (d *Queue) schedule(l *topicQueue, now time.Time) {
	switch {
	case len(l.queue) == 0 && l.sent == 0:
		d.end(l)
	case len(l.queue) == 0 || !l.open && l.sent > 0:
	case now.Before(l.until) || l.alone:
		d.wait(l)
	case !l.queued:
		d.leave(l)
		l.queued = true
		d.ready = append(d.ready, l)
	}
}

// end removes an empty queue.
func (d *Queue) end(l *topicQueue) {
	d.leave(l)
	if l.queued {
		d.ready = slices.DeleteFunc(d.ready, func(x *topicQueue) bool { return x == l })
		l.queued = false
	}
	if !l.one {
		delete(d.topics[l.priority], l.topic)
	}
	d.settle()
}

// endFlight ends the flight of a message and returns its queue, or nil if the message was not sent from
// a queue.
func (d *Queue) endFlight(seq uint64) *topicQueue {
	f, ok := d.sent[seq]
	if !ok {
		return nil
	}
	delete(d.sent, seq)
	d.forget(f.topicQueue, f.Item)
	f.topicQueue.sent--
	if d.trial == seq {
		d.trial = 0
	}
	return f.topicQueue
}

func (d *Queue) release(id uint16, seq uint64) {
	if d.held[id] == seq {
		delete(d.held, id)
	}
}

// pop removes the first message of a queue and records it as sent.
func (d *Queue) pop(l *topicQueue) Item {
	x := l.queue[0]
	x.Alone = l.alone
	l.queue = l.queue[1:]
	l.sent++
	delete(d.queued, x.Seq)
	d.sent[x.Seq] = flight{l, x}
	return x
}

// forgetIDs records that no message of a queue was sent in the present session, so all of them can
// expire.
func (d *Queue) forgetIDs(l *topicQueue) {
	for i := range l.queue {
		l.queue[i].ID = 0
		d.expires = min(d.expires, l.queue[i].expires)
	}
}

// queueHeap is a heap of queues. The queue with the earliest time comes first.
type queueHeap []*topicQueue

func (h queueHeap) Len() int           { return len(h) }
func (h queueHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h queueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *queueHeap) Push(x any) {
	l := x.(*topicQueue)
	l.index = len(*h)
	*h = append(*h, l)
}

func (h *queueHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	l.index = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}

const never = math.MaxInt64
