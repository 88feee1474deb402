package dedupe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// File is a [Cache] that survives restarts. It appends committed keys to a log, and keeps them in
// memory while it is open. Only one process at a time can open a log.
//
// Claims are not stored. After a crash, the messages that were being handled are Fresh again, with
// greater fencing tokens. Concurrent commits share one write and one fsync. File rewrites the log
// when less than half of it is needed.
//
// When the log is opened, an unfinished record at its end is removed. Other damage is counted in
// Stats.Corrupt. The log is then copied to path + ".corrupt", which replaces an earlier copy, and
// all undamaged records are used. After a failed write or fsync, the next commit writes a new log
// with all keys. A commit does the same if the log was removed. If the log was replaced by another
// file, commits return [*CommitError].
//
// Keys age across restarts. The time between two runs is measured by the wall clock. It counts as
// at most half of the TTL, in case the wall clock is wrong.
type File struct {
	state
	path string
	fs   fsys.FS
	lock fsys.Held // of path + ".lock"; it guards the log

	// writer is a semaphore with capacity 1. It guards lock and the next four fields. It is
	// acquired before mu.
	writer chan struct{}
	log    fsys.File
	end    int64     // end of the log, where the next record is written
	broken bool      // a write or fsync failed, so log must not be written to
	looked time.Time // when look last succeeded

	// The fields below are guarded by mu.
	open      *batch // commits for the next write
	records   int64  // records in the log, including obsolete ones
	compactAt int64  // after a failed rewrite: no rewrite below this number of records
	baseToken uint64 // above all tokens of earlier processes
}

var _ Cache = (*File)(nil)

// OpenFile opens the log at path. It creates the log if it does not exist; the directory must
// exist. It also creates the file path + ".lock" and, temporarily, path + ".new". Errors:
// [*LockedError], [ErrFormat], or an error of the file system.
//
// If there is a log and the disk refuses writes, for example because it is full, OpenFile succeeds:
// the keys in the log are Duplicates, and commits return [*CommitError] until the disk takes writes.
// OpenFile returns the error nevertheless if it could not give out greater tokens: within about 20
// minutes of an earlier such opening that has written the log since.
func OpenFile(path string, o Options) (*File, error) { return openFile(path, o, fsys.OS) }

func openFile(path string, o Options, on fsys.FS) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("dedupe: %w", err)
	}
	lock, err := on.Lock(abs + ".lock")
	if err == nil {
		if err = lock.Guard(abs, abs); errors.Is(err, fs.ErrNotExist) {
			err = nil // rewrite will guard it
		} else if err != nil {
			_ = lock.Close()
		}
	}
	var locked *fsys.LockedError
	switch {
	case errors.As(err, &locked):
		return nil, &LockedError{Path: abs, PID: locked.PID}
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("dedupe: directory %s does not exist: %w; create it first", filepath.Dir(abs), err)
	case err != nil:
		return nil, cannot("lock the log", err)
	}
	o = o.withDefaults()
	f := &File{state: state{opts: o, table: newTable(o)}, path: abs, fs: on, lock: lock, writer: make(chan struct{}, 1)}
	if err := f.recover(); err != nil {
		f.closeLog()
		lock.Close()
		return nil, err
	}
	f.mu.Lock()
	f.unlock()
	return f, nil
}

// Close waits for commits, writes the present time to the log for the age of its keys, and then
// syncs and unlocks the log.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true // from now on no batch can begin
	f.table.wakeAll()
	f.mu.Unlock()

	f.writer <- struct{}{} // never released, so nothing is written after this
	f.write()
	var err error
	if f.broken {
		err = f.rewrite()
	}
	if !f.broken {
		err = f.append(appendRecord(nil, f.clock.now(), time.Now().UnixNano(), ""), true)
		if err != nil {
			f.broken = true
			err = f.rewrite()
		}
	}
	err = cmp.Or(err, f.closeLog())
	f.lock.Close()
	f.mu.Lock()
	f.unlock()
	if err != nil {
		return &CommitError{Path: f.path, Err: err}
	}
	return nil
}
