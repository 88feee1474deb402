package persistence

import (
	"errors"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
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
		return s.o.Limits.room(int64(len(m.Packet)), messages, bytes)
	}
	if older := s.ledger.Keys.Newest(m.Key); m.Key != "" && older != 0 && s.droppable(older) {
		a.older, err = older, drop(older)
	} else {
		err = s.o.Limits.room(int64(len(m.Packet)), messages, bytes)
	}
	switch {
	case err == nil:
	case s.o.Limits.WhenFull == DropNewest:
		s.stats.DroppedNewest++
	case s.o.Limits.WhenFull == DropOldest:
		a.victims, err = s.chooseVictims(m.Priority, a.older, drop, err)
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
