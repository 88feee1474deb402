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
		l.mu.Unlock()
		l.reading.leave(number)
		err := l.o.FS.Remove(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = l.o.FS.SyncDir(l.dir)
		}
		l.mu.Lock()
		if err != nil {
			break // the next commit tries again
		}
		if len(l.garbage) > 0 {
			l.garbage = l.garbage[1:]
		} else {
			l.diskSize -= l.segments[0].size
			l.segments = l.segments[1:]
		}
	}
	l.removing = false
}

// removable returns the file to be removed next, and its number if it is a
// segment in use. Files that do not count come
// first: once the segment that voids them is gone, they would count.
func (l *Log) removable() (number uint64, name string, ok bool) {
	if len(l.garbage) > 0 {
		return 0, l.garbage[0], true
	}
	s := l.segments[0]
	if s == l.active() || s.undone > 0 || s.emptied > l.durable {
		return 0, "", false
	}
	return s.number, segmentName(l.dir, s.number), true
}
