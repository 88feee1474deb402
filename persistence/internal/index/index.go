// Package index knows where the records of the messages are, and the state of each
// message. It is in memory only, and its caller guards it with a lock.
package index

import (
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// The states of a message. A message is alive if its state is below Done.
const (
	Pending  = 0
	Released = 1
	Done     = 2
	Lost     = 3 // its record was not found at opening
	moved    = 4 // its record is in a newer segment
	Dead     = 5 // a dead letter

	stateMask  = 7
	levelShift = 3 // the priority is above the state
)

// Loc is the offset of a message's record and the size of its packet.
type Loc struct{ Off, Size uint32 }

// Extra is kept for each message if receipts are wanted.
type Extra struct {
	Print  uint32 // of the message ID: see Print
	Result record.Result
	At     int64 // of the result, in Unix milliseconds
}

// Print returns a fingerprint of a message ID.
func Print(id *[16]byte) uint32 { return record.CRC(id[:]) }

// Index has the messages of one file or commit, nine bytes each. Sequences are
// dense, so a position is an array index.
type Index struct {
	First   uint64 // sequence of the first message
	Keep    bool   // each message has an Extra
	Alive   int    // messages that are alive, those moved here included
	Dead    int    // dead letters, those moved here included
	Emptied uint64 // the last commit that ends one of them, or moves it away

	locs   []Loc
	states []uint8
	extras []Extra
	head   int // no Normal message before it is alive
}

// End returns the sequence after the last message.
func (x *Index) End() uint64 { return x.First + uint64(len(x.locs)) }

// Len returns the number of messages.
func (x *Index) Len() int { return len(x.locs) }

// Add adds the next message, which is pending, and its fingerprint.
func (x *Index) Add(at Loc, priority uint8, print uint32) {
	x.add(at, priority<<levelShift|Pending)
	if x.Keep {
		x.extras[len(x.extras)-1].Print = print
	}
}

// AddLost adds lost messages up to a sequence, without it.
func (x *Index) AddLost(end uint64) {
	for x.End() < end {
		x.add(Loc{}, Lost)
	}
}

func (x *Index) add(at Loc, state uint8) {
	x.locs = append(x.locs, at)
	x.states = append(x.states, state)
	if x.Keep {
		x.extras = append(x.extras, Extra{})
	}
	x.count(state, 1)
}

// count counts n messages in this state.
func (x *Index) count(state uint8, n int) {
	switch state & stateMask {
	case Pending, Released:
		x.Alive += n
	case Dead:
		x.Dead += n
	}
}

// next returns the position of the first Normal message at or after i that is
// alive.
func (x *Index) next(i int) (int, bool) {
	if x.Alive == 0 {
		return 0, false
	}
	fromHead := i <= x.head
	i = max(i, x.head)
	for i < len(x.states) && x.states[i] >= Done { // the priority of a Normal message is 0
		i++
	}
	if fromHead {
		x.head = i
	}
	return i, i < len(x.states)
}

// Split returns the sequence of the first message whose record is at or after off.
// No message may be lost from there on.
func (x *Index) Split(off int64) uint64 { return x.First + uint64(x.split(off)) }

func (x *Index) split(off int64) int {
	n := len(x.locs)
	for n > 0 && int64(x.locs[n-1].Off) >= off {
		n--
	}
	return n
}

// Cut takes away the messages from off on.
func (x *Index) Cut(off int64) (tail Index) {
	n := x.split(off)
	tail = Index{First: x.First + uint64(n), Keep: x.Keep}
	tail.addFrom(x, n, 0)
	for _, s := range x.states[n:] {
		x.count(s, -1)
	}
	x.locs, x.states = x.locs[:n], x.states[:n]
	if x.Keep {
		x.extras = x.extras[:n]
	}
	x.head = min(x.head, n)
	return tail
}

// AddAll adds the messages of y, whose places shift by this many bytes.
func (x *Index) AddAll(y *Index, shift int64) { x.addFrom(y, 0, shift) }

func (x *Index) addFrom(y *Index, n int, shift int64) {
	for i := n; i < len(y.locs); i++ {
		x.add(Loc{Off: uint32(int64(y.locs[i].Off) + shift), Size: y.locs[i].Size}, y.states[i])
		if x.Keep && y.Keep {
			x.extras[len(x.extras)-1] = y.extras[i]
		}
	}
}

// Relocate sets the place of message number i, and returns the old one.
func (x *Index) Relocate(i int, off uint32) { x.locs[i].Off = off }

// Loc returns the place of message number i.
func (x *Index) Loc(i int) Loc { return x.locs[i] }

// Contiguous reports whether no message is lost.
func (x *Index) Contiguous() bool {
	return !slices.ContainsFunc(x.locs, func(at Loc) bool { return at.Off == 0 })
}

// Ended returns the number of messages that have ended, without those that were
// moved away.
func (x *Index) Ended() (n int) {
	for _, s := range x.states {
		if s&stateMask == Done {
			n++
		}
	}
	return n
}

// unrelease makes the released messages pending again.
func (x *Index) unrelease() {
	for i, s := range x.states {
		if s&stateMask == Released {
			x.states[i] = s&^stateMask | Pending
		}
	}
}

// reset empties the index and keeps its memory.
func (x *Index) reset(first uint64) {
	x.First, x.Alive, x.Dead, x.Emptied, x.head = first, 0, 0, 0, 0
	x.locs, x.states, x.extras = x.locs[:0], x.states[:0], x.extras[:0]
}
