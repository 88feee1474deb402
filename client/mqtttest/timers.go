package mqtttest

import (
	"container/heap"
	"time"
)

// timer calls a function at a time, under the broker's lock.
type timer struct {
	at    time.Time
	what  func()
	index int // in the heap; -1 if it is not in the heap
}

// timers is the heap of will delays and session expiries. One goroutine serves all of them.
// Broker.state guards it.
type timers struct {
	heap timerHeap
	kick chan struct{} // the first timer has changed
}

// at schedules a call of the function what at a certain time.
func (b *Broker) at(at time.Time, what func()) *timer {
	t := &timer{at: at, what: what}
	heap.Push(&b.timers.heap, t)
	if t.index == 0 {
		signal(b.timers.kick)
	}
	return t
}

// stop cancels t. t may be nil or have fired.
func (b *Broker) stop(t *timer) {
	if t != nil && t.index >= 0 {
		heap.Remove(&b.timers.heap, t.index)
	}
}

func (b *Broker) runTimers() {
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for {
		alarm.Reset(b.fire())
		select {
		case <-alarm.C:
		case <-b.timers.kick:
		case <-b.done:
			return
		}
	}
}

// fire runs due timers and returns how long to sleep.
func (b *Broker) fire() time.Duration {
	b.lock()
	defer b.wake()
	defer b.unlock()
	if b.closed {
		return time.Hour
	}
	now := time.Now()
	for len(b.timers.heap) > 0 {
		if d := b.timers.heap[0].at.Sub(now); d > 0 {
			return d
		}
		heap.Pop(&b.timers.heap).(*timer).what()
	}
	return time.Hour
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}

// signal wakes the one goroutine that waits on c, now or the next time.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
