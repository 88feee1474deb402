package persistence

import (
	"errors"
	"math"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// admission is the decision to accept a message: which messages are dropped for it.
type admission struct {
	older   uint64   // a message with the same key; 0: none
	victims []uint64 // the oldest messages
}

// errUncommitted is returned if the decision depends on a commit that is to be made.
var errUncommitted = errors.New("messages are not committed yet")

// admit decides whether a message is accepted. Errors: of Enqueue, errUncommitted.
func (s *state) admit(m *Message) (a admission, err error) {
	if int64(m.Stream) > int64(len(s.ledger.Streams)) {
		return a, ErrUnknownStream
	}
	if err := s.o.Limits.check(m); err != nil {
		return a, err
	}
	messages, bytes := s.ledger.Pending, s.ledger.PendingBytes
	drop := func(seq uint64) error {
		messages--
		bytes -= int64(s.catalog.Find(seq).Loc().Size)
		return s.o.Limits.room(m.Priority, int64(len(m.Packet)), messages, bytes)
	}
	if older := s.ledger.Keys.Newest(m.Key); m.Key != "" && older != 0 && s.droppable(older) {
		a.older, err = older, drop(older)
	} else {
		err = s.o.Limits.room(m.Priority, int64(len(m.Packet)), messages, bytes)
	}
	switch {
	case err == nil:
	case s.o.Limits.WhenFull == DropNewest:
		s.stats.DroppedNewest++
	case s.o.Limits.WhenFull == DropOldest:
		a.victims, err = s.chooseVictims(s.o.Limits.droppedFor(m.Priority), a.older, drop, err)
	}
	return a, err
}

// chooseVictims chooses the oldest messages of the lowest priority, up to one, until
// drop returns nil. It returns full if there are not enough.
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
		if s.catalog.Uncommitted(uint8(p)) { // they are dropped before any of a higher priority
			return nil, errUncommitted
		}
	}
	return nil, full
}

// dropSegments drops messages up to a priority, the oldest first, until about as many bytes as a segment
// has are free. It returns the last segment that is to be emptied for that; 0: that would free too little.
func (s *state) dropSegments(b *batch, most Priority, t *Ticket) (last uint64) {
	segments, size, kept := s.catalog.Segments, int64(0), int64(0)
	for _, seg := range segments[:len(segments)-1] {
		if size-kept >= s.o.Files.SegmentBytes {
			break
		}
		size, last = size+seg.Size, seg.Number
		seqs, _, _ := s.catalog.Keepers(seg, 0, math.MaxInt64)
		for _, seq := range seqs {
			if m := s.catalog.Find(seq); m.Priority() > uint8(most) || !s.droppable(seq) {
				kept += int64(m.Loc().Size) + record.Overhead
				continue
			}
			s.stats.DroppedOldest++
			s.drop(b, t, seq, DroppedOldest)
		}
	}
	if 2*kept > size { // nothing that is worth moving the rest
		return 0
	}
	return last
}

// victim returns the oldest message of a priority after a sequence that can be
// dropped, or 0, and up to where no message can.
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
