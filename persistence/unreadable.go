package persistence

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"
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
func (x *troubles) failed(seq, segment uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.list[seq]
	if t == nil {
		if x.list == nil || len(x.list) >= maxTroubles { // their time begins again
			x.list = map[uint64]*trouble{}
		}
		t = &trouble{since: time.Now()}
		x.list[seq] = t
	}
	t.tries++
	// The places after one that was given up are most likely on the same bad block.
	return x.bad == segment || t.tries >= giveUpTries && time.Since(t.since) >= giveUpAfter
}

// givenUp notes that a message is damage.
func (x *troubles) givenUp(seq, segment uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.list, seq)
	x.bad = segment
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
