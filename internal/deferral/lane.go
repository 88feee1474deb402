package deferral

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// lane is the deferred messages of one topic and priority.
type lane struct {
	topic    string
	priority persistence.Priority
	alone    bool   // its messages are sent alone
	one      bool   // it is not the lane of its topic, but of one message
	silent   bool   // alone, because connections ended without a reason over its first message
	queue    []Item // not sent, by sequence
	sent     int    // sent and not acknowledged
	open     bool   // its last answer was not a refusal: all may be sent
	queued   bool   // in ready
	attempts int    // refusals in a row
	code     byte   // the last one
	since    time.Time
	until    time.Time
	index    int // in waiting or isolated; -1: in neither
}

// Item is a message in a lane.
type Item struct {
	Seq     uint64
	size    int
	expires int64  // Unix milliseconds; never: it does not expire
	Alone   bool   // of a picked message: it is sent alone
	ID      uint16 // under which it may have been sent in this session; 0: it was not
	Refused uint16 // under which it was refused because that is in use; 0: it was not
}

type flight struct {
	lane *lane
	Item
}

// laneOf returns the lane of a topic and priority, which it makes if there is none.
func (d *Queue) laneOf(topic string, p persistence.Priority, now time.Time) *lane {
	l := d.lanes[p][topic]
	if l == nil {
		l = &lane{topic: topic, priority: p, open: true, since: now, index: -1}
		d.lanes[p][topic] = l
	}
	return l
}

// enter puts a message at its place in a lane. x has its packet identifiers.
// A message is never sent again under an identifier that it was refused under because that is in use.
func (d *Queue) enter(l *lane, e *persistence.Entry, x Item) {
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

func (d *Queue) insert(l *lane, x Item) {
	i := len(l.queue)
	for i > 0 && l.queue[i-1].Seq > x.Seq { // nearly always the last
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
func (l *lane) find(seq uint64) int {
	i, _ := slices.BinarySearchFunc(l.queue, seq, func(x Item, seq uint64) int { return cmp.Compare(x.Seq, seq) })
	return i
}

// remove takes a message out of its lane, and returns that; nil: it is in none.
func (d *Queue) remove(seq uint64) *lane {
	l := d.queued[seq]
	if l == nil {
		return d.land(seq)
	}
	i := l.find(seq)
	d.forget(l, l.queue[i])
	l.queue = slices.Delete(l.queue, i, i+1)
	return l
}

// forget notes that a message has left its lane.
func (d *Queue) forget(l *lane, x Item) {
	delete(d.queued, x.Seq)
	d.release(x.ID, x.Seq)
	d.count[l.priority]--
	d.bytes -= int64(x.size)
}

// wait lets a lane wait until its time.
func (d *Queue) wait(l *lane) {
	switch {
	case l.queued: // Pick looks at its time
	case l.index < 0:
		heap.Push(d.heapOf(l), l)
	default:
		heap.Fix(d.heapOf(l), l.index)
	}
}

func (d *Queue) heapOf(l *lane) *laneHeap {
	if l.alone {
		return &d.isolated
	}
	return &d.waiting
}

// leave takes a lane out of its heap.
func (d *Queue) leave(l *lane) {
	if l.index >= 0 {
		heap.Remove(d.heapOf(l), l.index)
	}
}

// schedule makes a lane send as far as it may, or ends it.
func (d *Queue) schedule(l *lane, now time.Time) {
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

// end removes an empty lane.
func (d *Queue) end(l *lane) {
	d.leave(l)
	if l.queued {
		d.ready = slices.DeleteFunc(d.ready, func(x *lane) bool { return x == l })
		l.queued = false
	}
	if !l.one {
		delete(d.lanes[l.priority], l.topic)
	}
	d.settle()
}

// land ends the flight of a message, and returns its lane; nil: it was not sent from one.
func (d *Queue) land(seq uint64) *lane {
	f, ok := d.sent[seq]
	if !ok {
		return nil
	}
	delete(d.sent, seq)
	d.forget(f.lane, f.Item)
	f.lane.sent--
	if d.trial == seq {
		d.trial = 0
	}
	return f.lane
}

func (d *Queue) release(id uint16, seq uint64) {
	if d.held[id] == seq {
		delete(d.held, id)
	}
}

// pop takes the first message of a lane as sent.
func (d *Queue) pop(l *lane) Item {
	x := l.queue[0]
	x.Alone = l.alone
	l.queue = l.queue[1:]
	l.sent++
	delete(d.queued, x.Seq)
	d.sent[x.Seq] = flight{l, x}
	return x
}

// forgetIDs notes that no message of a lane was sent in the present session: they can expire.
func (d *Queue) forgetIDs(l *lane) {
	for i := range l.queue {
		l.queue[i].ID = 0
		d.expires = min(d.expires, l.queue[i].expires)
	}
}

// laneHeap has the lane that waits for the shortest time first.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

func (h *laneHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	l.index = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}

const never = math.MaxInt64
