package persistence

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
)

// batch is the content of one commit. It contains the records since the previous commit. The first
// goroutine that waits for a batch commits it for all other goroutines that wait.
type batch struct {
	index.Batch
	id       uint64
	buf      []byte // unsealed records
	force    bool   // sync, whatever the sync policy is
	led      bool   // a goroutine is going to commit it
	ended    bool   // committed or failed
	idle     bool   // the idle write commits it, see Log.noted
	err      error  // valid if ended
	done     chan struct{}
	stalled  chan struct{} // closed when the commit takes longer than WriteTimeout; nil if no goroutine waits
	slow     bool          // the commit has taken longer than WriteTimeout
	unsynced bool          // written without the sync that SyncEveryCommit requires
	timer    *time.Timer   // calls stall
	waiters  atomic.Int32  // number of waiting goroutines, without the one that commits
	crowd    int           // joined is closed when this number of goroutines waits
	joined   chan struct{} // closed when crowd goroutines wait; nil if the commit does not wait for them
}

// idleWrite is the timer of the idle write. Under load, commits end each batch before the timer
// fires twice, so the idle write writes nothing.
type idleWrite struct {
	after time.Duration
	timer *time.Timer // nil unless it is set
	batch uint64      // ID of the batch that was open when the timer was set
}

func (x *idleWrite) stop() {
	if x.timer != nil {
		x.timer.Stop()
	}
}

// mayWait reports whether the sync that SyncEveryCommit requires for b may wait for a later commit.
// This is true for a batch of the idle write if no goroutine waits for it and it contains no
// messages. Log.mu must be held.
func (b *batch) mayWait() bool {
	return b.idle && !b.force && !b.Messages() && b.waiters.Load() == 0
}

// wait returns when the batch has ended. The caller holds mu, and wait releases mu.
func (b *batch) wait(mu *sync.Mutex) {
	if b.ended {
		mu.Unlock()
		return
	}
	b.register()
	mu.Unlock()
	<-b.done
}

// waitFor is like wait, but returns early if ctx ends or the commit takes too long.
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

// stall wakes the callers of waitFor after the commit has taken too long. mu must be held.
func (b *batch) stall() {
	if b.slow = true; b.stalled != nil {
		close(b.stalled)
	}
}

// register counts the caller as a waiting goroutine. mu must be held.
func (b *batch) register() {
	if b.done == nil {
		b.done = make(chan struct{})
	}
	if n := b.waiters.Add(1) + 1; b.joined != nil && int(n) >= b.crowd {
		close(b.joined)
		b.joined = nil
	}
}

// pipeline contains the batches that have not ended, and the batches that are held during an
// outage. Log.mu guards it.
type pipeline struct {
	open      *batch             // takes new records
	outage    *DegradedError     // nil if the disk accepts writes
	dry       bool               // there is an outage, and nothing can be written
	held      []*batch           // during an outage: unwritten batches with messages, whose callers got an error
	flight    []*batch           // batches that are being committed, in order
	written   uint64             // ID of the newest batch that was committed
	durable   uint64             // ID of the newest batch that was synced
	sentBatch [Priorities]uint64 // ID of the batch with the newest sent watermark, by priority
	crowd     int                // goroutines that waited for the last commit, including its leader
	spare     *batch             // its buffers are reused
}

// begin replaces the open batch with an empty one, and moves the old one into flight.
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

// messages returns the message indexes of all batches, in order.
func (p *pipeline) messages(list []*index.Batch) []*index.Batch {
	list = list[:0]
	for _, batches := range [][]*batch{p.held, p.flight} {
		for _, b := range batches {
			list = append(list, &b.Batch)
		}
	}
	return append(list, &p.open.Batch)
}

// find returns the held, committing or open batch with this ID, or nil.
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

// end marks the batch as ended and wakes the goroutines that wait for it.
func (b *batch) end(err error) {
	b.err, b.ended = err, true
	if b.done != nil {
		close(b.done)
	}
}

// hold ends the batches in flight with an error and keeps their records. If a batch contains no
// messages, hold moves its records to the front of the open batch. The open batch contains no
// messages either.
func (p *pipeline) hold(err error) {
	for _, b := range p.flight {
		b.end(err)
		if b.Messages() {
			p.held = append(p.held, b)
			continue
		}
		p.open.buf = append(b.buf, p.open.buf...)
		p.open.Emptied = max(p.open.Emptied, b.Emptied)
		for i := range p.sentBatch {
			if p.sentBatch[i] == b.id {
				p.sentBatch[i] = p.open.id
			}
		}
	}
	p.flight = p.flight[:0]
}

// finish ends the batches in flight and drops the held ones, which are written now or lost. It
// keeps a buffer for reuse if its capacity is at most keep bytes.
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
