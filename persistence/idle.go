package persistence

import "time"

// Many records need no commit of their own, for example the results of messages. They stay in the
// open batch until the next commit writes them. If no commit follows, the idle write writes the
// batch without a sync. A killed process therefore loses at most the records of the last moment. A
// power failure can still lose all records since the last sync.

// idleAfter is the time between two looks of the idle write at the open batch. The idle write
// commits a batch that was already open at the look before. A record is therefore in the file after
// at most twice this time.
const idleAfter = 50 * time.Millisecond

// idleWrite is the timer of the idle write. Under load, commits end each batch before the timer
// fires twice, so the idle write writes nothing.
type idleWrite struct {
	timer *time.Timer // nil unless it is set
	batch uint64      // ID of the batch that was open when the timer was set
}

func (x *idleWrite) stop() {
	if x.timer != nil {
		x.timer.Stop()
	}
}

// noted is called after records were added to the open batch, because it may be that no caller
// waits for the batch. It starts a commit if the batch is large, or else sets the timer of the idle
// write. mu must be held.
func (l *Log) noted() {
	b := l.pipe.open
	switch {
	case b.led, l.pipe.dry: // a goroutine is going to write the batch
	case len(b.buf) >= l.o.Files.BufferBytes/2:
		if !l.work.flushing {
			l.work.flushing = true
			l.work.Go(func() {
				l.mu.Lock()
				l.work.flushing = false
				_ = l.await(l.pipe.open) // every method returns the error from now on
			})
		}
	case l.work.idle.timer == nil && len(b.buf) > 0 && !l.inline && l.o.idle > 0:
		l.work.idle = idleWrite{time.AfterFunc(l.o.idle, l.lookIdle), b.id}
	}
}

// lookIdle commits the open batch if it was already open when the timer was set. If it is a newer
// batch, lookIdle sets the timer again.
func (l *Log) lookIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.work.idle.batch
	l.work.idle.timer = nil
	if l.usable() != nil {
		return
	}
	if before != l.pipe.open.id {
		l.noted()
		return
	}
	if b := takeIdle(l); b != nil {
		commitLater(l, b)
	}
}

// takeIdle reserves the open batch for the idle write. It returns nil if there is nothing to write,
// or if another goroutine is going to write it. mu must be held.
func takeIdle(l *Log) *batch {
	b := l.pipe.open
	if len(b.buf) == 0 || b.led || l.pipe.dry {
		return nil
	}
	b.idle = true
	take(l, b)
	return b
}

// mayWait reports whether the sync that SyncEveryCommit requires for b may wait for a later commit.
// This is true for a batch of the idle write if no goroutine waits for it and it contains no
// messages. mu must be held.
func (l *Log) mayWait(b *batch) bool {
	return b.idle && !b.force && !b.Messages() && b.waiters.Load() == 0 && l.o.Sync == SyncEveryCommit
}

// owesSync reports whether the newest written batch lacks the sync that SyncEveryCommit requires.
// mu must be held.
func (l *Log) owesSync() bool {
	return l.o.Sync == SyncEveryCommit && l.pipe.durable < l.pipe.written
}

// appendBatch writes a batch to the active segment, and syncs it if the sync policy requires it. At
// most BufferBytes stay unsynced, because the tail keeps no more.
func (l *Log) appendBatch(b *batch) error {
	if b.unsynced {
		return l.writer.AppendUnsynced(b.buf, int64(l.o.Files.BufferBytes))
	}
	return l.writer.Append(b.buf, b.force)
}
