package persistence

import (
	"math/bits"
	"time"
)

// ledger is the small state that Log and Memory have in common, and the rules
// on it: the next sequence, the totals, the streams and the identifiers seen.
// A checkpoint is an image of it. Its owner's mutex guards it.
type ledger struct {
	epoch, boot  uint64
	next         uint64 // sequence of the next message
	totals       [DeadLettered + 1]uint64
	lost         uint64 // of totals[Dropped]
	session      bool   // ResetSession was recorded: a session was begun under this store
	owner        string // the ClientID of that session; empty: unknown
	pending      int
	pendingOf    [Priorities]int
	pendingBytes int64
	graves       graves
	deadBytes    int64              // the packets of the graves
	numbers      [Priorities]uint64 // the last Number given out; not for Normal
	sent         [Priorities]uint64 // the sent watermarks
	releases     releases
	keys         conflation
	clock        clock
	latest       int64    // the latest time that an earlier opening noted
	streams      []stream // stream i has the ID i+1
	streamID     map[string]uint32
	seen         idSet
}

type stream struct {
	name string
	last uint64
}

// The state of a message; one byte each, with the priority above levelShift. A
// Normal message that is not done is a byte below stateDone.
const (
	statePending  = 0
	stateReleased = 1
	stateDone     = 2
	stateLost     = 3 // its record was not found when the log was opened
	stateMoved    = 4 // its record is in a newer segment
	stateDead     = 5 // a dead letter that is kept

	stateMask  = 7
	levelShift = 3
)

// discarded is the outcome, on disk only, of a dead letter that was given up.
const discarded = DeadLettered + 1

// leaving is what goes when a message comes.
type leaving struct {
	messages int
	bytes    int64
}

// admit returns an error if the message must not be enqueued.
func (g *ledger) admit(o *Limits, m *Message, goes leaving) error {
	if int64(m.Stream) > int64(len(g.streams)) {
		return ErrUnknownStream
	}
	if err := o.check(m); err != nil {
		return err
	}
	return g.room(o, int64(len(m.Packet)), goes)
}

func (g *ledger) room(o *Limits, size int64, goes leaving) error {
	return o.room(size, g.pending-goes.messages, g.pendingBytes-goes.bytes)
}

// accept counts the message and returns its sequence and its Number.
func (g *ledger) accept(m *Message) (seq, number uint64) {
	seq, number = g.next, g.next
	g.next++
	g.pend(m.Priority, len(m.Packet))
	if m.Priority != Normal {
		g.numbers[m.Priority]++
		number = g.numbers[m.Priority]
	}
	if m.Stream != 0 {
		s := &g.streams[m.Stream-1]
		s.last = max(s.last, m.StreamSeq)
	}
	return seq, number
}

// pend counts one more message that is not done.
func (g *ledger) pend(p Priority, size int) {
	g.pending++
	g.pendingOf[p]++
	g.pendingBytes += int64(size)
}

// settle moves one message of that size from pending to its total.
func (g *ledger) settle(p Priority, kind ResultKind, size int) {
	g.totals[kind]++
	g.pending--
	g.pendingOf[p]--
	g.pendingBytes -= int64(size)
}

func (g *ledger) bury(seq uint64, size int, reason byte) {
	g.graves.add(seq, reason)
	g.deadBytes += int64(size)
}

func (g *ledger) unbury(seq uint64, size int) {
	g.graves.remove(seq)
	g.deadBytes -= int64(size)
}

// live is how many bytes a log without anything done would have.
func (g *ledger) live() int64 {
	return g.pendingBytes + g.deadBytes + int64(g.pending+len(g.graves))*recordOverhead
}

// checkDone says whether Done's arguments make sense.
func (g *ledger) checkDone(seq uint64, o Result) error {
	if o.Kind < Acked || o.Kind > DeadLettered {
		return ErrUnknownResult
	}
	return g.checkSeq(seq)
}

func (g *ledger) checkSeq(seq uint64) error {
	if seq == 0 || seq >= g.next {
		return ErrUnknownSequence
	}
	return nil
}

// stream finds or registers a name; added says which.
func (g *ledger) stream(o *Limits, name string) (id uint32, last uint64, added bool, err error) {
	if id, ok := g.streamID[name]; ok {
		return id, g.streams[id-1].last, false, nil
	}
	if name == "" || len(name) > maxStreamName {
		return 0, 0, false, ErrStreamName
	}
	if len(g.streams) >= o.MaxStreams {
		return 0, 0, false, &FullError{Limit: "MaxStreams", Max: int64(o.MaxStreams)}
	}
	return g.addStream(name, 0), 0, true, nil
}

func (g *ledger) addStream(name string, last uint64) uint32 {
	if g.streamID == nil {
		g.streamID = make(map[string]uint32)
	}
	g.streams = append(g.streams, stream{name, last})
	id := uint32(len(g.streams))
	g.streamID[name] = id
	return id
}

func (g *ledger) stats() Stats {
	s := Stats{
		DeadLettered: g.totals[DeadLettered],
		DeadLetters:  uint64(len(g.graves)),
		Accepted:     g.next - 1,
		Acked:        g.totals[Acked],
		Refused:      g.totals[Refused],
		Expired:      g.totals[Expired],
		Dropped:      g.totals[Dropped],
		Lost:         g.lost,
		Pending:      uint64(g.pending),
		PendingBytes: g.pendingBytes,
	}
	for p, n := range g.pendingOf {
		s.PendingOf[p] = uint64(n)
	}
	return s
}

// idSet is a set of packet identifiers.
type idSet struct {
	bits  []uint64 // 8 KiB, from the first add on
	count int
}

// add reports whether id is new.
func (s *idSet) add(id uint16) bool {
	if s.bits == nil {
		s.bits = make([]uint64, 1<<16/64)
	}
	if s.bits[id/64]&(1<<(id%64)) != 0 {
		return false
	}
	s.bits[id/64] |= 1 << (id % 64)
	s.count++
	return true
}

// remove reports whether id was there.
func (s *idSet) remove(id uint16) bool {
	if s.count == 0 || s.bits[id/64]&(1<<(id%64)) == 0 {
		return false
	}
	s.bits[id/64] &^= 1 << (id % 64)
	s.count--
	return true
}

func (s *idSet) clear() {
	clear(s.bits)
	s.count = 0
}

// list returns the members, ascending.
func (s *idSet) list() []uint16 {
	ids := make([]uint16, 0, s.count)
	if s.count == 0 {
		return ids
	}
	for i, w := range s.bits {
		for ; w != 0; w &= w - 1 {
			ids = append(ids, uint16(i*64+bits.TrailingZeros64(w)))
		}
	}
	return ids
}

// The store keeps times as Unix milliseconds, within 18 million years, and
// "never" apart from any time.
const (
	never     = -1 << 63
	maxMillis = 1 << 59
)

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	const maxSeconds = maxMillis / 1000
	if s := t.Unix(); s < -maxSeconds || s > maxSeconds {
		return max(-maxSeconds, min(maxSeconds, s)) * 1000
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == never {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// times returns when the message was accepted and when it expires.
func (m *Message) times(o *Limits, c *clock) (accepted, expires int64) {
	if accepted = toMillis(m.Accepted); accepted == never {
		accepted = c.now()
	}
	expires = toMillis(m.Expires)
	if o.MaxAge > 0 {
		if most := min(accepted+o.MaxAge.Milliseconds(), maxMillis); expires == never || expires > most {
			expires = most
		}
	}
	return accepted, expires
}
