package callback

import (
	"context"
	"sync"
)

// Queue calls a function of the application with one value after another, in order. The calls run
// on a goroutine that exists only while values wait. The function may block, and may add further
// values. Add never waits for the function, and calls never nest. All methods are safe for
// concurrent use.
type Queue[T any] struct {
	c QueueConfig[T]

	mu       sync.Mutex
	waiting  []queued[T]
	bytes    int           // size of the waiting values
	missed   int           // number of values dropped since the last value was added
	running  chan struct{} // closed when the goroutine ends; nil while it does not run
	finished bool
}

// QueueConfig configures a Queue.
type QueueConfig[T any] struct {
	Call   func(T)       // calls the function; it must not panic
	Size   func(T) int   // estimates the memory of a value, in bytes
	Missed func(n int) T // returns the value that represents n dropped values
	Most   int           // limit of the waiting values, in bytes
}

type queued[T any] struct {
	value T
	size  int
	lost  int // number of dropped values that this value represents; 0 for a value of Add
}

// NewQueue returns an empty queue.
func NewQueue[T any](c QueueConfig[T]) *Queue[T] { return &Queue[T]{c: c} }

// Add adds a value without waiting. If the queue is full, Add drops the value and returns false.
// Before the next value that fits, the queue then inserts the value that QueueConfig.Missed returns.
func (q *Queue[T]) Add(v T) (ok bool) {
	size := q.c.Size(v)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.finished {
		return true
	}
	if len(q.waiting) > 0 && q.bytes+size > q.c.Most {
		q.missed++
		return false
	}
	q.add(v, size)
	return true
}

// add adds a value. If values were dropped, it first adds the value that represents them.
func (q *Queue[T]) add(v T, size int) {
	if q.missed > 0 {
		q.waiting, q.missed = append(q.waiting, queued[T]{q.c.Missed(q.missed), 0, q.missed}), 0
	}
	q.waiting, q.bytes = append(q.waiting, queued[T]{v, size, 0}), q.bytes+size
	if q.running == nil {
		q.running = make(chan struct{})
		go q.run(q.running)
	}
}

func (q *Queue[T]) run(done chan struct{}) {
	defer close(done)
	for v, ok := q.next(); ok; v, ok = q.next() {
		q.c.Call(v)
	}
}

func (q *Queue[T]) next() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting, q.running = nil, nil
		return v, false
	}
	first := q.waiting[0]
	q.waiting[0], q.waiting = queued[T]{}, q.waiting[1:]
	q.bytes -= first.size
	return first.value, true
}

// Wait returns when no value waits and the function has returned.
func (q *Queue[T]) Wait() {
	q.mu.Lock()
	running := q.running
	q.mu.Unlock()
	if running != nil {
		<-running
	}
}

// Finish adds the last value. It returns after the function has processed this value. If ctx ends
// first, Finish drops the values that still wait before the last value, and replaces them by the
// value that QueueConfig.Missed returns. The queue ignores values that are added later. Finish
// returns the number of values that it dropped.
func (q *Queue[T]) Finish(ctx context.Context, last T) (dropped int) {
	q.mu.Lock()
	q.add(last, 0)
	q.finished = true
	running := q.running
	q.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
		dropped = q.drop()
		<-running
	}
	return dropped
}

// drop drops all waiting values except the last one.
func (q *Queue[T]) drop() (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) < 2 {
		return 0
	}
	missed, last := 0, len(q.waiting)-1
	for _, w := range q.waiting[:last] {
		if missed += w.lost; w.lost == 0 {
			missed++
			dropped++
		}
	}
	q.waiting = []queued[T]{{q.c.Missed(missed), 0, missed}, q.waiting[last]}
	return dropped
}
