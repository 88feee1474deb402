package persistence

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// A message that cannot be read is tried again for giveUpAfter, by each call that wants it. Then it is
// damage, if the disk otherwise works: another place can be read, and a record is written durably. If the
// disk does not work at all, the message stays.
const (
	giveUpAfter = 3 * time.Second
	giveUpTries = 3
	maxTroubles = 128 // messages whose tries are counted
)

// troubles are the messages that could not be read. It has its own lock.
type troubles struct {
	mu   sync.Mutex
	list map[uint64]*trouble // by sequence
	bad  uint64              // the segment with the last place that was given up; 0: another place in it was read since
}

type trouble struct {
	since time.Time
	tries int
}

// read notes that a place in a segment was read.
func (x *troubles) read(seq, segment uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.list, seq)
	if x.bad == segment {
		x.bad = 0
	}
}

// failed notes a try, and reports whether there were enough.
func (x *troubles) failed(at *place) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.list[at.seq]
	if t == nil {
		if x.list == nil || len(x.list) >= maxTroubles { // their time begins again
			x.list = map[uint64]*trouble{}
		}
		t = &trouble{since: time.Now()}
		x.list[at.seq] = t
	}
	t.tries++
	// The places after one that was given up are most likely on the same bad block.
	return x.bad == at.segment || t.tries >= giveUpTries && time.Since(t.since) >= giveUpAfter
}

// givenUp notes that a message is damage.
func (x *troubles) givenUp(at *place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.list, at.seq)
	x.bad = at.segment
}

// mayRead reports whether an error says nothing about what is stored: the system lacks memory or descriptors, or
// refuses access. It is never damage.
func mayRead(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EINTR, syscall.EAGAIN, syscall.ETIMEDOUT, fs.ErrPermission, fs.ErrClosed} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// isDamage reports whether an error of reading a message means that it is lost. No lock is held.
func isDamage(l *Log, at *place, err error) bool {
	switch {
	case segment.Damaged(err):
		return true
	case l.inline || mayRead(err):
		return false
	}
	gone := errors.Is(err, fs.ErrNotExist)
	if !gone && !l.damage.troubles.failed(at) || !diskWorks(l, at.segment, gone) {
		return false
	}
	l.damage.troubles.givenUp(at)
	return true
}

// diskWorks reports whether the disk reads a place in another segment, or at least in the same one, and makes
// a record durable.
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
	b.force, b.buf = true, record.AppendCleared(b.buf, id) // it was not in use: nothing changes
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

// lose gives up a damaged message, unless it was moved or ended meanwhile.
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
