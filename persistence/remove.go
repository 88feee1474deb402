package persistence

import (
	"errors"
	"io/fs"
)

// removeDone removes the segments at the front whose messages are all done, with
// the done records durable. Each removal is made durable before the next, so
// that no crash leaves a gap.
func (l *Log) removeDone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
}

// sweep is removeDone with mu held, which it lets go of in between.
func (l *Log) sweep() {
	if l.removing || l.closed {
		return
	}
	l.removing = true
	l.wg.Add(1)
	defer l.wg.Done()
	for l.failed == nil {
		number, name, ok := l.removable()
		if !ok {
			break
		}
		if l.o.Retention.MaxReceipts > 0 && number != 0 && !l.keepReceipts(l.segments[0]) {
			break // the next commit tries again
		}
		l.pause()
		if !l.inline {
			l.reading.leave(number)
		}
		err := l.o.FS.Remove(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = l.o.FS.SyncDir(l.dir)
		}
		l.resume()
		if err != nil {
			break // the next commit tries again
		}
		if number == 0 {
			l.garbage = l.garbage[1:]
		} else {
			gone := l.segments[0]
			l.diskSize -= gone.size
			l.segments[0] = nil // or it would stay in memory
			l.segments = l.segments[1:]
			l.catalog.leave(gone)
			l.ledger.keys.shrink(l.ledger.pending, func(seq uint64) bool { return l.find(seq).alive() })
		}
	}
	l.removing = false
	l.signalRoom()
	if !l.compacting && l.failed == nil && l.compactable() != nil {
		l.compacting = true
		l.wg.Go(l.compact)
	}
}

// removable returns the file to be removed next, and its number if it is a
// segment in use. Files that do not count come
// first: once the segment that voids them is gone, they would count.
func (l *Log) removable() (number uint64, name string, ok bool) {
	if len(l.garbage) > 0 {
		return 0, l.garbage[0], true
	}
	s := l.segments[0]
	if s == l.active() || s.undone+s.dead > 0 || s.emptied > l.durable {
		return 0, "", false
	}
	return s.number, segmentName(l.dir, s.number), true
}
