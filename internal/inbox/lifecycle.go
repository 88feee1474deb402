package inbox

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/slow"
	"github.com/mooring-mqtt/mooring/ordering"
)

// lifecycle ends an inbox in steps.
type lifecycle struct {
	stopping  context.Context // ends when Quiesce is called; then no further message is begun
	handling  context.Context // context of handlers; ends after the grace period
	finishing context.Context // context of commits; ends with the workers, or finishTime after handling

	stop, interrupt, finish context.CancelFunc

	running sync.WaitGroup // workers
	helpers sync.WaitGroup // other goroutines
	working atomic.Int32   // workers that have not ended
	idle    chan struct{}  // closed when all workers have ended
	late    atomic.Int64   // QoS 1 and 2 messages received after Quiesce
}

// finishTime is how long a commit may take after the grace period of Stop.
const finishTime = 200 * time.Millisecond

// New returns an Inbox. Messages can be pushed before Start; Start begins to handle them.
func New[M any](cfg Config[M]) *Inbox[M] {
	b := &Inbox[M]{cfg: cfg}
	b.stopping, b.stop = context.WithCancel(context.Background())
	b.handling, b.interrupt = context.WithCancel(context.Background())
	b.finishing, b.finish = context.WithCancel(context.Background())
	b.idle = make(chan struct{})
	b.budget.limit, b.budget.used, b.budget.freed = cfg.MaxBytes, &b.Counters.Bytes, notify.New()
	b.keys.leased, b.keys.keys = notify.New(), map[string]holder{}
	b.window.init(cfg.Session, cfg.Observer.HeldUp)
	b.slow = slow.New(cfg.SlowAfter, cfg.Observer.Slow)
	for range cfg.Workers {
		w := &worker[M]{Inbox: b, waiting: map[string][]Item[M]{}, queue: queue[M]{ready: notify.New()}}
		if cfg.Ordering != nil {
			w.order = ordering.NewResequencer[Item[M]](w.orderingOptions())
			w.timer = time.NewTimer(time.Hour)
		}
		w.call = b.slow.Caller(w.queue.len)
		b.workers = append(b.workers, w)
	}
	return b
}

// maxIDBytes is the default of ordering.Options.MaxIDBytes. The workers share it.
const maxIDBytes = 16 << 20

// maxStreamBytes is the default of ordering.Options.MaxStreamBytes. The workers share it.
const maxStreamBytes = 64 << 20

// orderingOptions returns Config.Ordering with callbacks that run in order with the handlers.
func (w *worker[M]) orderingOptions() ordering.Options {
	o := *w.cfg.Ordering
	o.MaxIDBytes = cmp.Or(max(o.MaxIDBytes, 0), maxIDBytes) / int64(w.cfg.Workers)
	o.MaxStreamBytes = cmp.Or(max(o.MaxStreamBytes, 0), maxStreamBytes) / int64(w.cfg.Workers)
	onGap, onEpoch := o.OnGap, o.OnEpoch
	o.OnGap = func(g ordering.Gap) {
		if w.ended { // the messages are dropped, so gaps do not matter
			return
		}
		w.Counters.Gaps.Add(1)
		w.ready.push(ready[M]{report: func() {
			w.cfg.Observer.Gap(g)
			if onGap != nil {
				onGap(g)
			}
		}})
	}
	if onEpoch != nil {
		o.OnEpoch = func(stream string, before, after uint64) {
			w.ready.push(ready[M]{report: func() { onEpoch(stream, before, after) }})
		}
	}
	return o
}

// Slow returns the number of handler calls that have taken Config.SlowAfter, and the duration of the
// longest running call.
func (b *Inbox[M]) Slow() (calls int, longest time.Duration) { return b.slow.Running() }

// Handling reports whether a handler runs.
func (b *Inbox[M]) Handling() bool {
	return slices.ContainsFunc(b.workers, func(w *worker[M]) bool { return w.calling.Load() })
}

// Start starts the workers.
func (b *Inbox[M]) Start() {
	b.working.Store(int32(len(b.workers)))
	for _, w := range b.workers {
		b.running.Add(1)
		go w.run()
	}
	if b.cfg.Dedupe != nil {
		b.helpers.Go(b.renewLeases)
	}
}

func (l *lifecycle) workerEnded() {
	if l.working.Add(-1) == 0 {
		close(l.idle)
	}
	l.running.Done()
}

// Quiesce makes the inbox begin no further message. Running handlers continue, and their messages
// are acknowledged. The channel is closed when all workers have ended. Without Start, it stays open.
func (b *Inbox[M]) Quiesce() (idle <-chan struct{}) {
	for _, w := range b.workers {
		w.queue.close()
	}
	b.stop()
	b.grace.begin.Do(func() {})
	if b.grace.timer != nil {
		b.grace.timer.Stop()
	}
	b.window.stop()
	return b.idle
}

// Stop ends the inbox. Running handlers may finish within the grace period; then their context
// ends. Unhandled messages are not acknowledged, and their claims are returned. Unhandled QoS 0
// messages are reported as dropped. Stop returns after all goroutines of the inbox have ended, with
// the number of unhandled QoS 1 and 2 messages.
func (b *Inbox[M]) Stop(grace time.Duration) (unhandled int) {
	b.Quiesce()
	defer time.AfterFunc(grace, b.interrupt).Stop()
	defer time.AfterFunc(grace+finishTime, b.finish).Stop()
	b.running.Wait()
	b.slow.Stop()
	b.interrupt()
	for _, w := range b.workers {
		unhandled += w.drop()
	}
	for _, c := range b.keys.endAll() {
		b.abandon(c)
	}
	b.finish()
	b.helpers.Wait()
	return unhandled + int(b.late.Load())
}

// drop drops the unhandled messages: those that the worker has taken, those in the closed queue,
// those that wait for a claim, and those held for order. The worker must have ended.
func (w *worker[M]) drop() (unhandled int) {
	drop := func(item Item[M]) {
		if item.Aside == 0 && !w.dropQoS0(item) {
			unhandled++
		}
	}
	for _, item := range w.waits.list {
		drop(item)
	}
	for range 2 {
		for w.items.len() > 0 {
			drop(w.items.pop())
		}
		w.queue.take(&w.items)
	}
	for _, waiting := range w.waiting {
		for _, item := range waiting {
			drop(item)
		}
	}
	if w.ended = true; w.order != nil {
		w.order.Flush(w.emit)
	}
	for w.ready.len() > 0 {
		if next := w.ready.pop(); next.report == nil {
			drop(next.item)
		}
	}
	return unhandled + w.interrupted
}

// dropQoS0 reports an unhandled QoS 0 message as dropped. Other messages are redelivered by the
// server.
func (b *Inbox[M]) dropQoS0(item Item[M]) (dropped bool) {
	if item.In != nil {
		return false
	}
	b.Counters.DroppedQoS0.Add(1)
	b.cfg.Observer.QoS0Dropped(item.Message)
	return true
}

// sleep waits for d. It returns false if the inbox stops.
func (b *Inbox[M]) sleep(d time.Duration) bool {
	select {
	case <-b.stopping.Done():
		return false
	case <-time.After(d):
		return true
	}
}
