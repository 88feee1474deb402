package persistence

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
)

// batch is what one commit writes: the records made since the last one. The first
// goroutine that waits for it commits it for all others.
type batch struct {
	index.Batch
	id      uint64
	buf     []byte // unsealed records
	force   bool   // sync, whatever the policy
	led     bool   // a goroutine is going to commit it
	over    bool   // committed, or failed
	err     error  // valid when over
	done    chan struct{}
	stalled chan struct{} // closed when the commit takes longer than WriteTimeout; nil: nobody waits
	slow    bool          // stalled is closed, or would be
	timer   *time.Timer   // closes it
	waiters atomic.Int32  // without the goroutine that commits it
	crowd   int           // how many are to wait for it, with joined
	joined  chan struct{} // closed when they do; nil: the commit does not wait for them
}

// wait returns when the batch is over. It is entered with mu held and left without.
func (b *batch) wait(mu *sync.Mutex) {
	if b.over {
		mu.Unlock()
		return
	}
	b.register()
	mu.Unlock()
	<-b.done
}

// waitFor is wait that ends early if ctx does, or if the commit stalls.
func (b *batch) waitFor(ctx context.Context, mu *sync.Mutex, timeout time.Duration) error {
	b.register()
	if b.stalled == nil {
		b.stalled = make(chan struct{})
		if b.slow {
			close(b.stalled)
		}
	}
	mu.Unlock()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
	case <-b.stalled:
	}
	select {
	case <-b.done:
		return b.err
	default:
		return cmp.Or(context.Cause(ctx), error(&StalledError{After: timeout}))
	}
}

// stall tells those who wait that the commit takes long, with mu held.
func (b *batch) stall() {
	if b.slow = true; b.stalled != nil {
		close(b.stalled)
	}
}

// register counts a goroutine that waits, with mu held.
func (b *batch) register() {
	if b.done == nil {
		b.done = make(chan struct{})
	}
	if n := b.waiters.Add(1) + 1; b.joined != nil && int(n) >= b.crowd {
		close(b.joined)
		b.joined = nil
	}
}

// pipeline has the batches that are not over. Log.mu guards it.
type pipeline struct {
	open    *batch             // takes records
	outage  *DegradedError     // nil: the disk takes what is written
	dry     bool               // in an outage: nothing can be written
	held    []*batch           // with messages, during an outage: not written, and their callers were told
	flight  []*batch           // being committed, in order
	written uint64             // ID of the newest batch that was committed
	durable uint64             // ID of the newest batch that was synced
	marked  [Priorities]uint64 // ID of the batch with the last sent watermark
	crowd   int                // how many waited for the last commit, its leader included
	spare   *batch             // its buffers are used again
}

// begin replaces the open batch by an empty one, and puts it into flight.
func (p *pipeline) begin(first uint64, keep bool) {
	next := &batch{id: 1}
	if p.spare != nil {
		next.buf, next.Batch = p.spare.buf[:0], p.spare.Batch
		p.spare = nil
	}
	next.Keep = keep
	next.Reset(first)
	if p.open != nil {
		next.id = p.open.id + 1
		p.flight = append(p.flight, p.open)
	}
	p.open = next
}

// messages returns the messages of the batches, in order.
func (p *pipeline) messages(list []*index.Batch) []*index.Batch {
	list = list[:0]
	for _, batches := range [][]*batch{p.held, p.flight} {
		for _, b := range batches {
			list = append(list, &b.Batch)
		}
	}
	return append(list, &p.open.Batch)
}

// find returns the batch with an ID, or nil if it is over.
func (p *pipeline) find(id uint64) *batch {
	if id == p.open.id {
		return p.open
	}
	for _, batches := range [][]*batch{p.held, p.flight} {
		for _, b := range batches {
			if b.id == id {
				return b
			}
		}
	}
	return nil
}

// end tells those who wait for the batch.
func (b *batch) end(err error) {
	b.err, b.over = err, true
	if b.done != nil {
		close(b.done)
	}
}

// hold ends the batches in flight with an error, and keeps their records. Those of a batch without
// messages go to the front of the open batch, which has no messages either.
func (p *pipeline) hold(err error) {
	for _, b := range p.flight {
		b.end(err)
		if b.Messages() {
			p.held = append(p.held, b)
			continue
		}
		p.open.buf = append(b.buf, p.open.buf...)
		p.open.Emptied = max(p.open.Emptied, b.Emptied)
		for i := range p.marked {
			if p.marked[i] == b.id {
				p.marked[i] = p.open.id
			}
		}
	}
	p.flight = p.flight[:0]
}

// finish ends the batches in flight, and those that were held. Buffers of at most keep bytes are used
// again.
func (p *pipeline) finish(err error, synced bool, keep int) {
	p.held = nil
	for _, b := range p.flight {
		if err == nil {
			p.written = b.id
		}
		if cap(b.buf) <= keep {
			p.spare = &batch{buf: b.buf, Batch: b.Batch}
		}
		b.buf, b.Batch = nil, index.Batch{}
		p.crowd = int(b.waiters.Load()) + 1
		b.end(err)
	}
	p.flight = p.flight[:0]
	if synced {
		p.durable = p.written
	}
}
