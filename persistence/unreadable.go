package persistence

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"
)

// If a message cannot be read, each call that needs the message tries to read it again. After
// giveUpTries attempts, and not before giveUpAfter has passed, the message counts as damaged if the
// rest of the disk works. The disk works if it can read another place and make a record durable. If
// the disk does not work at all, the message stays pending.
const (
	giveUpAfter = 3 * time.Second
	giveUpTries = 3
	maxTroubles = 128 // maximum number of messages whose attempts are counted
)

// troubles are the messages that could not be read. It has its own lock.
type troubles struct {
	mu   sync.Mutex
	list map[uint64]*trouble // by sequence
	bad  uint64              // segment of the last message that was given up; 0 if a place in the segment was read since
}

type trouble struct {
	since time.Time
	tries int
}

// read records that a message in a segment was read.
func (x *troubles) read(seq, segment uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.list, seq)
	if x.bad == segment {
		x.bad = 0
	}
}

// failed records a failed attempt to read a message. It reports whether the message now counts as
// damaged.
func (x *troubles) failed(seq, segment uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.list[seq]
	if t == nil {
		if x.list == nil || len(x.list) >= maxTroubles { // at the limit, all counts start anew
			x.list = map[uint64]*trouble{}
		}
		t = &trouble{since: time.Now()}
		x.list[seq] = t
	}
	t.tries++
	// Messages in the segment of a message that was given up are probably on the same bad block.
	return x.bad == segment || t.tries >= giveUpTries && time.Since(t.since) >= giveUpAfter
}

// givenUp records that a message counts as damaged.
func (x *troubles) givenUp(seq, segment uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.list, seq)
	x.bad = segment
}

// mayRead reports whether err has a cause that is unrelated to the stored data. The system may lack
// memory or file descriptors, or may deny access. Such an error is never damage.
func mayRead(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EINTR, syscall.EAGAIN, syscall.ETIMEDOUT, fs.ErrPermission, fs.ErrClosed} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
