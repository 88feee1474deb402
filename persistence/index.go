package persistence

import "sort"

// index knows where the messages of a segment are and how far each has come:
// nine bytes a message. Sequences are dense, so a position is an array index.
type index struct {
	first   uint64 // sequence of the first message
	locs    []loc
	states  []uint8
	undone  int    // messages neither done nor lost
	head    int    // all before it are done or lost
	emptied uint64 // the last batch that carries a done record for one of them
}

// loc is where a message's record begins and how long its packet is.
type loc struct {
	off, size uint32
}

// stateLost is a sequence whose message was not found when the log was opened.
const stateLost = 3

// end is the sequence after the last message.
func (x *index) end() uint64 { return x.first + uint64(len(x.locs)) }

func (x *index) add(at loc, state uint8) {
	x.locs = append(x.locs, at)
	x.states = append(x.states, state)
	if state < stateDone {
		x.undone++
	}
}

// setState keeps the count.
func (x *index) setState(i int, state uint8) {
	if x.states[i] < stateDone && state >= stateDone {
		x.undone--
	}
	x.states[i] = state
}

// next returns the position of the first message at or after i that is not done.
func (x *index) next(i int) (int, bool) {
	if x.undone == 0 {
		return 0, false
	}
	fromHead := i <= x.head
	i = max(i, x.head)
	for i < len(x.states) && x.states[i] >= stateDone {
		i++
	}
	if fromHead {
		x.head = i
	}
	return i, i < len(x.states)
}

// split returns the position of the first message whose record lies at or behind
// off. No message may be lost from there on.
func (x *index) split(off int64) int {
	n := len(x.locs)
	for n > 0 && int64(x.locs[n-1].off) >= off {
		n--
	}
	return n
}

// cut takes off the messages from split on.
func (x *index) cut(off int64) (locs []loc, states []uint8) {
	n := x.split(off)
	locs, states = append(locs, x.locs[n:]...), append(states, x.states[n:]...)
	for _, s := range states {
		if s < stateDone {
			x.undone--
		}
	}
	x.locs, x.states = x.locs[:n], x.states[:n]
	x.head = min(x.head, n)
	return locs, states
}

// unrelease makes the released messages pending again.
func (x *index) unrelease() {
	for i, s := range x.states {
		if s == stateReleased {
			x.states[i] = statePending
		}
	}
}

// find returns the segment that holds seq, and the position in it; nil when the
// segment is gone.
func find(segments []*segment, seq uint64) (*segment, int) {
	n := sort.Search(len(segments), func(i int) bool { return segments[i].first > seq })
	if n == 0 || seq >= segments[n-1].end() {
		return nil, 0
	}
	return segments[n-1], int(seq - segments[n-1].first)
}

// findNext returns the first message with a sequence of at least seq that is
// not done.
func findNext(segments []*segment, seq uint64) (*segment, int) {
	n := sort.Search(len(segments), func(i int) bool { return segments[i].end() > seq })
	for ; n < len(segments); n++ {
		s, from := segments[n], 0
		if seq > s.first {
			from = int(seq - s.first)
		}
		if i, ok := s.next(from); ok {
			return s, i
		}
	}
	return nil, 0
}
