package index

import (
	"cmp"
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// movedMessage is a message whose record was written again, to a newer segment.
type movedMessage struct {
	seq   uint64
	seg   *Segment // contains the record and counts the message
	loc   Loc
	state uint8
	print uint16
	extra Extra
}

func (m *movedMessage) ref() Ref {
	return Ref{Segment: m.seg, x: &m.seg.Index, loc: &m.loc, state: &m.state, print: &m.print, extra: &m.extra, Moved: true}
}

func (c *Catalog) findMoved(seq uint64) (int, bool) {
	if c.loading != nil {
		i, known := c.loading[seq]
		if !known {
			i = len(c.moved)
		}
		return i, known
	}
	return slices.BinarySearchFunc(c.moved, seq, func(m movedMessage, seq uint64) int { return cmp.Compare(m.seq, seq) })
}

// Move records that the record of a message is now in s, and sets the state of the message.
func (c *Catalog) Move(seq uint64, s *Segment, at Loc, priority, state uint8) {
	i, known := c.findMoved(seq)
	if !known {
		c.moved = slices.Insert(c.moved, i, movedMessage{seq: seq})
		if c.loading != nil {
			c.loading[seq] = i
		}
	}
	m := &c.moved[i]
	if m.seg != nil {
		m.seg.count(m.state, -1)
	}
	s.count(state, 1)
	if old, j := c.At(seq); old != nil {
		if !old.movedAway(j) {
			if m.print = old.prints[j]; old.Keep {
				m.extra = old.extras[j]
			}
		}
		old.count(old.states[j], -1)
		old.states[j] = old.states[j]&^stateMask | moved
	}
	m.seg, m.loc, m.state = s, at, priority<<levelShift|state
}

// installMove adds a message that a commit has written again to the segment s. A message that has
// ended in the meantime is not moved, because the record of its result follows later.
func (c *Catalog) installMove(s *Segment, off int64, m move, commit uint64) {
	r := c.Committed(m.seq)
	if !r.OK() || r.x == &s.Index { // already there: the batch was written twice
		return
	}
	if state := r.State(); alive(state) || state == Dead {
		r.EndedIn(commit)
		c.Move(m.seq, s, Loc{Off: m.loc.Off + uint32(off), Size: m.loc.Size}, r.Priority(), state)
	}
}

// movedAway reports whether the message at position i was moved to another segment.
func (s *Segment) movedAway(i int) bool { return s.states[i]&stateMask == moved }

// Rehome records that the record of a moved message was written to another segment.
func (c *Catalog) Rehome(seq uint64, from *Segment, off int64, to *Segment, at uint32) {
	if i, ok := c.findMoved(seq); ok && c.moved[i].seg == from && int64(c.moved[i].loc.Off) == off {
		m := &c.moved[i]
		from.count(m.state, -1)
		to.count(m.state, 1)
		m.seg, m.loc.Off = to, at
	}
}

// RehomeFrom calls Rehome for all moved messages of a segment from off on. Their records now begin at
// the offset at of the segment to.
func (c *Catalog) RehomeFrom(from *Segment, off int64, to *Segment, at int64) {
	for i := range c.moved {
		if m := &c.moved[i]; m.seg == from && int64(m.loc.Off) >= off {
			c.Rehome(m.seq, from, int64(m.loc.Off), to, uint32(int64(m.loc.Off)-off+at))
		}
	}
}

// RemoveFirst removes the oldest segment. It forgets the messages that were moved to it, and the
// ended messages at the front of the queues.
func (c *Catalog) RemoveFirst() {
	s := c.Segments[0]
	c.Segments[0] = nil // lets the garbage collector free it
	c.Segments = c.Segments[1:]
	c.moved = slices.DeleteFunc(c.moved, func(m movedMessage) bool { return m.seg == s })
	for p := uint8(record.Normal + 1); p < record.Priorities; p++ {
		c.trim(p)
	}
}

// Keepers returns messages that must be moved before the segment can be removed. Their sequences
// are higher than after. Their packets have about most bytes in total.
func (c *Catalog) Keepers(s *Segment, after uint64, most int64) (seqs []uint64, locs []Loc, size int64) {
	take := func(seq uint64, state uint8, at Loc) {
		if state &= stateMask; size < most && seq > after && (alive(state) || state == Dead) {
			seqs, locs, size = append(seqs, seq), append(locs, at), size+int64(at.Size)
		}
	}
	i, _ := c.findMoved(after + 1)
	for ; i < len(c.moved) && size < most; i++ {
		if m := &c.moved[i]; m.seg == s {
			take(m.seq, m.state, m.loc)
		}
	}
	for i := int(max(after+1, s.First) - s.First); i < len(s.states) && size < most; i++ {
		take(s.First+uint64(i), s.states[i], s.Locs[i])
	}
	return seqs, locs, size
}

// ByPrint returns the messages whose ID has this fingerprint, in descending order.
func (c *Catalog) ByPrint(print uint16) (seqs []uint64) {
	for _, s := range c.Segments {
		for i := range s.prints {
			if s.prints[i] == print && !s.movedAway(i) {
				seqs = append(seqs, s.First+uint64(i))
			}
		}
	}
	for i := range c.moved {
		if m := &c.moved[i]; m.print == print {
			seqs = append(seqs, m.seq)
		}
	}
	slices.Sort(seqs)
	slices.Reverse(seqs)
	return seqs
}

// Results returns a function that returns the results of the messages whose records are in s. The
// function gets a sequence, and whether the record was moved to s. It needs no lock.
func (c *Catalog) Results(s *Segment) func(seq uint64, movedHere bool) (Extra, bool) {
	ended := map[uint64]Extra{}
	for _, m := range c.moved {
		if m.seg == s {
			ended[m.seq] = m.extra
		}
	}
	return func(seq uint64, movedHere bool) (e Extra, ok bool) {
		switch {
		case movedHere:
			e, ok = ended[seq]
		case seq >= s.First && seq < s.End() && s.states[seq-s.First]&stateMask == Done:
			e, ok = s.extras[seq-s.First], true
		}
		return e, ok && e.Result.Kind != 0
	}
}

// All calls yield for each message in ascending order, until yield returns false.
func (c *Catalog) All(yield func(seq uint64, r Ref) bool) {
	list := c.moved
	// before yields the moved messages before seq.
	before := func(seq uint64) bool {
		for ; len(list) > 0 && list[0].seq < seq; list = list[1:] {
			if m := &list[0]; !yield(m.seq, m.ref()) {
				return false
			}
		}
		return true
	}
	for _, s := range c.Segments {
		for i := range s.Locs {
			seq := s.First + uint64(i)
			if !before(seq) {
				return
			}
			if s.movedAway(i) {
				continue
			}
			if !yield(seq, s.ref(i, s)) {
				return
			}
			if len(list) > 0 && list[0].seq == seq { // possible after damage; Committed also prefers the segment
				list = list[1:]
			}
		}
	}
	before(record.MaxSequence + 1)
}
