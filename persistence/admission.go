package persistence

import (
	"errors"
	"math"
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// admission is the decision to accept a message. It lists the messages that are dropped to make
// room.
type admission struct {
	older    uint64   // an unsent message with the same key, which is dropped; 0 if no such message exists
	replaced uint64   // a message with the same key that may have been sent; 0 if no such message exists
	victims  []uint64 // the oldest messages, which are dropped
	limit    string   // the limit for which they are dropped
}

// errUncommitted is returned if the decision depends on messages that are not committed yet.
var errUncommitted = errors.New("messages are not committed yet")

// admit decides whether a message is accepted. It returns the errors of Enqueue, and
// errUncommitted.
func (s *state) admit(m *Message) (a admission, err error) {
	if int64(m.Stream) > int64(len(s.ledger.Streams)) {
		return a, ErrUnknownStream
	}
	if err := s.o.Limits.check(m); err != nil {
		return a, err
	}
	if most := s.o.Limits.share(m.Priority, s.room) / 4 * 3; s.room > 0 && int64(len(m.Packet)) > most {
		return a, &PacketTooLargeError{Size: int64(len(m.Packet)), Max: most, Limit: "MaxDiskBytes"}
	}
	messages, bytes, size := s.ledger.Pending, s.ledger.PendingBytes, int64(len(m.Packet))
	most := bytes
	drop := func(seq uint64) error {
		messages--
		bytes -= int64(s.catalog.Find(seq).Loc().Size)
		err := s.o.Limits.room(m.Priority, size, messages, bytes)
		if bytes+size <= most && s.o.Limits.room(Urgent, size, messages, bytes) == nil {
			return nil // the message replaces others, so it takes no more of the reserved part
		}
		return err
	}
	older := uint64(0)
	if m.Key != "" {
		older = s.ledger.Keys.Newest(m.Key)
	}
	switch {
	case older == 0:
		err = s.o.Limits.room(m.Priority, int64(len(m.Packet)), messages, bytes)
	case s.droppable(older):
		a.older, err = older, drop(older)
	default:
		a.replaced, err = older, s.o.Limits.room(m.Priority, int64(len(m.Packet)), messages, bytes)
	}
	switch {
	case err == nil:
	case s.o.Limits.WhenFull == DropNewest:
		s.stats.DroppedNewest++
	case s.o.Limits.WhenFull == DropOldest:
		if full := (*FullError)(nil); errors.As(err, &full) {
			a.limit = full.Limit
		}
		a.victims, err = s.chooseVictims(s.o.Limits.droppedFor(m.Priority), a.older, drop, err)
	}
	return a, err
}

// chooseVictims chooses messages to drop. It begins with the lowest priority and ends with the
// priority that most names. Within a priority, it chooses the oldest messages first. For each
// chosen message it calls drop, and it stops when drop returns nil. It returns the error in full if
// it runs out of messages before that.
func (s *state) chooseVictims(most Priority, older uint64, drop func(seq uint64) error, full error) (victims []uint64, err error) {
	for p := Normal; p <= most; p++ {
		seq, passed := s.victim(p, s.victims[p])
		s.victims[p] = passed
		for ; seq != 0; seq, _ = s.victim(p, seq) {
			if seq == older {
				continue
			}
			victims = append(victims, seq)
			if drop(seq) == nil {
				return victims, nil
			}
		}
		if s.catalog.Uncommitted(uint8(p)) { // these must be dropped before messages of a higher priority
			return nil, errUncommitted
		}
	}
	return nil, full
}

// maxMoved is how many bytes of remaining messages the log moves to free one byte.
const maxMoved = 16

// dropSegments drops messages whose priority is at most highest, the oldest first, until whole
// segments can be removed. The removal frees at least need bytes, and at least one byte for each
// maxMoved bytes that must be moved out of these segments. dropSegments returns the number of the
// last such segment, and the number of bytes that its removal frees. It returns 0 and drops nothing if dropping
// messages does not free enough.
func (s *state) dropSegments(b *batch, highest Priority, need int64, t *Ticket) (last uint64, freed int64) {
	kept, before := int64(0), len(b.buf)
	var victims []uint64
	segments := s.catalog.Segments
	for _, seg := range segments[:len(segments)-1] {
		left := int64(0)
		seqs, _, _ := s.catalog.Keepers(seg, 0, math.MaxInt64)
		for _, seq := range seqs {
			if m := s.catalog.Find(seq); m.Priority() <= uint8(highest) && s.droppable(seq) {
				victims = append(victims, seq)
			} else {
				left += int64(m.Loc().Size) + record.Overhead
			}
		}
		freed, kept = freed+max(seg.Size-left, 0), kept+left
		if len(victims) > 0 && freed >= max(need, 1) && kept <= maxMoved*freed {
			last = seg.Number
			break
		}
	}
	if last == 0 {
		return 0, 0
	}
	for _, seq := range victims {
		s.stats.DroppedOldest++
		s.drop(b, t, seq, DroppedOldest)
	}
	return last, freed - int64(len(b.buf)-before)
}

// anyDroppable reports whether the active segment contains a droppable message whose priority is at
// most highest.
func (s *state) anyDroppable(highest Priority) bool {
	seqs, _, _ := s.catalog.Keepers(s.catalog.Active(), 0, math.MaxInt64)
	return slices.ContainsFunc(seqs, func(seq uint64) bool {
		return s.catalog.Find(seq).Priority() <= uint8(highest) && s.droppable(seq)
	})
}

// victim returns the oldest droppable message of priority p whose sequence is higher than after. It
// returns 0 if no such message exists. A message is droppable only if its sequence is higher than
// passed.
func (s *state) victim(p Priority, after uint64) (seq, passed uint64) {
	if p == Normal {
		after = max(after, s.ledger.Sent[Normal])
	}
	for {
		seq = s.catalog.NextOf(uint8(p), after)
		if seq == 0 || s.droppable(seq) {
			return seq, after
		}
		after = seq
	}
}

// droppable reports whether a message is pending and was certainly not sent.
func (s *state) droppable(seq uint64) bool {
	m := s.catalog.Find(seq)
	if m.Is(index.Deferred) {
		return s.ledger.Deferrals.Get(seq).PacketID == 0
	}
	return m.Is(index.Pending) && s.catalog.Number(m.Priority(), seq) > s.ledger.Sent[m.Priority()]
}
