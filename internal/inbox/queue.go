package inbox

import (
	"sync"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/notify"
)

// queue holds the messages that wait for a worker. The reader of the connection pushes messages,
// and the worker takes all at once.
type queue[M any] struct {
	ready notify.Signal // set when there is something to take

	mu      sync.Mutex
	items   []Item[M]
	qos0    int      // number of QoS 0 messages in items
	decided []string // ordering keys that no longer wait; see worker.waiting
	closed  bool
}

// push adds a message. It returns false if the queue is closed, or if the message has QoS 0 and
// maxQoS0 such messages wait.
func (q *queue[M]) push(item Item[M], maxQoS0 int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	qos0 := item.In == nil && item.Aside == 0
	if q.closed || qos0 && q.qos0 >= maxQoS0 {
		return false
	}
	if qos0 {
		q.qos0++
	}
	q.items = append(q.items, item)
	q.ready.Set()
	return true
}

// decide lets the messages with an ordering key continue.
func (q *queue[M]) decide(orderKey string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.decided = append(q.decided, orderKey)
	q.ready.Set()
}

// take moves the queued messages into items, which must be empty. It returns the ordering keys that
// no longer wait.
func (q *queue[M]) take(items *fifo[Item[M]]) (decided []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items.values, q.items, q.qos0 = q.items, items.values[:0], 0
	decided, q.decided = q.decided, nil
	return decided
}

func (q *queue[M]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

func (q *queue[M]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// waitFor makes a message wait until the function until returns. If until fails or is nil, the
// message waits for a backoff.
func (w *worker[M]) waitFor(item Item[M], until func() error) {
	backoff := w.cfg.Backoff(item.tries)
	item.tries++
	w.waiting[item.OrderKey] = []Item[M]{item}
	w.helpers.Go(func() {
		failed := true
		defer func() { // also after runtime.Goexit
			if failed {
				w.sleep(backoff)
			}
			w.queue.decide(item.OrderKey)
		}()
		defer w.cfg.Guard.Enter()()
		if until != nil {
			if p := w.cfg.Guard.Call(func() { failed = until() != nil }); p != nil {
				w.cfg.Observer.StoreFailed(p)
			}
		}
	})
}

// await makes a message wait until the claim of another owner ends.
func (w *worker[M]) await(item Item[M], c dedupe.Claim) {
	if item.tries > 0 && item.awaited == c.Token { // Wait returned early
		item.awaited = 0
		w.waitFor(item, nil)
		return
	}
	item.awaited = c.Token
	w.waitFor(item, func() error { return w.cfg.Dedupe.Wait(w.stopping, c) })
}

// fifo is a queue for a single goroutine. It keeps its memory.
type fifo[T any] struct {
	values []T
	first  int
}

func (f *fifo[T]) len() int { return len(f.values) - f.first }
func (f *fifo[T]) push(v T) { f.values = append(f.values, v) }

func (f *fifo[T]) pop() T {
	var zero T
	v := f.values[f.first]
	f.values[f.first] = zero
	if f.first++; f.first == len(f.values) {
		f.values, f.first = f.values[:0], 0
	}
	return v
}

func (f *fifo[T]) pushFront(values []T) {
	f.values, f.first = append(values, f.values[f.first:]...), 0
}
