package persistence

import (
	"fmt"
	"runtime"
	"time"
)

// newBatch begins the batch after the present one.
func (l *Log) newBatch() *batch {
	b := &batch{id: 1, buf: l.spare.buf, index: l.spare.index}
	l.spare = batch{}
	b.first, b.keep = l.ledger.next, l.o.Retention.MaxReceipts > 0
	if l.cur != nil {
		b.id = l.cur.id + 1
	}
	return b
}

// Wait implements [Store].
func (l *Log) Wait(t Ticket) error {
	l.mu.Lock()
	if t.batch <= l.written || l.inline && t.batch == l.cur.id {
		l.mu.Unlock()
		return nil
	}
	if t.batch == l.cur.id {
		return l.await(l.cur)
	}
	for _, b := range l.flight {
		if b.id == t.batch {
			return l.await(b)
		}
	}
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	return ErrUnknownSequence
}

// Sync implements [Store].
func (l *Log) Sync() error {
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err
	}
	b := l.cur
	if len(b.buf) == 0 || l.inline {
		if len(l.flight) == 0 {
			l.mu.Unlock()
			return nil
		}
		b = l.flight[len(l.flight)-1]
	}
	return l.await(b)
}

// noted sees to it that small records, whose callers never wait, do not pile up.
func (l *Log) noted() {
	if len(l.cur.buf) < l.o.Files.BufferBytes/2 || l.cur.led || l.flushing {
		return
	}
	l.flushing = true
	l.wg.Go(func() {
		l.mu.Lock()
		l.flushing = false
		_ = l.await(l.cur) // a failure is what every method returns from now on
	})
}

// await returns when b is committed, and commits it if nobody else is going to.
// It is entered with mu held and leaves without.
func (l *Log) await(b *batch) error {
	if l.inline {
		defer l.mu.Unlock()
		return l.commitInline()
	}
	if b.led || b.over {
		b.await(&l.mu)
		return b.err
	}
	b.led = true
	for len(l.flight) > 0 {
		l.flight[0].await(&l.mu)
		l.mu.Lock()
	}
	l.gather(b)
	if !b.over { // when the commit before failed, it took b along
		l.commit(b)
	}
	l.mu.Unlock()
	l.removeDone()
	return b.err
}

// commitInline commits the present batch with mu held, where there is no disk to
// wait for.
func (l *Log) commitInline() error {
	b, a := l.cur, l.active()
	if l.failed != nil || l.full(a, b) {
		l.commit(b)
		l.sweep()
		return b.err
	}
	off := l.end
	if err := l.write(b.buf, false); err != nil {
		return err // memory does not fail
	}
	l.installed(a, off, b)
	b.buf, b.moves, b.lines = b.buf[:0], b.moves[:0], b.lines[:0]
	b.index = index{first: l.ledger.next, locs: b.locs[:0], states: b.states[:0], extras: b.extras[:0], keep: b.keep}
	l.written, l.durable = b.id, b.id
	l.sweep()
	return nil
}

// reveal makes what was enqueued visible to Next where nobody waits for it.
func (l *Log) reveal() {
	if l.inline && len(l.cur.locs) > 0 {
		_ = l.commitInline() // a failure is what every method returns from now on
	}
}

// pause lets go of mu for the time of a write, and resume takes it again.
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

// gather lets those whom the last commit woke join b. Otherwise the first of them
// would commit alone while the others wait for the next: fewer messages a sync.
// It yields the processor until as many wait as waited for the last commit, for
// half the time of a sync at most: they are likely to come, and what it costs if
// they do not is bounded.
func (l *Log) gather(b *batch) {
	crowd, patience := l.crowd, time.Duration(l.syncTook.Load()/2)
	if int(b.waiters.Load())+1 >= crowd {
		return
	}
	l.mu.Unlock()
	for begin := time.Now(); int(b.waiters.Load())+1 < crowd && time.Since(begin) < patience; {
		runtime.Gosched()
	}
	l.mu.Lock()
}

// commit writes b, and syncs it as the policy says. It is entered and left with
// mu held, with no other commit under way.
func (l *Log) commit(b *batch) {
	if l.failed != nil {
		l.finish(l.failed, b)
		return
	}
	l.flight = []*batch{b}
	l.cur = l.newBatch()
	a := l.active()
	if l.full(a, b) {
		l.number++
		next := &segment{number: l.number, index: index{first: b.first, keep: b.keep}}
		prev := link{number: a.number, size: l.end}
		checkpoint := appendCheckpoint(nil, &l.ledger, prev)
		l.pause()
		err := l.syncFile()
		if err == nil {
			l.trim()
			err = l.begin(next, prev, b.buf, checkpoint)
		}
		l.resume()
		if err != nil {
			l.rescue(b, err)
			return
		}
		l.segments = append(l.segments, next)
		l.diskSize += next.size
		l.install(next, headerSize, b)
		l.finish(nil, b)
		return
	}
	l.pause()
	off := l.end
	err := l.write(b.buf, b.force)
	l.resume()
	if err != nil {
		l.rescue(b, err)
		return
	}
	l.installed(a, off, b)
	l.finish(nil, b)
}

// full reports whether a batch begins a new segment. What each segment begins with
// does not count: with many streams it may be more than SegmentBytes.
func (l *Log) full(a *segment, b *batch) bool {
	return l.end > l.opening && len(b.buf) > 0 && l.end-l.opening+int64(len(b.buf)) > l.o.Files.SegmentBytes
}

// installed enters a batch that was written to the active segment at off.
func (l *Log) installed(a *segment, off int64, b *batch) {
	a.size = l.end
	l.diskSize += l.end - off
	l.install(a, off, b)
}

func (l *Log) active() *segment { return l.segments[len(l.segments)-1] }

// write appends to the active segment.
func (l *Log) write(buf []byte, force bool) error {
	if len(buf) > 0 {
		seal(buf, l.number, l.end, l.synced == l.end)
		if err := l.put(l.file, buf, l.end); err != nil {
			return fmt.Errorf("writing segment %x: %w", l.number, err)
		}
		l.end += int64(len(buf))
		l.fill()
	}
	// Under SyncInterval no more is unsynced than the tail can write again.
	if l.o.Sync == SyncEveryCommit || force || l.o.Sync == SyncInterval && l.end-l.synced > int64(l.o.Files.BufferBytes) {
		return l.syncFile()
	}
	return nil
}

func (l *Log) syncFile() error {
	if l.synced == l.end {
		return nil
	}
	l.syncs.Add(1)
	l.wear.add(l.synced, l.end, l.ledger.clock.now())
	begin := time.Now()
	err := l.file.Sync()
	l.syncTook.Store(int64(time.Since(begin)))
	if err != nil {
		return fmt.Errorf("syncing segment %x: %w", l.number, err)
	}
	l.synced = l.end
	return nil
}

// begin creates s with its opening and makes it the active file, durably, its
// name included. An error leaves the old one active.
func (l *Log) begin(s *segment, prev link, records, checkpoint []byte) error {
	buf := make([]byte, 0, headerSize+len(records)+len(checkpoint))
	buf = header{number: s.number, epoch: l.epoch, first: s.first, prev: prev}.append(buf)
	buf = append(append(buf, records...), checkpoint...)
	seal(buf[headerSize:], s.number, headerSize, false)
	name := segmentName(l.dir, s.number)
	f, err := l.o.FS.Create(name)
	if err != nil {
		return fmt.Errorf("creating segment %x: %w", s.number, err)
	}
	if err = l.put(f, buf, 0); err == nil {
		l.wear.add(0, int64(len(buf)), l.ledger.clock.now())
		l.syncs.Add(1)
		err = f.Sync()
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.dir)
	}
	if err != nil {
		f.Close()
		l.leftover = append(l.leftover, name)
		return fmt.Errorf("beginning segment %x: %w", s.number, err)
	}
	if l.file != nil {
		l.file.Close() // everything that counts in it was synced
	}
	l.prev, l.opening = prev, int64(headerSize+len(checkpoint))
	l.file, l.end, l.synced, l.filled = f, int64(len(buf)), int64(len(buf)), int64(len(buf))
	s.size = l.end
	return nil
}

// mark writes a checkpoint behind a fence: it vouches for everything before it.
// No commit may be under way.
func (l *Log) mark(force bool) error {
	checkpoint, off := appendCheckpoint(nil, &l.ledger, l.prev), l.end
	err := l.write(checkpoint, force)
	if err == nil {
		l.tail.add(l.number, off, checkpoint)
	}
	return err
}

// install enters a batch, written to s at off, into the index: from now on Next
// finds its messages.
func (l *Log) install(s *segment, off int64, b *batch) {
	s.addFrom(&b.index, 0, off)
	for _, e := range b.lines {
		l.catalog.enter(e.p, e.seq, e.number)
	}
	l.installMoves(s, off, b)
	s.emptied = max(s.emptied, b.emptied)
	if len(b.buf) > 0 {
		l.tail.add(s.number, off, b.buf)
	}
}

// finish ends the commit of the batches, which must be those in flight.
func (l *Log) finish(err error, batches ...*batch) {
	l.flight = nil
	for _, b := range batches {
		if err == nil {
			l.written = b.id
		}
		if cap(b.buf) <= 2*l.o.Files.BufferBytes {
			l.spare = batch{buf: b.buf[:0], index: index{locs: b.locs[:0], states: b.states[:0], extras: b.extras[:0]}}
		}
		b.buf, b.index, b.moves, b.lines = nil, index{}, nil, nil
		b.err, b.over = err, true
		l.crowd = int(b.waiters.Load()) + 1
		if b.done != nil {
			close(b.done)
		}
	}
	if l.synced == l.end {
		l.durable = l.written
	}
	l.garbage = append(l.garbage, l.leftover...)
	l.leftover = nil
}
