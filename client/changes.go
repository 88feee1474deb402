package client

import (
	"iter"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/notify"
)

// changes gives what happens to readers, each with a bounded queue. A reader that is
// too slow gets one marker in place of what it missed, and delays nobody.
type changes[T any] struct {
	limit  int
	bytes  int           // of the values that wait for a reader; 0: no limit
	size   func(v T) int // of a value in bytes; nil with bytes 0
	missed func(n int) T // makes the marker
	lost   func(n int)   // gets the number of values that were dropped; it must not block; nil: nothing does

	changed notify.Broadcast // something was pushed, or it is closed
	mu      sync.Mutex
	readers map[*reader[T]]struct{}
	closed  bool
}

type reader[T any] struct {
	queue         []T
	bytes         int // of queue
	missed, loops int // values dropped before what is in queue; loops that read
}

// push gives v to all readers.
func (c *changes[T]) push(v T) {
	c.mu.Lock()
	size := 0
	if c.bytes > 0 {
		size = c.size(v)
	}
	for r := range c.readers {
		if len(r.queue) >= c.limit || c.bytes > 0 && r.bytes+size > c.bytes {
			r.missed += len(r.queue) + 1
			if c.lost != nil {
				c.lost(len(r.queue) + 1)
			}
			r.queue, r.bytes = nil, 0
		} else {
			r.queue = append(r.queue, v)
			r.bytes += size
		}
	}
	c.mu.Unlock()
	c.changed.Notify()
}

// read adds a reader and returns what is pushed from now on, until changes is closed and everything
// was read. The sequence is for one loop, whose end removes the reader. A later loop gets what is
// pushed from its start on, and two loops at a time share what comes.
func (c *changes[T]) read() iter.Seq[T] {
	r := &reader[T]{}
	c.join(r, 0)
	return func(yield func(T) bool) {
		c.join(r, 1)
		defer c.leave(r)
		for {
			changed := c.changed.Changed()
			c.mu.Lock()
			list, missed, closed := r.queue, r.missed, c.closed
			r.queue, r.bytes, r.missed = nil, 0, 0
			c.mu.Unlock()
			if missed > 0 && !yield(c.missed(missed)) {
				return
			}
			for _, v := range list {
				if !yield(v) {
					return
				}
			}
			if closed {
				return
			}
			<-changed
		}
	}
}

func (c *changes[T]) join(r *reader[T], loops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.loops += loops; c.closed {
		return
	}
	if c.readers == nil {
		c.readers = map[*reader[T]]struct{}{}
	}
	c.readers[r] = struct{}{}
}

// leave ends a loop.
func (c *changes[T]) leave(r *reader[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.loops--; r.loops == 0 {
		delete(c.readers, r)
		r.queue, r.bytes, r.missed = nil, 0, 0
	}
}

// close ends all sequences.
func (c *changes[T]) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.changed.Notify()
}
