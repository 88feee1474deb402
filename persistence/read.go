package persistence

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Next implements [Store]. If a message is damaged, Next reports the damage, records the message as
// Dropped, counts it as Lost, and continues with the next message. Next does the same if the disk
// has failed to read the message for 3 seconds, but can read other messages. After a *[ReadError],
// the caller may call Next again.
func (l *Log) Next(c *Cursor, e *Entry) (bool, error) {
	return l.read(func() uint64 { return l.state.catalog.Next((*[Priorities]uint64)(c)) }, e)
}

func (l *Log) Get(seq uint64, e *Entry) (bool, error) {
	return l.read(func() uint64 {
		if l.state.catalog.Committed(seq).Alive() {
			return seq
		}
		return 0
	}, e)
}

func (l *Log) DeadLetters(yield func(e *Entry, reason byte) bool) error {
	l.mu.Lock()
	list := slices.Clone(l.state.ledger.DeadLetters.List)
	err := l.usable()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	var e Entry
	for _, d := range list {
		ok, err := l.read(func() uint64 {
			if !l.state.catalog.Committed(d.Seq).Is(index.Dead) {
				return 0
			}
			return d.Seq
		}, &e)
		if err != nil {
			return err
		}
		if ok && !yield(&e, d.Reason) {
			return nil
		}
	}
	return nil
}

// place is the location of a message in the files.
type place struct {
	seq     uint64
	segment uint64 // number of the segment
	size    int64  // size of the segment
	loc     index.Loc

	released bool
	lost     bool
	deferral Deferral // zero if the message is not deferred
}

// read sets e to the message that pick returns. It calls pick with mu held. If pick returns 0, read
// returns false.
func (l *Log) read(pick func() uint64, e *Entry) (bool, error) {
	l.mu.Lock()
	for {
		at, err := l.choose(pick)
		if at.seq == 0 || l.fromMemory(at, e) {
			l.mu.Unlock()
			return at.seq != 0, err
		}
		l.mu.Unlock()
		done, err := l.readFromDisk(pick, e)
		if done || err != nil {
			return done, err
		}
		l.mu.Lock()
	}
}

// choose returns the place of the message that pick returns.
func (l *Log) choose(pick func() uint64) (place, error) {
	if err := l.usable(); err != nil {
		return place{}, err
	}
	if l.pipe.open.Prioritized() {
		l.reveal()
	}
	seq := pick()
	if seq == 0 && l.inline {
		l.reveal()
		seq = pick()
	}
	if seq == 0 {
		return place{}, nil
	}
	return l.locate(seq), nil
}

// locate returns the place of a committed message. If there is no such message, seq is 0 in the
// result.
func (l *Log) locate(seq uint64) place {
	m := l.state.catalog.Committed(seq)
	if !m.OK() {
		return place{}
	}
	at := place{seq: seq, segment: m.Segment.Number, size: m.Segment.Size, loc: m.Loc(), released: m.Released(), lost: m.Is(index.Lost)}
	if m.Deferred() {
		at.deferral = deferral(l.state.ledger.Deferrals.Get(seq))
	}
	return at
}

// fromMemory takes a message from the tail or from the read-ahead buffer. mu must be held.
func (l *Log) fromMemory(at place, e *Entry) bool {
	var r record.Record
	b := l.tail.From(at.segment, int64(at.loc.Off))
	if b == nil && l.reader.TryLock() { // mu is held, so waiting for the lock could deadlock
		defer l.reader.Unlock()
		b = l.reader.Buffered(at.segment, int64(at.loc.Off))
	}
	if b == nil || r.Decode(b) != nil || r.Seq != at.seq {
		return false
	}
	e.set(&r, &at)
	return true
}

// readFromDisk reads the message that pick returns. It returns false if read has to call pick again.
func (l *Log) readFromDisk(pick func() uint64, e *Entry) (bool, error) {
	l.reader.Lock() // prevents the removal of segments
	l.mu.Lock()
	at, err := l.choose(pick)
	l.mu.Unlock()
	if at.seq == 0 {
		l.reader.Unlock()
		return false, err
	}
	var r record.Record
	if err = l.reader.Message(&r, at.segment, at.seq, int64(at.loc.Off), at.size); err == nil {
		e.set(&r, &at)
	}
	l.reader.Unlock()
	switch {
	case err == nil:
		l.damage.troubles.read(at.seq, at.segment)
		return true, nil
	case l.inline && errors.Is(err, fs.ErrNotExist): // the message ended meanwhile, and its memory was freed
	case isDamage(l, &at, err):
		l.lose(at, err)
	default:
		return false, &ReadError{Seq: at.seq, Err: err}
	}
	return false, nil
}

// isDamage reports whether a failed read means that the message is lost. The caller must hold no
// lock.
func isDamage(l *Log, at *place, err error) bool {
	switch {
	case segment.Damaged(err):
		return true
	case l.inline || mayRead(err):
		return false
	}
	gone := errors.Is(err, fs.ErrNotExist)
	if !gone && !l.damage.troubles.failed(at.seq, at.segment) || !diskWorks(l, at.segment, gone) {
		return false
	}
	l.damage.troubles.givenUp(at.seq, at.segment)
	return true
}

// diskWorks reports whether the disk can read another segment and can make a record durable. If
// there is no other segment, diskWorks reads the header of the same segment. If other is true, it
// returns false instead.
func diskWorks(l *Log, number uint64, other bool) bool {
	l.mu.Lock()
	if !writable(l) {
		l.mu.Unlock()
		return false
	}
	probe := l.state.catalog.Active().Number
	if probe == number {
		for _, s := range l.state.catalog.Segments {
			if s.Number != number {
				probe = s.Number
			}
		}
	}
	l.mu.Unlock()
	if probe == number && other || !readable(l, probe) {
		return false
	}
	l.mu.Lock()
	if !writable(l) {
		l.mu.Unlock()
		return false
	}
	id := uint16(1)
	for _, used := l.state.ledger.Seen[id]; used; _, used = l.state.ledger.Seen[id] {
		id++ // 0 is never in use
	}
	b := l.pipe.open
	b.force, b.buf = true, record.AppendCleared(b.buf, id) // id was not in use, so the record changes nothing
	return l.await(b) == nil
}

// readable reports whether the header of a segment can be read.
func readable(l *Log, number uint64) bool {
	name := segment.Name(l.folder.dir, number)
	f, err := l.o.FS.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = segment.ReadHeader(f, name)
	return err == nil
}

// lose records a damaged message as lost, unless it was moved or ended meanwhile.
func (l *Log) lose(at place, cause error) {
	l.mu.Lock()
	now := l.locate(at.seq)
	lost := l.usable() == nil && now.segment == at.segment && now.loc == at.loc &&
		l.state.lose(l.pipe.open, at.seq, l.state.catalog.Committed(at.seq))
	if lost {
		l.noted()
	}
	l.mu.Unlock()
	if lost {
		l.report(Corruption{File: segment.Name(l.folder.dir, at.segment), Offset: int64(at.loc.Off), Length: int64(at.loc.Size), Seq: at.seq, Err: cause})
	}
}

// set copies the fields of a message from its record.
func (e *Entry) set(r *record.Record, at *place) {
	e.Seq, e.Number, e.Priority = r.Seq, r.Number, Priority(r.Priority)
	e.ID, e.Released, e.OnSessionLost = r.MessageID, at.released, SessionLostPolicy(r.Policy)
	e.Deferral = at.deferral
	e.Accepted, e.Expires = record.Time(r.Accepted), record.Time(r.Expires)
	e.Packet = append(e.Packet[:0], r.Packet...)
}
