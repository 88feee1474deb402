// Package notify has the ways in which goroutines wake each other: a Signal for one
// waiter, a Broadcast for all, a Latch for what happens once.
package notify

import "sync"

// Signal wakes one waiter. Calls of Set that come before the waiter looks count
// as one. Use New; the zero value never wakes anybody.
type Signal chan struct{}

// New returns a Signal that is not set.
func New() Signal { return make(Signal, 1) }

// Set wakes the waiter, now or when it next receives. It never blocks.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Clear takes back a Set that nobody has received.
func (s Signal) Clear() {
	select {
	case <-s:
	default:
	}
}

// Broadcast wakes everybody who waits. The zero value is ready for use; all methods
// are safe for concurrent use. To wait for a condition, take the channel first and
// look at the condition then; otherwise a Notify between the two is missed.
type Broadcast struct {
	mu sync.Mutex
	c  chan struct{} // nil: nobody waits
}

// Changed returns a channel that the next Notify closes.
func (b *Broadcast) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

// Notify wakes everybody who waits.
func (b *Broadcast) Notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}

// Latch is something that happens once and stays so. The zero value is ready for use;
// all methods are safe for concurrent use.
type Latch struct {
	open, close sync.Once
	c           chan struct{}
}

// Set closes the latch. It reports whether this call was the first; later ones do nothing.
func (l *Latch) Set() (first bool) {
	l.Done()
	l.close.Do(func() {
		close(l.c)
		first = true
	})
	return first
}

// Done returns a channel that is closed once Set was called.
func (l *Latch) Done() <-chan struct{} {
	l.open.Do(func() { l.c = make(chan struct{}) })
	return l.c
}
