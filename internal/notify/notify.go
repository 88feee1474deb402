// Package notify provides ways for goroutines to wake each other: a Signal for one waiter, a
// Broadcast for all waiters, and a Latch for an event that happens once.
package notify

import "sync"

// Signal wakes one waiter. Several calls of Set before the waiter receives count as one. Use New;
// the zero value never wakes a waiter.
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

// Clear cancels a Set that no waiter has received.
func (s Signal) Clear() {
	select {
	case <-s:
	default:
	}
}

// Broadcast wakes all waiters. The zero value is ready to use. All methods are safe for concurrent
// use. To wait for a condition, call Changed first and check the condition afterwards. Otherwise a
// Notify between the two is missed.
type Broadcast struct {
	mu sync.Mutex
	c  chan struct{} // nil: there are no waiters
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

// Notify wakes all waiters.
func (b *Broadcast) Notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}

// Latch is an event that happens once. The zero value is ready to use. All methods are safe for
// concurrent use.
type Latch struct {
	open, close sync.Once
	c           chan struct{}
}

// Set closes the latch. It reports whether this call was the first one. Later calls have no effect.
func (l *Latch) Set() (first bool) {
	l.Done()
	l.close.Do(func() {
		close(l.c)
		first = true
	})
	return first
}

// Done returns a channel that is closed after Set was called.
func (l *Latch) Done() <-chan struct{} {
	l.open.Do(func() { l.c = make(chan struct{}) })
	return l.c
}
