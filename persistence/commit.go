package persistence

import (
	"context"
	"runtime"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// nextBatch puts the open batch into flight and begins the next one.
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
		n := len(l.pipe.flight)
		if n == 0 {
			l.mu.Unlock()
			return nil
		}
		b = l.pipe.flight[n-1]
	}
	return l.await(b)
}

// flush commits the open batch as join does, with mu held before and after.
func (l *Log) flush(ctx context.Context) error {
	err := join(ctx, l, l.pipe.open)
	l.mu.Lock()
	return err
}

// noted limits how many small records pile up, whose callers never wait.
func (l *Log) noted() {
	if b := l.pipe.open; len(b.buf) < l.o.Files.BufferBytes/2 || b.led || l.work.flushing || l.pipe.dry {
		return
	}
	l.work.flushing = true
	l.work.Go(func() {
		l.mu.Lock()
		l.work.flushing = false
		_ = l.await(l.pipe.open) // every method returns the error from now on
	})
}

// await returns when b is committed, and commits it if nobody else is going to. It
// is entered with mu held and leaves without.
func (l *Log) await(b *batch) error {
	if l.inline {
		defer l.mu.Unlock()
		return l.commitInline()
	}
	switch {
	case b.led, b.over:
		b.wait(&l.mu)
		return b.err
	case l.pipe.dry: // the records stay in the open batch
		defer l.mu.Unlock()
		return l.pipe.outage
	}
	take(l, b)
	return lead(l, b)
}

// join is await for a caller that waits for a limited time: another goroutine commits. It returns the cause
// of ctx if that ends first, and a *StalledError after WriteTimeout. With a ctx that cannot end it is await,
// which saves the other goroutine.
func join(ctx context.Context, l *Log, b *batch) error {
	if l.inline || b.over || ctx.Done() == nil || !b.led && (l.pipe.dry || l.closed) {
		return l.await(b)
	}
	if !b.led {
		take(l, b)
		commitLater(l, b)
	}
	return b.waitFor(ctx, &l.mu, l.o.WriteTimeout)
}

// commitLater has the log's own goroutine commit b, with mu held.
func commitLater(l *Log, b *batch) {
	w := &l.work
	if w.commits == nil {
		w.commits = make(chan *batch, 4) // one is open, one is being committed, and failures take some along
		w.Go(func() { commitThem(l) })
	}
	select {
	case w.commits <- b:
	default:
		w.Go(func() { commitOne(l, b) })
	}
}

// commitThem commits what commitLater is called for, until the log is closed.
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
	_ = lead(l, b) // those who wait get the error
}

// take has nobody else lead b, which stalls after WriteTimeout, with mu held.
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

// lead commits b, which is taken, when it is the turn of b. It is entered with mu held and leaves without.
func lead(l *Log, b *batch) error {
	if b.timer != nil {
		defer b.timer.Stop()
	}
	l.settle()
	l.gather(b)
	if !b.over { // when the commit before failed, it took b along
		l.commit(b)
	}
	l.mu.Unlock()
	l.removeDone()
	return b.err
}

// settle waits until no commit is under way, with mu held before and after.
func (l *Log) settle() {
	for len(l.pipe.flight) > 0 {
		l.pipe.flight[0].wait(&l.mu)
		l.mu.Lock()
	}
}

// maxGather is how long a commit waits for others to join it, at most.
const maxGather = time.Millisecond

// gather lets the goroutines that the last commit woke join b. Otherwise the first of
// them would commit alone: fewer messages a sync. It waits until as many wait as waited
// for the last commit, for half the time of a sync and maxGather at most.
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
		runtime.Gosched() // those that are about to join run first
	}
	timer.Stop()
	l.mu.Lock()
	b.joined = nil
}

// pause releases mu for the time of a write, and resume takes it again.
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

// commit writes the open batch, and syncs it as the policy says. It is entered and
// left with mu held, with no other commit under way.
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
	l.pause()
	off := l.writer.End
	err := l.writer.Append(b.buf, b.force)
	l.resume()
	if err != nil {
		l.rewrite(err)
		return
	}
	l.appended(b, off)
	l.finish(nil)
}

// commitInline commits the open batch with mu held: there is no disk to wait for.
func (l *Log) commitInline() error {
	b := l.pipe.open
	if l.failed != nil || l.waste.full || l.writer.Full(len(b.buf)) {
		l.commit(b)
		l.sweep()
		return b.err
	}
	off := l.writer.End
	if err := l.writer.Append(b.buf, false); err != nil {
		return err // memory does not fail
	}
	l.appended(b, off)
	b.buf = b.buf[:0]
	b.Reset(l.state.ledger.Next)
	l.pipe.written, l.pipe.durable = b.id, b.id
	l.sweep()
	return nil
}

// reveal makes enqueued messages visible to Next where nobody waits for them.
func (l *Log) reveal() {
	if l.inline && len(l.pipe.open.Locs) > 0 {
		_ = l.commitInline() // every method returns the error from now on
	}
}

// appended enters a batch that was written to the active segment at off.
func (l *Log) appended(b *batch, off int64) {
	a := l.state.catalog.Active()
	a.Size = l.writer.End
	l.waste.size += a.Size - off
	l.install(a, off, b)
}

// install enters a batch that was written to s at off. Next returns its messages now.
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

// fence writes a checkpoint that is a fence: what is before it was synced.
func (l *Log) fence(force bool) error {
	checkpoint, off := l.state.ledger.AppendCheckpoint(nil, l.writer.Prev), l.writer.End
	err := l.writer.Append(checkpoint, force)
	if err == nil {
		l.tail.Add(l.writer.Number, off, checkpoint)
	}
	return err
}
