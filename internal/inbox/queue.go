package inbox

import (
	"sync"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/notify"
)

// queue holds the messages that wait for a worker. The reader of the connection
// pushes, the worker takes all at once.
type queue[M any] struct {
	ready notify.Signal // there is something to take

	mu      sync.Mutex
	items   []Item[M]
	qos0    int      // of items
	decided []string // ordering keys that need not wait any longer, see worker.waiting
	closed  bool
}

// push adds a message unless the queue is closed or has maxQoS0 of QoS 0.
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

// decide lets the messages with an ordering key go on.
func (q *queue[M]) decide(orderKey string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.decided = append(q.decided, orderKey)
	q.ready.Set()
}

// take moves what is queued into items, which is empty. It returns the ordering keys
// that need not wait any longer.
func (q *queue[M]) take(items *fifo[Item[M]]) (decided []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items.values, q.items, q.qos0 = q.items, items.values[:0], 0
	decided, q.decided = q.decided, nil
	return decided
}

func (q *queue[M]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// waitFor makes a message wait until until returns, and for a backoff if that fails;
// nil: for a backoff alone.
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

// fifo is a queue of one goroutine. It keeps its memory.
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
