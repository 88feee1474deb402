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
	totals       [Dropped + 1]uint64
	lost         uint64 // of totals[Dropped]
	session      bool   // ResetSession was recorded: a session was begun under this store
	pending      int
	pendingBytes int64
	streams      []stream // stream i has the ID i+1
	streamID     map[string]uint32
	seen         idSet
}

type stream struct {
	name string
	last uint64
}

// The state of a message; one byte each.
const (
	statePending  = 0
	stateReleased = 1
	stateDone     = 2
)

// admit says whether the message may be enqueued.
func (g *ledger) admit(o *Options, m *Message) error {
	size := int64(len(m.Packet))
	switch {
	case size > int64(o.MaxPacket):
		return &PacketTooLargeError{Size: size, Max: int64(o.MaxPacket), Limit: "MaxPacket"}
	case size > o.MaxBytes:
		return &PacketTooLargeError{Size: size, Max: o.MaxBytes, Limit: "MaxBytes"}
	case int64(m.Stream) > int64(len(g.streams)):
		return ErrUnknownStream
	case g.pending >= o.MaxMessages:
		return &FullError{Limit: "MaxMessages", Max: int64(o.MaxMessages)}
	case g.pendingBytes+size > o.MaxBytes:
		return &FullError{Limit: "MaxBytes", Max: o.MaxBytes}
	}
	return nil
}

// accept counts the message and returns its sequence.
func (g *ledger) accept(m *Message) uint64 {
	seq := g.next
	g.next++
	g.pending++
	g.pendingBytes += int64(len(m.Packet))
	if m.Stream != 0 {
		s := &g.streams[m.Stream-1]
		s.last = max(s.last, m.StreamSeq)
	}
	return seq
}

// settle moves one message of that size from pending to its total.
func (g *ledger) settle(kind OutcomeKind, size int) {
	g.totals[kind]++
	g.pending--
	g.pendingBytes -= int64(size)
}

// checkDone says whether Done's arguments make sense.
func (g *ledger) checkDone(seq uint64, o Outcome) error {
	if o.Kind < Acked || o.Kind > Dropped {
		return ErrNoOutcome
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
func (g *ledger) stream(o *Options, name string) (id uint32, last uint64, added bool, err error) {
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
	return Stats{
		Accepted:     g.next - 1,
		Acked:        g.totals[Acked],
		Refused:      g.totals[Refused],
		Expired:      g.totals[Expired],
		Dropped:      g.totals[Dropped],
		Lost:         g.lost,
		Pending:      uint64(g.pending),
		PendingBytes: g.pendingBytes,
	}
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
func (m *Message) times() (accepted, expires int64) {
	if accepted = toMillis(m.Accepted); accepted == never {
		accepted = time.Now().UnixMilli()
	}
	return accepted, toMillis(m.Expires)
}
