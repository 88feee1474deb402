package persistence

import (
	"context"
	"runtime"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// nextBatch begins to write the open batch, and opens the next one.
func (l *Log) nextBatch() {
	l.pipe.begin(l.state.ledger.Next, l.state.keepsReceipts())
	l.state.catalog.Open = l.pipe.messages(l.state.catalog.Open)
}

// Wait implements [Store].
func (l *Log) Wait(ctx context.Context, t Ticket) error {
	l.mu.Lock()
	if t.batch <= l.pipe.written || l.inline && t.batch == l.pipe.open.id {
		l.mu.Unlock()
		return nil
	}
	if b := l.pipe.find(t.batch); b != nil {
		return join(ctx, l, b)
	}
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	return ErrUnknownSequence
}

func (l *Log) Sync() error {
	b, err := l.begin()
	if err != nil {
		return err
	}
	if !l.pipe.dry && len(b.buf) == 0 || l.inline {
		switch n := len(l.pipe.flight); {
		case n > 0 && !l.pipe.flight[n-1].unsynced:
			b = l.pipe.flight[n-1]
		case n == 0 && (l.o.Sync != SyncEveryCommit || l.pipe.durable == l.pipe.written):
			l.mu.Unlock()
			return nil
		}
	}
	return l.await(b)
}

// flush commits the open batch. It returns the errors of join. mu is held before and after.
func (l *Log) flush(ctx context.Context) error {
	err := join(ctx, l, l.pipe.open)
	l.mu.Lock()
	return err
}

// await returns when b is committed. If no goroutine is going to commit b, await commits it. The
// caller holds mu, and await releases mu.
func (l *Log) await(b *batch) error {
	if l.inline {
		defer l.mu.Unlock()
		return l.commitInline()
	}
	switch {
	case b.led, b.ended:
		b.wait(&l.mu)
		return b.err
	case l.pipe.dry: // the records stay in the open batch
		defer l.mu.Unlock()
		return l.pipe.outage
	}
	take(l, b)
	return lead(l, b)
}

// join is like await, but has a time limit. Another goroutine commits. join returns the cause of
// ctx, or a *StalledError after WriteTimeout. If ctx cannot end, join is the same as await.
func join(ctx context.Context, l *Log, b *batch) error {
	if l.inline || b.ended || ctx.Done() == nil || !b.led && (l.pipe.dry || l.closed) {
		return l.await(b)
	}
	if !b.led {
		take(l, b)
		commitLater(l, b)
	}
	return b.waitFor(ctx, &l.mu, l.o.WriteTimeout)
}

// commitLater hands b to the goroutine that commits. mu must be held.
func commitLater(l *Log, b *batch) {
	w := &l.work
	if w.commits == nil {
		w.commits = make(chan *batch, 4) // one batch is open and one is in flight; there can be more after failures
		w.Go(func() { commitThem(l) })
	}
	select {
	case w.commits <- b:
	default:
		w.Go(func() { commitOne(l, b) })
	}
}

// commitThem commits the batches that commitLater sends, until the log is closed.
func commitThem(l *Log) {
	for {
		select {
		case b := <-l.work.commits:
			commitOne(l, b)
		case <-l.work.stop:
			for {
				select {
				case b := <-l.work.commits:
					commitOne(l, b)
				default:
					return
				}
			}
		}
	}
}

func commitOne(l *Log, b *batch) {
	l.mu.Lock()
	_ = lead(l, b) // the callers that wait for b get the error
}

// take reserves b, so that only the caller commits b, and starts the timer for WriteTimeout. mu
// must be held.
func take(l *Log, b *batch) {
	b.led = true
	if timeout := l.o.WriteTimeout; timeout > 0 {
		b.timer = time.AfterFunc(timeout, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			b.stall()
		})
	}
}

// lead commits b after all earlier commits. The caller has called take for b and holds mu. lead
// releases mu.
func lead(l *Log, b *batch) error {
	if b.timer != nil {
		defer b.timer.Stop()
	}
	l.settle()
	l.gather(b)
	if !b.ended { // a failed commit before it also ends b
		l.commit(b)
	}
	l.mu.Unlock()
	l.removeDone()
	return b.err
}

// settle waits until no commit is running. mu is held before and after.
func (l *Log) settle() {
	for len(l.pipe.flight) > 0 {
		l.pipe.flight[0].wait(&l.mu)
		l.mu.Lock()
	}
}

// maxGather is the longest time that a commit waits for other goroutines to join it.
const maxGather = time.Millisecond

// gather waits until b has as many waiters as the last commit had, but at most half the time of a
// sync. Without this wait, the first goroutine that wakes up would commit alone.
func (l *Log) gather(b *batch) {
	if int(b.waiters.Load())+1 >= l.pipe.crowd {
		return
	}
	joined := make(chan struct{})
	b.crowd, b.joined = l.pipe.crowd, joined
	l.mu.Unlock()
	timer := time.NewTimer(min(time.Duration(l.stats.SyncTook.Load())/2, maxGather))
	select {
	case <-joined:
	case <-timer.C:
		runtime.Gosched() // let the goroutines that are about to join run first
	}
	timer.Stop()
	l.mu.Lock()
	b.joined = nil
}

// pause releases mu during a write, and resume locks it again.
func (l *Log) pause() {
	if !l.inline {
		l.mu.Unlock()
	}
}

func (l *Log) resume() {
	if !l.inline {
		l.mu.Lock()
	}
}

// commit writes the open batch and syncs it under the sync policy. mu is held before and after. No
// other commit may be running.
func (l *Log) commit(b *batch) {
	if l.failed != nil {
		l.nextBatch()
		l.finish(l.failed)
		return
	}
	l.nextBatch()
	if l.writer.Full(len(b.buf)) || l.waste.full {
		l.waste.full = false
		prev := segment.Link{Number: l.writer.Number, Size: l.writer.End}
		checkpoint := l.state.ledger.AppendCheckpoint(nil, prev)
		l.pause()
		err := l.writer.Sync()
		if err == nil {
			l.writer.Trim()
			err = l.writer.Begin(segment.Header{First: b.First, Prev: prev}, b.buf, checkpoint)
		}
		l.resume()
		if err != nil {
			l.rewrite(err)
			return
		}
		next := &index.Segment{Number: l.writer.Number, Size: l.writer.End, Index: index.Index{First: b.First, Keep: b.Keep}}
		l.state.catalog.Segments = append(l.state.catalog.Segments, next)
		l.waste.size += next.Size
		l.install(next, segment.HeaderSize, b)
		l.finish(nil)
		if l.pipe.outage == nil {
			_ = keepReserve(l) // the next segment tries again
		}
		return
	}
	b.unsynced = l.o.Sync == SyncEveryCommit && b.mayWait()
	l.pause()
	off := l.writer.End
	var err error
	if b.unsynced { // at most BufferBytes, because the tail keeps no more
		err = l.writer.AppendUnsynced(b.buf, int64(l.o.Files.BufferBytes))
	} else {
		err = l.writer.Append(b.buf, b.force)
	}
	l.resume()
	if err != nil {
		l.rewrite(err)
		return
	}
	l.appended(b, off)
	l.finish(nil)
}

// commitInline commits the open batch to memory with mu held.
func (l *Log) commitInline() error {
	b := l.pipe.open
	if l.failed != nil || l.waste.full || l.writer.Full(len(b.buf)) {
		l.commit(b)
		l.sweep()
		return b.err
	}
	off := l.writer.End
	if err := l.writer.Append(b.buf, false); err != nil {
		return err // cannot happen: memory does not fail
	}
	l.appended(b, off)
	b.buf = b.buf[:0]
	b.Reset(l.state.ledger.Next)
	l.pipe.written, l.pipe.durable = b.id, b.id
	l.sweep()
	return nil
}

// reveal commits the enqueued messages of a store in memory, so that Next returns these messages.
func (l *Log) reveal() {
	if l.inline && len(l.pipe.open.Locs) > 0 {
		_ = l.commitInline() // every method returns the error from now on
	}
}

// appended adds a batch to the catalog. The batch is at offset off of the active segment.
func (l *Log) appended(b *batch, off int64) {
	a := l.state.catalog.Active()
	a.Size = l.writer.End
	l.waste.size += a.Size - off
	l.install(a, off, b)
}

// install adds a batch to the catalog. The batch is at offset off of segment s. From now on Next
// returns its messages.
func (l *Log) install(s *index.Segment, off int64, b *batch) {
	l.state.catalog.Install(s, off, &b.Batch, b.id)
	if len(b.buf) > 0 {
		l.tail.Add(s.Number, off, b.buf)
	}
}

// finish ends the commit of the batches in flight.
func (l *Log) finish(err error) {
	l.pipe.finish(err, l.writer.Durable == l.writer.End, 2*l.o.Files.BufferBytes)
	l.state.catalog.Open = l.pipe.messages(l.state.catalog.Open)
	l.waste.garbage = append(l.waste.garbage, l.writer.Leftover...)
	l.writer.Leftover = nil
}

// fence writes a checkpoint that marks all earlier records as synced.
func (l *Log) fence(force bool) error {
	checkpoint, off := l.state.ledger.AppendCheckpoint(nil, l.writer.Prev), l.writer.End
	err := l.writer.Append(checkpoint, force)
	if err == nil {
		l.tail.Add(l.writer.Number, off, checkpoint)
	}
	return err
}
