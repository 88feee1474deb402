package callback

import (
	"context"
	"sync"
)

// Queue calls a function of the application with one value after another, in their order, on a
// goroutine that exists while there are values. So the function may block, and may call whatever
// adds further values: neither holds up the goroutine that adds, and calls never nest. All methods
// are safe for concurrent use.
type Queue[T any] struct {
	c QueueConfig[T]

	mu       sync.Mutex
	waiting  []queued[T]
	bytes    int           // of waiting
	missed   int           // values dropped since the last one that was added
	running  chan struct{} // closed when the goroutine ends; nil: it does not run
	finished bool
}

// QueueConfig configures a Queue.
type QueueConfig[T any] struct {
	Call   func(T)       // calls the function; it must not panic
	Size   func(T) int   // estimates the memory of a value, in bytes
	Missed func(n int) T // makes the value that stands for n dropped ones
	Most   int           // limit of the waiting values, in bytes
}

type queued[T any] struct {
	value T
	size  int
}

// NewQueue returns an empty queue.
func NewQueue[T any](c QueueConfig[T]) *Queue[T] { return &Queue[T]{c: c} }

// Add adds a value, and returns without waiting. It returns false if it dropped the value because
// the queue is full; before the next value that fits, the function is called with the value that
// QueueConfig.Missed returns.
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

// add adds a value, and before it the one for dropped values.
func (q *Queue[T]) add(v T, size int) {
	if q.missed > 0 {
		q.waiting, q.missed = append(q.waiting, queued[T]{q.c.Missed(q.missed), 0}), 0
	}
	q.waiting, q.bytes = append(q.waiting, queued[T]{v, size}), q.bytes+size
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

// Finish adds the last value, and returns when the function has returned from its call. Values that
// still wait when ctx ends are dropped, and so are those that are added later. It returns how many
// values it dropped.
func (q *Queue[T]) Finish(ctx context.Context, last T) (dropped int) {
	q.mu.Lock()
	q.add(last, 0)
	q.finished = true
	running := q.running
	q.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
		q.mu.Lock()
		if dropped = len(q.waiting) - 1; dropped > 0 {
			q.waiting = []queued[T]{{q.c.Missed(dropped), 0}, {last, 0}}
		}
		q.mu.Unlock()
		<-running
	}
	return max(dropped, 0)
}
