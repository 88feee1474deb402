package persistence

import (
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// reader reads messages that are no longer in the tail. It keeps one segment
// open and reads ahead, so that draining in order needs few system calls.
type reader struct {
	fs  fsys.FS
	dir string

	mu     sync.Mutex
	number uint64 // of the open segment; 0: none
	file   fsys.File
	window
}

// record returns the bytes of the record at off of a segment whose first limit
// bytes count; r.mu is held. The result is valid until the next call.
func (r *reader) record(number uint64, off, limit int64) ([]byte, error) {
	if r.number != number {
		r.close()
		f, err := r.fs.Open(segmentName(r.dir, number))
		if err != nil {
			return nil, err
		}
		r.number, r.file, r.f = number, f, f
	}
	r.limit = limit
	b, err := r.view(off, checksumSize+maxTagSize)
	if err != nil {
		return nil, err
	}
	_, _, size, ok := parseTag(b)
	if !ok {
		return nil, errRecord
	}
	if b, err = r.view(off, size); err != nil {
		return nil, err
	}
	if len(b) < size || le32(b) != checksum(number, off, b[checksumSize:]) {
		return nil, errRecord
	}
	return b, nil
}

// has returns the record at off when all of it was read ahead and it is valid.
func (r *reader) has(off int64) []byte {
	if off < r.off || off >= r.off+int64(len(r.buf)) {
		return nil
	}
	b := r.buf[off-r.off:]
	_, _, size, ok := parseTag(b)
	if !ok || size > len(b) || le32(b) != checksum(r.number, off, b[checksumSize:size]) {
		return nil
	}
	return b[:size]
}

// leave closes a segment that is about to be removed; some systems remove no
// open files.
func (r *reader) leave(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.number == number {
		r.close()
	}
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
	r.number, r.file, r.f, r.buf = 0, nil, nil, r.buf[:0]
}

// Next implements [Store]. A message that turns out to be damaged is Dropped,
// counted as Lost and reported, and Next goes on to the following one. When the
// disk does not answer, the error is a *ReadError; the call can be repeated.
func (l *Log) Next(c *Cursor, e *Entry) (bool, error) {
	return l.read(func() uint64 { return l.catalog.next(c) }, e)
}

// Get implements [Store].
func (l *Log) Get(seq uint64, e *Entry) (bool, error) {
	return l.read(func() uint64 {
		if l.catalog.find(seq).alive() {
			return seq
		}
		return 0
	}, e)
}

// read fills e with the message that pick chooses, under mu; 0 is none. It asks
// again when the one chosen is gone before it was read.
func (l *Log) read(pick func() uint64, e *Entry) (bool, error) {
	l.mu.Lock()
	for {
		seq, err := l.choose(pick)
		if seq == 0 {
			l.mu.Unlock()
			return false, err
		}
		r := l.catalog.find(seq)
		if b := l.tail.from(l.holder(seq, r).number, int64(r.loc().off)); b != nil {
			if e.fill(b, r.state()) == nil {
				l.mu.Unlock()
				return true, nil
			}
		}
		if l.readAhead(seq, r, e) {
			l.mu.Unlock()
			return true, nil
		}
		l.mu.Unlock()
		done, err := l.readFromDisk(pick, e)
		if done || err != nil {
			return done, err
		}
		l.mu.Lock()
	}
}

func (l *Log) choose(pick func() uint64) (uint64, error) {
	if err := l.usable(); err != nil {
		return 0, err
	}
	if len(l.cur.lines) > 0 {
		l.reveal()
	}
	if seq := pick(); seq != 0 || !l.inline {
		return seq, nil
	}
	l.reveal()
	return pick(), nil
}

// readAhead takes a message out of what was read ahead, under mu, if it is there
// and nobody is reading.
func (l *Log) readAhead(seq uint64, r ref, e *Entry) bool {
	f := &l.reading
	if !f.mu.TryLock() { // mu is held: waiting could last for ever
		return false
	}
	defer f.mu.Unlock()
	s := l.holder(seq, r)
	if f.number != s.number {
		return false
	}
	b := f.has(int64(r.loc().off))
	return b != nil && e.fill(b, r.state()) == nil && e.Seq == seq
}

// readFromDisk returns false when read has to choose again.
func (l *Log) readFromDisk(pick func() uint64, e *Entry) (bool, error) {
	f := &l.reading
	f.mu.Lock()
	// With reading.mu held the segment is not removed any more.
	l.mu.Lock()
	seq, err := l.choose(pick)
	if seq == 0 {
		l.mu.Unlock()
		f.mu.Unlock()
		return false, err
	}
	r := l.catalog.find(seq)
	s := l.holder(seq, r)
	at, state, number, limit := r.loc(), r.state(), s.number, s.size
	l.mu.Unlock()
	b, err := f.record(number, int64(at.off), limit)
	if err == nil {
		err = e.fill(b, state)
	}
	f.mu.Unlock()
	if err == nil && e.Seq == seq {
		return true, nil
	}
	if l.inline && errors.Is(err, fs.ErrNotExist) {
		return false, nil // done meanwhile, and its piece of memory given back
	}
	if err != nil && !damaged(err) {
		return false, &ReadError{Seq: seq, Err: err}
	}
	l.lose(seq, number, at)
	return false, nil
}

// damaged says of an error in reading that asking again would not help.
func damaged(err error) bool { return err == errRecord || err == io.ErrUnexpectedEOF }

// lose gives up a damaged message, unless it was moved or done in the meantime.
func (l *Log) lose(seq, number uint64, at loc) {
	l.mu.Lock()
	r := l.catalog.find(seq)
	if l.usable() != nil || !r.ok() || l.holder(seq, r).number != number || r.loc() != at {
		l.mu.Unlock()
		return
	}
	switch {
	case r.alive():
		l.done(seq, Result{Kind: Dropped})
		l.ledger.lost++
	case r.state() == stateDead:
		l.discard(seq)
	default:
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.report(Corruption{File: segmentName(l.dir, number), Offset: int64(at.off), Length: int64(at.size), Seq: seq, Err: errRecord})
}

// report counts and tells a corruption, without any lock held.
func (l *Log) report(c Corruption) {
	l.corruptions.Add(1)
	if l.o.OnCorruption != nil {
		l.o.OnCorruption(c)
	}
}

// fill copies a message out of its record.
func (e *Entry) fill(b []byte, state uint8) error {
	var r record
	if err := r.decode(b); err != nil {
		return err
	}
	m := &r.message
	e.Seq, e.Number, e.Priority = r.seq, r.number, r.priority
	e.ID, e.Released, e.OnSessionLost = m.id, state == stateReleased, m.lost
	e.Accepted, e.Expires = fromMillis(m.accepted), fromMillis(m.expires)
	e.Packet = append(e.Packet[:0], m.packet...)
	return nil
}
