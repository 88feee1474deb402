// Package index keeps the location and the state of each message. It is in memory only. The caller
// guards it with a lock.
package index

import (
	"sort"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// The states of a message.
const (
	Pending  = 0
	Released = 1
	Done     = 2
	Lost     = 3 // its record was not found at the opening
	moved    = 4 // its record is in a newer segment
	Dead     = 5 // a dead letter
	Deferred = 6 // alive, but Next does not return it; a deferred message stays deferred
	// DeferredReleased is the state of a message that is both deferred and released.
	DeferredReleased = 7

	stateMask  = 7
	levelShift = 3 // shift of the priority, which is stored above the state
)

// Loc is the offset of the record of a message, and the size of its packet.
type Loc struct{ Off, Size uint32 }

// Extra is kept for each message if receipts are enabled.
type Extra struct {
	Result record.Result
	At     int64 // time of the result, in Unix milliseconds
}

// Print returns a 16-bit fingerprint of a message ID. It is used to find messages by ID. About one
// in 65,536 messages has the same fingerprint as a given message.
func Print(id *[16]byte) uint16 { return uint16(record.CRC(id[:])) }

// Index contains the messages of one segment or batch. Sequences have no gaps, so a message is found
// by its position.
type Index struct {
	First   uint64 // sequence of the first message
	Keep    bool   // each message has an Extra
	Alive   int    // messages that are alive, including those moved here
	Dead    int    // dead letters, including those moved here
	Emptied uint64 // the last commit that ended a message of the index, or moved it away
	Locs    []Loc
	states  []uint8
	prints  []uint16
	extras  []Extra
	head    int // no Normal message before this position is alive
}

// End returns the sequence after the last message.
func (x *Index) End() uint64         { return x.First + uint64(len(x.Locs)) }
func (x *Index) has(seq uint64) bool { return seq >= x.First && seq < x.End() }

// Add adds the next message, which is pending.
func (x *Index) Add(at Loc, priority uint8, print uint16) {
	x.add(at, priority<<levelShift|Pending, print, Extra{})
}

// AddLost adds lost messages up to, but not including, the sequence end.
func (x *Index) AddLost(end uint64) {
	for x.End() < end {
		x.add(Loc{}, Lost, 0, Extra{})
	}
}

func (x *Index) add(at Loc, state uint8, print uint16, e Extra) {
	x.Locs, x.states, x.prints = append(x.Locs, at), append(x.states, state), append(x.prints, print)
	if x.Keep {
		x.extras = append(x.extras, e)
	}
	x.count(state, 1)
}

// count adds n to the counter for a state.
func (x *Index) count(state uint8, n int) {
	switch state & stateMask {
	case Pending, Released, Deferred, DeferredReleased:
		x.Alive += n
	case Dead:
		x.Dead += n
	}
}

// next returns the position of the first Normal message from position i on that is alive.
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

// Split returns the position of the first message whose record is at or after off. No message from
// that position on may be lost.
func (x *Index) Split(off int64) int {
	return sort.Search(len(x.Locs), func(i int) bool { return int64(x.Locs[i].Off) >= off })
}

// Cut removes the messages whose records begin at off or later, and returns these messages.
func (x *Index) Cut(off int64) (tail Index) {
	n := x.Split(off)
	rest := Index{Keep: x.Keep, Locs: x.Locs[n:], states: x.states[n:], prints: x.prints[n:]}
	x.Locs, x.states, x.prints, x.head = x.Locs[:n], x.states[:n], x.prints[:n], min(x.head, n)
	if x.Keep {
		x.extras, rest.extras = x.extras[:n], x.extras[n:]
	}
	for _, s := range rest.states {
		x.count(s, -1)
	}
	tail = Index{First: x.End(), Keep: x.Keep}
	tail.AddAll(&rest, 0)
	return tail
}

// AddAll adds the messages of y, and shifts their offsets by this many bytes.
func (x *Index) AddAll(y *Index, shift int64) {
	var e Extra
	for i, at := range y.Locs {
		if y.Keep {
			e = y.extras[i]
		}
		x.add(Loc{Off: uint32(int64(at.Off) + shift), Size: at.Size}, y.states[i], y.prints[i], e)
	}
}

// Ended returns the number of messages that have ended. It does not count messages that were moved
// away.
func (x *Index) Ended() (n int) {
	for _, s := range x.states {
		if s&stateMask == Done {
			n++
		}
	}
	return n
}

// unrelease removes the released state from all messages.
func (x *Index) unrelease() {
	for i, s := range x.states {
		if to := unreleased(s); to != s { // states of ended messages are read without the lock: do not write them
			x.states[i] = to
		}
	}
}

func unreleased(state uint8) uint8 {
	switch state & stateMask {
	case Released:
		return state&^stateMask | Pending
	case DeferredReleased:
		return state&^stateMask | Deferred
	}
	return state
}

// alive reports whether a message in this state has no result.
func alive(state uint8) bool {
	state &= stateMask
	return state < Done || state >= Deferred
}

// Ref refers to a message. It is valid until the catalog changes. The zero value refers to no
// message.
type Ref struct {
	Segment *Segment // contains the record; nil: the message is not committed
	Moved   bool     // the record was written again

	x     *Index // counts the message
	loc   *Loc
	state *uint8 // with the priority
	print *uint16
	extra *Extra // nil: receipts are disabled
}

func (x *Index) ref(i int, s *Segment) Ref {
	r := Ref{Segment: s, x: x, loc: &x.Locs[i], state: &x.states[i], print: &x.prints[i]}
	if x.Keep {
		r.extra = &x.extras[i]
	}
	return r
}

func (r Ref) OK() bool        { return r.x != nil }                 // the message exists
func (r Ref) Alive() bool     { return r.OK() && alive(*r.state) }  // it has no result
func (r Ref) InOrder() bool   { return r.OK() && r.State() < Done } // it is alive and not deferred
func (r Ref) Deferred() bool  { return r.OK() && r.State() >= Deferred }
func (r Ref) Released() bool  { return r.Is(Released) || r.Is(DeferredReleased) }
func (r Ref) State() uint8    { return *r.state & stateMask }
func (r Ref) Is(s uint8) bool { return r.OK() && r.State() == s } // it exists and is in this state
func (r Ref) Priority() uint8 { return *r.state >> levelShift }
func (r Ref) Loc() Loc        { return *r.loc }
func (r Ref) Extra() *Extra   { return r.extra } // nil: receipts are disabled

// Set sets the state.
func (r Ref) Set(state uint8) {
	r.x.count(*r.state, -1)
	*r.state = *r.state&^stateMask | state
	r.x.count(state, 1)
}

// SetPrint sets the fingerprint of the message ID.
func (r Ref) SetPrint(print uint16) { *r.print = print }

// SetResult sets the result if receipts are enabled.
func (r Ref) SetResult(res record.Result, at int64) {
	if r.extra != nil {
		r.extra.Result, r.extra.At = res, at
	}
}

// EndedIn records the number of the commit that ends the message or moves it away.
func (r Ref) EndedIn(commit uint64) { r.x.Emptied = max(r.x.Emptied, commit) }
