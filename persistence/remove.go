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
		name, ok := l.removable()
		if !ok {
			break
		}
		l.mu.Unlock()
		l.reading.leave(name)
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

// removable returns the file to be removed next. Files that do not count come
// first: once the segment that voids them is gone, they would count.
func (l *Log) removable() (string, bool) {
	if len(l.garbage) > 0 {
		return l.garbage[0], true
	}
	s := l.segments[0]
	if s == l.active() || s.undone > 0 || s.emptied > l.durable {
		return "", false
	}
	return segmentName(l.dir, s.number), true
}
