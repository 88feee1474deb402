package inspect

import (
	"errors"
	"io/fs"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Message describes a message in a segment.
type Message struct {
	persistence.Entry
	Result     persistence.Result // the result; Kind is 0 while the message is pending
	Ended      time.Time          // time of the result; zero if unknown
	DeadLetter bool               // the log keeps the message as a dead letter
	Key        string
	Stream     string // name of the named sequence; empty if the message is in no sequence
	StreamSeq  uint64

	Segment uint64 // number of the segment that contains the record of the message
	// Offset and Length are the position and the size of the record in the segment, in bytes. If
	// Offset is 0, the record is damaged, and only the sequence and the result are known.
	Offset, Length int64
	Moved          bool // compaction has moved the record to a newer segment
}

// Filter selects messages by their state. Combine the constants with |.
type Filter uint8

// The states that a Filter can select.
const (
	// Pending selects messages that have no result and are not released. It includes deferred
	// messages.
	Pending Filter = 1 << iota
	// Released selects messages that have no result, and for which the server has sent PUBREC.
	Released
	DeadLetters // messages that are kept as dead letters
	// Done selects messages that have a result, if a segment still contains them.
	Done
	All = Pending | Released | DeadLetters | Done
)

// has reports whether the filter selects a state. No filter selects lost messages.
func (f Filter) has(state uint8) bool {
	return f&[...]Filter{
		index.Pending: Pending, index.Released: Released, index.Done: Done, index.Dead: DeadLetters,
		index.Deferred: Pending, index.DeferredReleased: Released,
	}[state] != 0
}

// Messages calls yield for each message that the filter selects, by ascending sequence, until yield
// returns false. The Message and its packet are only valid during the call of yield. The memory use
// does not depend on the number of messages.
//
// Messages returns [persistence.ErrClosed] or a *persistence.ReadError. If the ReadError matches
// [fs.ErrNotExist], the process that uses the log has removed a segment since Open. Open the folder
// again.
func (f *Folder) Messages(filter Filter, yield func(*Message) bool) error {
	var m Message
	// Moved records are in other places of the log, so they have a separate reader with its own
	// read-ahead.
	straight, aside := f.reader(), f.reader()
	for seq, r := range f.catalog.All {
		if !filter.has(r.State()) {
			continue
		}
		from := straight
		if r.Moved {
			from = aside
		}
		if err := f.fill(&m, seq, r, from); err != nil {
			return err
		}
		if !yield(&m) {
			return nil
		}
	}
	return nil
}

// Message sets m to the message with this sequence, in any state. It returns false if no segment
// contains the message any more. It returns the same errors as Messages.
func (f *Folder) Message(seq uint64, m *Message) (bool, error) {
	catalog := f.catalog // a copy, because Committed changes it
	r := catalog.Committed(seq)
	if !r.OK() || !All.has(r.State()) {
		return false, nil
	}
	err := f.fill(m, seq, r, f.reader())
	return err == nil, err
}

func (f *Folder) reader() *segment.Reader { return segment.NewReader(f.files, f.Dir, 256<<10) }

// fill reads the record of a message.
func (f *Folder) fill(m *Message, seq uint64, r index.Ref, from *segment.Reader) error {
	s, packet, e := r.Segment, m.Packet[:0], r.Extra()
	*m = Message{Segment: s.Number, DeadLetter: r.State() == index.Dead, Moved: r.Moved, Result: result(e.Result)}
	m.Seq, m.Packet = seq, packet
	if e.At > 0 {
		m.Ended = record.Time(e.At)
	}
	off := int64(r.Loc().Off)
	if off == 0 {
		return nil // only the record of the result is left
	}
	var rec record.Record
	err := from.Message(&rec, s.Number, seq, off, s.Size)
	if errors.Is(err, fs.ErrClosed) {
		return persistence.ErrClosed
	}
	if err != nil {
		return &persistence.ReadError{Seq: seq, Err: err}
	}
	m.Number, m.Priority, m.ID = rec.Number, persistence.Priority(rec.Priority), rec.MessageID
	m.Accepted, m.Expires = record.Time(rec.Accepted), record.Time(rec.Expires)
	m.Released, m.OnSessionLost = r.Released(), persistence.SessionLostPolicy(rec.Policy)
	if r.Deferred() {
		d := f.deferrals.Get(seq)
		m.Deferral = persistence.Deferral{Since: record.Time(d.Since), Until: record.Time(d.Until), Attempts: int(d.Attempts), Code: d.Code, Alone: d.Alone, GivenUp: d.GivenUp, PacketID: d.PacketID, RefusedID: d.RefusedID}
	}
	m.Packet = append(packet, rec.Packet...)
	m.Offset, m.Length, m.Key, m.StreamSeq = off, int64(rec.Size), string(rec.Key), rec.StreamSeq
	if rec.Stream > 0 && int(rec.Stream) <= len(f.Streams) {
		m.Stream = f.Streams[rec.Stream-1].Name
	}
	return nil
}

func result(r record.Result) persistence.Result {
	return persistence.Result{Kind: persistence.ResultKind(r.Kind), Reason: r.Reason}
}

// EachReceipt calls yield for each receipt in the receipts files, until yield returns false. It
// begins with the oldest file. The receipts of one file are ordered by message ID. For messages
// that are still in a segment, use Messages, which returns their results. EachReceipt returns
// errors of the disk, and [persistence.ErrClosed].
func (f *Folder) EachReceipt(yield func(id [16]byte, r persistence.Receipt) bool) error {
	more := true
	for _, x := range f.Receipts {
		err := receipts.File{Segment: x.Segment, Count: x.Count}.Each(f.files, f.Dir, func(r *receipts.Receipt) bool {
			out := persistence.Receipt{Seq: r.Seq, Result: result(r.Result)}
			if r.At > 0 {
				out.At = record.Time(r.At)
			}
			more = yield(r.ID, out)
			return more
		}, func(int64) {})
		if errors.Is(err, fs.ErrClosed) {
			return persistence.ErrClosed
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}
