package persistence

// index knows where the messages of a segment are and how far each has come:
// nine bytes a message. Sequences are dense, so a position is an array index.
type index struct {
	first   uint64 // sequence of the first message
	locs    []loc
	states  []uint8
	undone  int     // messages that are not done, those moved here included
	dead    int     // dead letters that are kept, those moved here included
	head    int     // none before it is a Normal message that is not done
	extras  []extra // beside, where receipts are wanted
	keep    bool    // whether they are
	emptied uint64  // the last batch that carries a done record for one of them
}

// loc is where a message's record begins and how long its packet is.
type loc struct {
	off, size uint32
}

// end is the sequence after the last message.
func (x *index) end() uint64 { return x.first + uint64(len(x.locs)) }

func (x *index) add(at loc, state uint8) {
	x.locs = append(x.locs, at)
	x.states = append(x.states, state)
	if x.keep {
		x.extras = append(x.extras, extra{})
	}
	x.count(state, 1)
}

// count counts n messages in that state.
func (x *index) count(state uint8, n int) {
	switch state & stateMask {
	case statePending, stateReleased:
		x.undone += n
	case stateDead:
		x.dead += n
	}
}

// next returns the position of the first Normal message at or after i that is not
// done.
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

// cut takes off the messages from off on.
func (x *index) cut(off int64) (tail index) {
	n := x.split(off)
	tail = index{first: x.first + uint64(n), keep: x.keep}
	tail.addFrom(x, n, 0)
	for _, s := range x.states[n:] {
		x.count(s, -1)
	}
	x.locs, x.states = x.locs[:n], x.states[:n]
	if x.keep {
		x.extras = x.extras[:n]
	}
	x.head = min(x.head, n)
	return tail
}

// addFrom adds the messages of y from position n on, whose places shift by that
// many bytes.
func (x *index) addFrom(y *index, n int, shift int64) {
	for i := n; i < len(y.locs); i++ {
		x.add(loc{off: uint32(int64(y.locs[i].off) + shift), size: y.locs[i].size}, y.states[i])
		if x.keep && y.keep {
			x.extras[len(x.extras)-1] = y.extras[i]
		}
	}
}

// ended is how many of its messages are done, those that were moved not counted.
func (x *index) ended() (n int) {
	for _, s := range x.states {
		if s&stateMask == stateDone {
			n++
		}
	}
	return n
}

// unrelease makes the released messages pending again.
func (x *index) unrelease() {
	for i, s := range x.states {
		if s&stateMask == stateReleased {
			x.states[i] = s&^stateMask | statePending
		}
	}
}
