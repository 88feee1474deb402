package persistence

import (
	"errors"
	"io/fs"
	"time"
)

// StoredMessage is a message as a segment holds it.
type StoredMessage struct {
	Entry
	Result Result    // Kind 0: it is pending
	Ended  time.Time // when it got its outcome; zero: that was not noted
	Dead   bool      // it is a dead letter that is kept

	Key       string
	Stream    string // the name of its sequence; empty: none
	StreamSeq uint64

	Segment uint64 // the number of the segment with its record
	// Offset and Length are where its record is in there, in bytes. Offset 0: the
	// record is damaged, and of the message only sequence and outcome are known.
	Offset, Length int64
	Moved          bool // the record was written again, to a newer segment
}

// Which says which messages to go through; combine them with |.
type Which uint8

// The kinds of messages.
const (
	PendingMessages    Which = 1 << iota // without an outcome, not released
	ReleasedMessages                     // without an outcome; the server has taken them over (PUBREC)
	DeadLetterMessages                   // dead letters that are kept
	DoneMessages                         // with an outcome, as far as segments still hold them
	AllMessages        = PendingMessages | ReleasedMessages | DeadLetterMessages | DoneMessages
)

func (w Which) has(state uint8) bool {
	switch state {
	case statePending:
		return w&PendingMessages != 0
	case stateReleased:
		return w&ReleasedMessages != 0
	case stateDead:
		return w&DeadLetterMessages != 0
	case stateDone:
		return w&DoneMessages != 0
	}
	return false // lost, or found where it was moved to
}

// Messages calls yield for each message of the kinds asked for, by ascending
// sequence, until it returns false. What yield gets is used again for the next
// one, its packet too. Records are read one by one, so memory does not grow with
// their number. Errors: *[ReadError], [ErrClosed].
func (in *Inspection) Messages(which Which, yield func(*StoredMessage) bool) error {
	// What was moved lies elsewhere; each has its own reading ahead.
	var m StoredMessage
	straight, aside := in.reader(), in.reader()
	var err error
	in.walk(func(seq uint64, r ref, s *segment) bool {
		if !which.has(r.state()) {
			return true
		}
		from := &straight
		if r.m != nil {
			from = &aside
		}
		if err = in.fill(&m, seq, r, s, from); err != nil {
			return false
		}
		return yield(&m)
	})
	return err
}

// Message fills m with the message that has this sequence, whatever became of it,
// if a segment still holds it. Errors: as Messages.
func (in *Inspection) Message(seq uint64, m *StoredMessage) (bool, error) {
	r := in.find(seq)
	if !r.ok() || !AllMessages.has(r.state()) {
		return false, nil
	}
	from := in.reader()
	err := in.fill(m, seq, r, in.holder(seq, r), &from)
	return err == nil, err
}

func (in *Inspection) reader() reader {
	return reader{fs: in.files, dir: in.Dir, window: window{chunk: 256 << 10}}
}

// walk calls yield for each message there is a place for, by ascending sequence,
// until it returns false. s holds its record.
func (in *Inspection) walk(yield func(seq uint64, r ref, s *segment) bool) {
	moved := in.moved
	// before hands out what was moved and comes before seq.
	before := func(seq uint64) bool {
		for ; len(moved) > 0 && moved[0].seq < seq; moved = moved[1:] {
			if m := &moved[0]; m.seg != nil && !yield(m.seq, ref{x: &m.seg.index, m: m}, m.seg) {
				return false
			}
		}
		return true
	}
	for _, s := range in.segments {
		for i := range s.locs {
			seq := s.first + uint64(i)
			if !before(seq) {
				return
			}
			if s.states[i]&stateMask == stateMoved {
				continue
			}
			if !yield(seq, ref{x: &s.index, i: i}, s) {
				return
			}
			if len(moved) > 0 && moved[0].seq == seq {
				moved = moved[1:] // as catalog.find has it
			}
		}
	}
	before(maxSequence + 1)
}

// fill reads the message's record.
func (in *Inspection) fill(m *StoredMessage, seq uint64, r ref, s *segment, from *reader) error {
	packet := m.Packet[:0]
	*m = StoredMessage{Segment: s.number, Dead: r.state() == stateDead, Moved: r.m != nil}
	m.Seq, m.Packet = seq, packet
	e := r.extra()
	m.Result = e.outcome
	if e.at > 0 {
		m.Ended = fromMillis(e.at)
	}
	if r.loc().off == 0 {
		return nil // a done record without its message
	}
	b, err := from.record(s.number, int64(r.loc().off), s.size)
	var rec record
	if err == nil {
		err = rec.decode(b)
	}
	if err == nil && rec.seq != seq {
		err = errRecord
	}
	if err == nil {
		err = m.Entry.fill(b, r.state())
	}
	if errors.Is(err, fs.ErrClosed) {
		return ErrClosed
	}
	if err != nil {
		return &ReadError{Seq: seq, Err: err}
	}
	m.Offset, m.Length = int64(r.loc().off), int64(rec.size)
	m.Key, m.StreamSeq = string(rec.message.key), rec.message.streamSeq
	if rec.stream > 0 && int(rec.stream) <= len(in.streams) {
		m.Stream = in.streams[rec.stream-1].name
	}
	return nil
}
