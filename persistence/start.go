package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// start reads what is in the folder and begins a new segment. Files that exist
// are never appended to, so no write follows one of unknown fate. The end of the
// last segment is taken over into the new one, see takeOverFrom.
func (l *Log) start() error {
	r := recovery{log: l}
	defer r.close()
	if err := r.run(); err != nil {
		return err
	}
	g := &r.ledger
	if now := uint64(time.Now().UnixMilli()); g.epoch == 0 || r.stale {
		g.epoch = max(now, g.epoch+1)
	}
	g.boot++
	g.clock.begin(g.latest, g.pending > 0)
	l.ledger, l.epoch, l.boot = *g, g.epoch, g.boot
	if r.newest+1 == maxSegment {
		return &FolderError{Dir: l.dir, Fix: "remove it, it is not a segment of this log", Err: fmt.Errorf("%s is in the way", segmentName(l.dir, r.newest))}
	}
	l.number = r.newest + 1
	l.garbage = r.void

	next := &segment{number: l.number, index: index{first: g.next, keep: l.o.Retention.MaxReceipts > 0}}
	var prev link
	var records []byte
	if g.pending == 0 && len(g.graves) == 0 && l.o.Retention.MaxReceipts == 0 {
		for _, s := range r.segments {
			l.garbage = append(l.garbage, segmentName(l.dir, s.number))
		}
		r.catalog = catalog{}
	}
	if n := len(r.segments); n > 0 {
		last := r.segments[n-1]
		prev = link{number: last.number, size: last.size}
		if from := r.takeOverFrom(last); from > 0 {
			var err error
			if records, err = r.takeOver(last, from, next); err != nil {
				return err
			}
			last.size = from
			prev.size = from
			if from == headerSize {
				l.garbage = append(l.garbage, segmentName(l.dir, last.number))
				prev = r.last.header.prev
				r.segments = r.segments[:n-1]
			}
		}
	}
	// A process that was killed may have made files whose names are not durable.
	// The new segment must not become so before those it is linked to.
	if len(r.files) > 0 {
		if err := l.o.FS.SyncDir(l.dir); err != nil {
			return err
		}
	}
	l.catalog = r.catalog
	l.segments = append(l.segments, next)
	if err := l.loadReceipts(); err != nil { // they may be of a newer version: nothing was changed yet
		return err
	}
	if err := l.begin(next, prev, records, appendCheckpoint(nil, &l.ledger, prev)); err != nil {
		return errors.Join(err, l.removeLeftover())
	}
	for _, s := range l.segments {
		l.diskSize += s.size
	}
	l.cur = l.newBatch()
	before := l.end
	if err := l.mark(false); err != nil {
		return err
	}
	next.size = l.end
	l.diskSize += l.end - before
	l.boundGraves() // a crash may have come between a dead letter and what it drove out
	r.close()       // some systems remove no open files
	l.removeDone()
	return nil
}

// removeLeftover removes the segment that could not be begun: Open has failed,
// and nobody else will.
func (l *Log) removeLeftover() error {
	var err error
	for _, name := range l.leftover {
		err = errors.Join(err, l.o.FS.Remove(name))
	}
	return err
}

// folderError says what to do about the reasons that have a remedy.
func folderError(dir string, err error) error {
	var version *VersionError
	var folder *FolderError
	if errors.As(err, &version) || errors.As(err, &folder) {
		return err
	}
	fix := "check the disk and the system's log, then open it again"
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		fix = "a file is in its place: remove the file or choose another folder"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		fix = "let this user write to it, or choose another folder"
	case errors.Is(err, syscall.ENOSPC):
		fix = "free space on the disk, then open it again"
	}
	return &FolderError{Dir: dir, Fix: fix, Err: err}
}
