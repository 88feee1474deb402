package client

import (
	"iter"
	"sync"
)

// changes hands what happens to readers, each with a queue of its own that has a
// limit: a reader that is too slow gets one marker in place of what it missed, and
// holds nobody up.
type changes[T any] struct {
	limit  int
	missed func(n int) T // makes the marker

	mu      sync.Mutex
	readers map[*reader[T]]struct{}
	closed  bool
}

type reader[T any] struct {
	queue  []T
	missed int           // that are not told; what is in queue came after them
	loops  int           // that read
	signal chan struct{} // there is something, or it is closed
}

// push tells all readers.
func (c *changes[T]) push(v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.readers {
		if len(r.queue) >= c.limit {
			r.missed += len(r.queue) + 1
			clear(r.queue)
			r.queue = r.queue[:0]
		} else {
			r.queue = append(r.queue, v)
		}
		r.wake()
	}
}

func (r *reader[T]) wake() {
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// read adds a reader and returns what it reads: all that is pushed from now on. The
// sequence ends when changes is closed and everything was read. It is for one loop,
// and when that ends the reader is gone; a loop behind it gets what is pushed from
// then on, and two at a time share what comes.
func (c *changes[T]) read() iter.Seq[T] {
	r := &reader[T]{signal: make(chan struct{}, 1)}
	c.join(r, 0)
	return func(yield func(T) bool) {
		c.join(r, 1)
		defer c.leave(r)
		for {
			c.mu.Lock()
			list, missed, closed := r.queue, r.missed, c.closed
			r.queue, r.missed = nil, 0
			c.mu.Unlock()
			if missed > 0 && !yield(c.missed(missed)) {
				return
			}
			for _, v := range list {
				if !yield(v) {
					return
				}
			}
			switch {
			case missed > 0 || len(list) > 0:
			case closed:
				return
			default:
				<-r.signal
			}
		}
	}
}

func (c *changes[T]) join(r *reader[T], loops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.loops += loops
	if c.closed {
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
	if r.loops--; r.loops > 0 {
		r.wake() // the signal may have been meant for the other
		return
	}
	delete(c.readers, r)
	r.queue, r.missed = nil, 0
}

// close ends all sequences.
func (c *changes[T]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for r := range c.readers {
		r.wake()
	}
}
