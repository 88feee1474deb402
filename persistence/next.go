package persistence

import (
	"io"
	"sync"
)

// reader reads messages that are no longer in the tail. It keeps one segment
// open and reads ahead, so that draining in order needs few system calls.
type reader struct {
	fs  FS
	dir string

	mu     sync.Mutex
	number uint64 // of the open segment; 0: none
	file   File
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
func (l *Log) Next(after uint64, e *Entry) (bool, error) {
	l.mu.Lock()
	for {
		s, i, err := l.following(after)
		if s == nil {
			l.mu.Unlock()
			return false, err
		}
		at := s.locs[i]
		if b := l.tail.from(s.number, int64(at.off)); b != nil {
			err := e.fill(b, s.states[i])
			l.mu.Unlock()
			return err == nil, err
		}
		l.mu.Unlock()
		done, err := l.nextFromDisk(after, e)
		if done || err != nil {
			return done, err
		}
		l.mu.Lock()
	}
}

// following returns the next message that is not done, under mu.
func (l *Log) following(after uint64) (*segment, int, error) {
	if err := l.usable(); err != nil || after >= l.ledger.next {
		return nil, 0, err
	}
	s, i := findNext(l.segments, after+1)
	return s, i, nil
}

// nextFromDisk returns false when Next has to look again.
func (l *Log) nextFromDisk(after uint64, e *Entry) (bool, error) {
	r := &l.reading
	r.mu.Lock()
	// With reading.mu held the segment is not removed any more.
	l.mu.Lock()
	s, i, err := l.following(after)
	if s == nil {
		l.mu.Unlock()
		r.mu.Unlock()
		return false, err
	}
	seq, at, state, number, limit := s.first+uint64(i), s.locs[i], s.states[i], s.number, s.size
	l.mu.Unlock()
	b, err := r.record(number, int64(at.off), limit)
	if err == nil {
		err = e.fill(b, state)
	}
	r.mu.Unlock()
	if err == nil && e.Seq == seq {
		return true, nil
	}
	if err != nil && err != errRecord && err != io.ErrUnexpectedEOF {
		return false, &ReadError{Seq: seq, Err: err}
	}
	l.lose(seq, number, at)
	return false, nil
}

// lose gives up a damaged message, unless it was moved or done in the meantime.
func (l *Log) lose(seq, number uint64, at loc) {
	l.mu.Lock()
	s, i := find(l.segments, seq)
	if l.usable() != nil || s == nil || s.number != number || s.locs[i] != at || s.states[i] >= stateDone {
		l.mu.Unlock()
		return
	}
	l.done(seq, Outcome{Kind: Dropped})
	l.ledger.lost++
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
	e.Seq, e.ID, e.Released = r.seq, m.id, state == stateReleased
	e.Accepted, e.Expires = fromMillis(m.accepted), fromMillis(m.expires)
	e.Packet = append(e.Packet[:0], m.packet...)
	return nil
}
