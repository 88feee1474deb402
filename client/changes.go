package client

import (
	"iter"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/notify"
)

// changes distributes values to readers, each with a bounded queue. If a reader's queue overflows,
// its values are replaced by one marker. A slow reader does not delay others.
type changes[T any] struct {
	limit  int
	bytes  int           // limit of the bytes in a queue; 0: no limit
	size   func(v T) int // returns the size of a value in bytes; nil if bytes is 0
	missed func(n int) T // returns the marker for n dropped values
	lost   func(n int)   // receives the number of dropped values; may be nil; must not block

	changed notify.Broadcast // notified after push and close
	mu      sync.Mutex
	readers map[*reader[T]]struct{}
	closed  bool
}

type reader[T any] struct {
	queue         []T
	bytes         int // total size of queue
	missed, loops int // values dropped before those in queue; number of loops that read
}

// push sends v to all readers.
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

// read adds a reader and returns the values that are pushed after this call. The sequence ends
// after changes is closed and all values were read. It is for one loop, and the end of the loop
// removes the reader. A later loop receives the values that are pushed after its start. Two loops
// at the same time share the values.
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

// leave ends one loop of a reader.
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
