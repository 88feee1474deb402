package index

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Segment is a segment of the log and its messages.
type Segment struct {
	Number uint64
	Size   int64 // bytes in use
	Index
}

// Catalog finds messages by sequence and by priority. A message is in its segment, in the short
// list of moved messages, or in an uncommitted batch.
type Catalog struct {
	Segments []*Segment // oldest first; the last one is active
	Open     []*Batch   // uncommitted batches, oldest first
	moved    []movedMessage
	queues   [record.Priorities]queue
	loading  map[uint64]int // during recovery: positions in moved, which is not sorted yet
	hint     int            // position of the segment that was used last
}

// Active returns the segment that is appended to.
func (c *Catalog) Active() *Segment { return c.Segments[len(c.Segments)-1] }

// Find returns a message, committed or not.
func (c *Catalog) Find(seq uint64) Ref {
	for _, b := range c.Open {
		if b.has(seq) {
			return b.ref(int(seq-b.First), nil)
		}
	}
	return c.Committed(seq)
}

// Committed returns a message if it is committed.
func (c *Catalog) Committed(seq uint64) Ref {
	if s, i := c.At(seq); s != nil && !s.movedAway(i) {
		return s.ref(i, s)
	}
	if i, ok := c.findMoved(seq); ok {
		return c.moved[i].ref()
	}
	return Ref{}
}

// At returns the segment whose range contains seq, and the position in it.
func (c *Catalog) At(seq uint64) (*Segment, int) {
	if n := c.from(seq); n < len(c.Segments) && c.Segments[n].has(seq) {
		return c.Segments[n], int(seq - c.Segments[n].First)
	}
	return nil, 0
}

// from returns the position of the first segment that ends after seq.
func (c *Catalog) from(seq uint64) int {
	if c.hint >= len(c.Segments) || !c.Segments[c.hint].has(seq) {
		c.hint = sort.Search(len(c.Segments), func(i int) bool { return c.Segments[i].End() > seq })
	}
	return c.hint
}

// Number returns the position of a message within its priority.
func (c *Catalog) Number(priority uint8, seq uint64) uint64 {
	if priority == record.Normal {
		return seq
	}
	q := c.queues[priority]
	if i, known := q.find(seq); known {
		return q[i].number
	}
	for _, b := range c.Open {
		if i, known := slices.BinarySearchFunc(b.entries, seq, entry.compare); known {
			return b.entries[i].number
		}
	}
	return 0
}

// Uncommitted reports whether an uncommitted batch contains a pending message of a priority.
func (c *Catalog) Uncommitted(priority uint8) bool {
	return slices.ContainsFunc(c.Open, func(b *Batch) bool { return bytes.IndexByte(b.states, priority<<levelShift|Pending) >= 0 })
}

// Next returns the first committed message after the cursor that is alive and not deferred. It
// returns 0 if there is none.
func (c *Catalog) Next(cursor *[record.Priorities]uint64) (seq uint64) {
	for p := record.Urgent; p >= record.Normal && seq == 0; p-- {
		seq = c.NextOf(uint8(p), cursor[p])
	}
	return seq
}

// NextOf returns the first committed message of a priority with a sequence above after, or 0. It
// skips deferred messages.
func (c *Catalog) NextOf(priority uint8, after uint64) uint64 {
	q := c.queues[priority]
	switch {
	case after >= record.MaxSequence:
		return 0
	case priority == record.Normal:
		return c.nextNormal(after + 1)
	}
	i, _ := q.find(after + 1)
	for _, e := range q[i:] {
		if c.Committed(e.seq).InOrder() {
			return e.seq
		}
	}
	return 0
}

func (c *Catalog) nextNormal(seq uint64) uint64 {
	// Every moved message is older than all messages that are still in their original segments.
	if n := len(c.moved); n > 0 && c.moved[n-1].seq >= seq {
		for i, _ := c.findMoved(seq); i < n; i++ {
			if m := &c.moved[i]; m.state < Done {
				return m.seq
			}
		}
	}
	for _, s := range c.Segments[c.from(seq):] {
		if i, ok := s.next(int(max(seq, s.First) - s.First)); ok {
			return s.First + uint64(i)
		}
	}
	return 0
}

// First returns the Number of the first committed message of a priority, or 0.
func (c *Catalog) First(priority uint8) uint64 {
	c.trim(priority)
	return c.Number(priority, c.NextOf(priority, 0))
}

// Install adds the messages of a committed batch, which was written to s at off.
func (c *Catalog) Install(s *Segment, off int64, b *Batch, commit uint64) {
	s.AddAll(&b.Index, off)
	for _, e := range b.entries {
		c.Enqueue(e.priority, e.seq, e.number)
	}
	for _, m := range b.moves {
		c.installMove(s, off, m, commit)
	}
	s.Emptied = max(s.Emptied, b.Emptied)
}

// Enqueue adds a message to the queue of its priority. Normal messages have no queue.
func (c *Catalog) Enqueue(priority uint8, seq, number uint64) {
	if priority == record.Normal {
		return
	}
	q := &c.queues[priority]
	i, known := len(*q), false
	if c.loading == nil {
		i, known = q.find(seq)
	}
	if !known {
		*q = slices.Insert(*q, i, queued{seq, number})
	}
}

// Load prepares the catalog for records in any order. Loaded sorts them.
func (c *Catalog) Load() { c.loading = map[uint64]int{} }

// Loaded ends the phase that Load began.
func (c *Catalog) Loaded() {
	c.loading = nil
	slices.SortFunc(c.moved, func(a, b movedMessage) int { return cmp.Compare(a.seq, b.seq) })
	for p := range c.queues {
		q := &c.queues[p]
		slices.SortFunc(*q, func(a, b queued) int { return a.compare(b.seq) })
		*q = slices.CompactFunc(*q, func(a, b queued) bool { return a.seq == b.seq })
	}
}

// Unrelease removes the released state from all messages.
func (c *Catalog) Unrelease() {
	for _, s := range c.Segments {
		s.unrelease()
	}
	for _, b := range c.Open {
		b.unrelease()
	}
	for i := range c.moved {
		if m := &c.moved[i]; unreleased(m.state) != m.state {
			m.state = unreleased(m.state)
		}
	}
}

// queue contains the messages of one priority in order. It may contain messages that have ended.
type queue []queued

type queued struct{ seq, number uint64 }

func (q queued) compare(seq uint64) int { return cmp.Compare(q.seq, seq) }

// find returns the position of a message, or of the next one.
func (q queue) find(seq uint64) (int, bool) { return slices.BinarySearchFunc(q, seq, queued.compare) }

// trim removes the messages at the front that have ended or are deferred.
func (c *Catalog) trim(priority uint8) {
	q := &c.queues[priority]
	for len(*q) > 0 && !c.Committed((*q)[0].seq).InOrder() {
		*q = (*q)[1:]
	}
}
