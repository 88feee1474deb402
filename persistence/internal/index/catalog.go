package index

import (
	"cmp"
	"slices"
	"sort"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Segment is a segment of the log, with its messages.
type Segment struct {
	Number uint64
	Size   int64 // bytes that count
	Index
}

// Catalog finds messages: in their segment, among those that were moved, which are
// few, in the commits that are not finished, and by priority.
type Catalog struct {
	Segments []*Segment // oldest first; the last is the active one
	Open     []*Batch   // commits that are not finished, oldest first
	moved    []movedMessage
	queues   [record.Priorities]queue
	loading  map[uint64]int // while records are read: where in moved, which is not in order yet
	hint     int            // the segment that was used last
}

// Active returns the segment that is appended to.
func (c *Catalog) Active() *Segment { return c.Segments[len(c.Segments)-1] }

// Find returns a message.
func (c *Catalog) Find(seq uint64) Ref {
	for _, b := range c.Open {
		if seq >= b.First && seq < b.End() {
			return Ref{x: &b.Index, i: int(seq - b.First)}
		}
	}
	return c.Committed(seq)
}

// Committed returns a message, if its commit is finished.
func (c *Catalog) Committed(seq uint64) Ref {
	if s, i := c.At(seq); s != nil && s.states[i]&stateMask != moved {
		return Ref{x: &s.Index, i: i}
	}
	if i, ok := c.findMoved(seq); ok && c.moved[i].seg != nil {
		return Ref{x: &c.moved[i].seg.Index, m: &c.moved[i]}
	}
	return Ref{}
}

// At returns the segment in whose range seq is, and the position in it.
func (c *Catalog) At(seq uint64) (*Segment, int) {
	if h := c.hint; h < len(c.Segments) && seq >= c.Segments[h].First && seq < c.Segments[h].End() {
		return c.Segments[h], int(seq - c.Segments[h].First)
	}
	n := sort.Search(len(c.Segments), func(i int) bool { return c.Segments[i].First > seq })
	if n == 0 || seq >= c.Segments[n-1].End() {
		return nil, 0
	}
	c.hint = n - 1
	return c.Segments[n-1], int(seq - c.Segments[n-1].First)
}

// Holder returns the segment that has the record of a committed message.
func (c *Catalog) Holder(seq uint64, r Ref) *Segment {
	if r.m != nil {
		return r.m.seg
	}
	s, _ := c.At(seq)
	return s
}

// Number returns the position of a message within its priority.
func (c *Catalog) Number(priority uint8, seq uint64) uint64 {
	if priority == record.Normal {
		return seq
	}
	q := &c.queues[priority]
	if i := q.above(seq - 1); i < len(q.items) && q.items[i].seq == seq {
		return q.items[i].number
	}
	for _, b := range c.Open {
		if number := b.number(seq); number != 0 {
			return number
		}
	}
	return 0
}

// Uncommitted reports whether a pending message of this priority is in a commit
// that is not finished.
func (c *Catalog) Uncommitted(priority uint8) bool {
	return slices.ContainsFunc(c.Open, func(b *Batch) bool { return b.pending(priority) })
}

// Next returns the first committed message after the cursor that is alive, of the
// highest priority, or 0.
func (c *Catalog) Next(cursor *[record.Priorities]uint64) uint64 {
	for p := uint8(record.Urgent); p > record.Normal; p-- {
		if seq := c.NextOf(p, cursor[p]); seq != 0 {
			return seq
		}
	}
	return c.NextOf(record.Normal, cursor[record.Normal])
}

// NextOf returns the first committed message of a priority that is alive and whose
// sequence is above after, or 0.
func (c *Catalog) NextOf(priority uint8, after uint64) uint64 {
	if after >= record.MaxSequence || priority != record.Normal && len(c.queues[priority].items) == 0 {
		return 0
	}
	if priority == record.Normal {
		return c.nextNormal(after + 1)
	}
	q := &c.queues[priority]
	for i := q.above(after); i < len(q.items); i++ {
		if seq := q.items[i].seq; c.Committed(seq).Alive() {
			return seq
		}
	}
	return 0
}

func (c *Catalog) nextNormal(seq uint64) uint64 {
	// A moved message is older than any other.
	if n := len(c.moved); n > 0 && c.moved[n-1].seq >= seq {
		for i, _ := c.findMoved(seq); i < n; i++ {
			if m := &c.moved[i]; m.seg != nil && m.state < Done {
				return m.seq
			}
		}
	}
	n := 0
	if s, _ := c.At(seq); s != nil {
		n = c.hint
	} else {
		n = sort.Search(len(c.Segments), func(i int) bool { return c.Segments[i].End() > seq })
	}
	for ; n < len(c.Segments); n++ {
		s, from := c.Segments[n], 0
		if seq > s.First {
			from = int(seq - s.First)
		}
		if i, ok := s.next(from); ok {
			return s.First + uint64(i)
		}
	}
	return 0
}

// First returns the Number of the first committed message of a priority that is
// alive, or 0.
func (c *Catalog) First(priority uint8) uint64 {
	if priority == record.Normal {
		return c.nextNormal(1)
	}
	q := &c.queues[priority]
	q.trim(c.alive)
	if len(q.items) == 0 {
		return 0
	}
	return q.items[0].number
}

func (c *Catalog) alive(seq uint64) bool { return c.Committed(seq).Alive() }

// Install enters the messages of a finished commit, whose records were written to s
// at off.
func (c *Catalog) Install(s *Segment, off int64, b *Batch, commit uint64) {
	s.AddAll(&b.Index, off)
	for _, e := range b.lines {
		c.Enqueue(e.priority, e.seq, e.number)
	}
	for _, m := range b.moves {
		c.installMove(s, off, m, commit)
	}
	s.Emptied = max(s.Emptied, b.Emptied)
}

// Enqueue notes the Number of a message.
func (c *Catalog) Enqueue(priority uint8, seq, number uint64) {
	q, e := &c.queues[priority], queued{seq, number}
	switch {
	case priority == record.Normal:
	case c.loading != nil:
		q.items = append(q.items, e)
	default:
		q.insert(e)
	}
}

// Load prepares for records in any order. Loaded puts them into their order.
func (c *Catalog) Load() { c.loading = map[uint64]int{} }

// Loaded ends what Load began.
func (c *Catalog) Loaded() {
	c.loading = nil
	slices.SortFunc(c.moved, func(a, b movedMessage) int { return cmp.Compare(a.seq, b.seq) })
	for p := range c.queues {
		q := &c.queues[p]
		slices.SortFunc(q.items, func(a, b queued) int { return cmp.Compare(a.seq, b.seq) })
		q.items = slices.CompactFunc(q.items, func(a, b queued) bool { return a.seq == b.seq })
	}
}

// Unrelease makes all released messages pending again.
func (c *Catalog) Unrelease() {
	for _, s := range c.Segments {
		s.unrelease()
	}
	for _, b := range c.Open {
		b.unrelease()
	}
	for i := range c.moved {
		if m := &c.moved[i]; m.state&stateMask == Released {
			m.state = m.state&^stateMask | Pending
		}
	}
}

// queue is the order of the messages of one priority: 16 bytes each, until all
// messages before them have ended.
type queue struct{ items []queued }

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

// trim removes the messages at the front that have ended.
func (q *queue) trim(alive func(seq uint64) bool) {
	for len(q.items) > 0 && !alive(q.items[0].seq) {
		q.items = q.items[1:]
	}
}
