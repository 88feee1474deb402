package persistence

import (
	"cmp"
	"slices"
	"sort"
)

// catalog finds messages: in their segment, where a sequence is an array index;
// among those that were moved, which are few; and by priority.
type catalog struct {
	segments []*segment // oldest first; the last is the active one
	moved    []moved    // by sequence
	queues   [Priorities]queue
	loading  map[uint64]int // while records are read: where in moved, which is not in order yet
	hint     int            // the segment that was asked for last is likely to be the next
}

// moved is a message whose record was written again, to a newer segment, so that
// its old one can go.
type moved struct {
	seq   uint64
	seg   *segment // counts it; nil: the entry is void
	loc   loc
	state uint8
	extra extra
}

// ref is where the state of a message is kept. The zero value is no message.
type ref struct {
	x *index // counts it
	i int
	m *moved // instead of i, or nil
}

func (r ref) ok() bool { return r.x != nil }

func (r ref) state() uint8 {
	if r.m != nil {
		return r.m.state & stateMask
	}
	return r.x.states[r.i] & stateMask
}

func (r ref) priority() Priority {
	if r.m != nil {
		return Priority(r.m.state >> levelShift)
	}
	return Priority(r.x.states[r.i] >> levelShift)
}

func (r ref) loc() loc {
	if r.m != nil {
		return r.m.loc
	}
	return r.x.locs[r.i]
}

func (r ref) set(state uint8) {
	at := &r.x.states
	old := uint8(0)
	if r.m != nil {
		old = r.m.state
		r.m.state = old&^stateMask | state
	} else {
		old = (*at)[r.i]
		(*at)[r.i] = old&^stateMask | state
	}
	r.x.count(old, -1)
	r.x.count(state, 1)
}

// alive reports whether there is such a message and it is not done.
func (r ref) alive() bool { return r.ok() && r.state() < stateDone }

// extra is nil where no receipts are wanted.
func (r ref) extra() *extra {
	switch {
	case r.m != nil:
		return &r.m.extra
	case r.x.keep:
		return &r.x.extras[r.i]
	}
	return nil
}

// end notes the outcome, where receipts are wanted.
func (r ref) end(o Result, at int64) {
	if e := r.extra(); e != nil {
		e.outcome, e.at = o, at
	}
}

// find returns the message, if its segment is still there.
func (c *catalog) find(seq uint64) ref {
	if s, i := c.segment(seq); s != nil && s.states[i]&stateMask != stateMoved {
		return ref{x: &s.index, i: i}
	}
	if i, ok := c.findMoved(seq); ok && c.moved[i].seg != nil {
		return ref{x: &c.moved[i].seg.index, m: &c.moved[i]}
	}
	return ref{}
}

func (c *catalog) findMoved(seq uint64) (int, bool) {
	if c.loading != nil {
		i, known := c.loading[seq]
		if !known {
			i = len(c.moved)
		}
		return i, known
	}
	return slices.BinarySearchFunc(c.moved, seq, func(m moved, seq uint64) int {
		switch {
		case m.seq < seq:
			return -1
		case m.seq > seq:
			return 1
		}
		return 0
	})
}

// segment returns the segment in whose range seq is, and the position in it.
func (c *catalog) segment(seq uint64) (*segment, int) {
	if h := c.hint; h < len(c.segments) && seq >= c.segments[h].first && seq < c.segments[h].end() {
		return c.segments[h], int(seq - c.segments[h].first)
	}
	n := sort.Search(len(c.segments), func(i int) bool { return c.segments[i].first > seq })
	if n == 0 || seq >= c.segments[n-1].end() {
		return nil, 0
	}
	c.hint = n - 1
	return c.segments[n-1], int(seq - c.segments[n-1].first)
}

// holder returns the segment that has the message's record.
func (c *catalog) holder(seq uint64, r ref) *segment {
	if r.m != nil {
		return r.m.seg
	}
	s, _ := c.segment(seq)
	return s
}

// next returns the first message behind the cursor that is not done, of the
// highest priority; 0: there is none.
func (c *catalog) next(cur *Cursor) uint64 {
	for p := Urgent; p > Normal; p-- {
		if seq := c.nextOf(p, cur[p]); seq != 0 {
			return seq
		}
	}
	return c.nextOf(Normal, cur[Normal])
}

// nextOf returns the first message of a priority with a sequence above after.
func (c *catalog) nextOf(p Priority, after uint64) uint64 {
	if after >= maxSequence || p != Normal && len(c.queues[p].items) == 0 {
		return 0
	}
	if p == Normal {
		return c.nextNormal(after + 1)
	}
	q := &c.queues[p]
	for i := q.above(after); i < len(q.items); i++ {
		if seq := q.items[i].seq; c.find(seq).alive() {
			return seq
		}
	}
	return 0
}

func (c *catalog) nextNormal(seq uint64) uint64 {
	// What was moved is older than what was not.
	if n := len(c.moved); n > 0 && c.moved[n-1].seq >= seq {
		for i, _ := c.findMoved(seq); i < n; i++ {
			if m := &c.moved[i]; m.seg != nil && m.state < stateDone {
				return m.seq
			}
		}
	}
	n := 0
	if s, _ := c.segment(seq); s != nil {
		n = c.hint
	} else {
		n = sort.Search(len(c.segments), func(i int) bool { return c.segments[i].end() > seq })
	}
	for ; n < len(c.segments); n++ {
		s, from := c.segments[n], 0
		if seq > s.first {
			from = int(seq - s.first)
		}
		if i, ok := s.next(from); ok {
			return s.first + uint64(i)
		}
	}
	return 0
}

// enter notes a message's place in the order of its priority.
func (c *catalog) enter(p Priority, seq, number uint64) {
	switch {
	case p == Normal:
	case c.loading != nil:
		c.queues[p].items = append(c.queues[p].items, queued{seq, number})
	default:
		c.queues[p].insert(queued{seq, number})
	}
}

// load prepares for records in any order, and loaded puts them into theirs.
func (c *catalog) load() { c.loading = map[uint64]int{} }

func (c *catalog) loaded() {
	c.loading = nil
	slices.SortFunc(c.moved, func(a, b moved) int { return cmp.Compare(a.seq, b.seq) })
	for p := range c.queues {
		q := &c.queues[p]
		slices.SortFunc(q.items, func(a, b queued) int { return cmp.Compare(a.seq, b.seq) })
		q.items = slices.CompactFunc(q.items, func(a, b queued) bool { return a.seq == b.seq })
	}
}

// move notes that the record of a message is now at loc of s. Its state moves
// with it.
func (c *catalog) move(seq uint64, s *segment, at loc, state uint8) {
	i, known := c.findMoved(seq)
	if !known {
		c.moved = slices.Insert(c.moved, i, moved{seq: seq})
		if c.loading != nil {
			c.loading[seq] = i
		}
	}
	m := &c.moved[i]
	e := m.extra
	if m.seg != nil {
		m.seg.count(m.state, -1)
	}
	s.count(state, 1)
	if old, j := c.segment(seq); old != nil {
		if old.keep && old.states[j]&stateMask != stateMoved {
			e = old.extras[j]
		}
		old.count(old.states[j], -1)
		old.states[j] = old.states[j]&^stateMask | stateMoved
	}
	*m = moved{seq: seq, seg: s, loc: at, state: state, extra: e}
}

// leave forgets what was moved to a segment that goes, and the messages of the
// queues that are done.
func (c *catalog) leave(s *segment) {
	c.moved = slices.DeleteFunc(c.moved, func(m moved) bool { return m.seg == s || m.seg == nil })
	for p := High; p < Priorities; p++ {
		c.queues[p].trim(func(seq uint64) bool { return c.find(seq).alive() })
	}
}

// first returns the Number of the first message of a priority that is not done.
func (c *catalog) first(p Priority) uint64 {
	if p == Normal {
		return c.nextNormal(1)
	}
	q := &c.queues[p]
	q.trim(func(seq uint64) bool { return c.find(seq).alive() })
	if len(q.items) == 0 {
		return 0
	}
	return q.items[0].number
}

// unrelease makes the released messages pending again.
func (c *catalog) unrelease() {
	for _, s := range c.segments {
		s.unrelease()
	}
	for i := range c.moved {
		if m := &c.moved[i]; m.state&stateMask == stateReleased {
			m.state = m.state&^stateMask | statePending
		}
	}
}

// queue is the order of the messages of one priority: 16 bytes each, until all
// before them are done too.
type queue struct {
	items []queued
}

type queued struct{ seq, number uint64 }

func (q *queue) above(after uint64) int {
	return sort.Search(len(q.items), func(i int) bool { return q.items[i].seq > after })
}

func (q *queue) insert(e queued) {
	i := q.above(e.seq - 1)
	if i < len(q.items) && q.items[i].seq == e.seq {
		return
	}
	q.items = slices.Insert(q.items, i, e)
}

// trim takes off the messages at the front that are done.
func (q *queue) trim(alive func(seq uint64) bool) {
	for len(q.items) > 0 && !alive(q.items[0].seq) {
		q.items = q.items[1:]
	}
}
