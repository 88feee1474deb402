package persistence

import "fmt"

// rescue is called when a write or an fsync failed. What the active file holds
// beyond the last fsync cannot be trusted, nor made durable by another fsync of
// the same file. All of it is written to a new segment, together with b and with
// what has come since, whose link voids the rest of the old one. If that fails
// too, the log has failed.
func (l *Log) rescue(b *batch, cause error) {
	a, c := l.active(), l.cur
	l.flight = []*batch{b, c}
	l.cur = l.newBatch()
	unsynced := a.size - l.synced
	var records []byte
	if unsynced > 0 {
		if records = l.tail.from(a.number, l.synced); int64(len(records)) != unsynced {
			l.fail(cause) // only under SyncNever: too much to keep in memory
			return
		}
	}
	records = append(append(append([]byte(nil), records...), b.buf...), c.buf...)
	l.number++
	next := &segment{number: l.number, index: index{keep: a.keep}}
	next.first = a.first + uint64(a.split(l.synced))
	prev := link{number: a.number, size: l.synced}
	checkpoint := appendCheckpoint(nil, &l.ledger, prev)
	l.pause()
	err := l.begin(next, prev, records, checkpoint)
	l.resume()
	if err != nil {
		l.fail(fmt.Errorf("%w; then %w", cause, err))
		return
	}
	tail := a.cut(prev.size)
	next.addFrom(&tail, 0, headerSize-prev.size)
	l.rehomeFrom(a, prev.size, next)
	next.emptied = a.emptied
	l.diskSize += next.size - unsynced
	a.size = prev.size
	l.segments = append(l.segments, next)
	off := headerSize + unsynced
	l.install(next, off, b)
	l.install(next, off+int64(len(b.buf)), c)
	l.finish(nil, b, c)
}

// fail ends the log: nothing is accepted until it is opened again.
func (l *Log) fail(cause error) {
	l.failed = &FailedError{Op: "writing twice", Err: cause}
	l.finish(l.failed, l.flight...)
}
