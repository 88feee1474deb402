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

// File is a [Cache] that survives restarts. Committed keys are appended to a log
// and kept in memory while it is open. One process at a time can open a log.
//
// Claims are not stored: after a crash, the messages that were being handled are
// Fresh again, with greater fencing tokens. Concurrent commits share one write
// and one fsync. The log is rewritten when less than half of it is needed.
//
// An unfinished record that a crash left at the end of the log is removed when the log
// is opened. Other damage is counted in Stats.Corrupt: the log is copied to path +
// ".corrupt", replacing an earlier copy, and the undamaged records are recovered. After
// a failed write or fsync, the next commit writes a new log with every key. So does a commit that
// finds the log removed; if it was replaced by another file, commits return a [*CommitError].
//
// Keys age across restarts. The time between two runs is taken from the wall clock
// and counts as at most half of the TTL, in case the wall clock is wrong.
type File struct {
	state
	path string
	fs   fsys.FS
	lock fsys.Held // of path + ".lock"; it guards the log

	// writer is a semaphore of one for the next four and lock. It is acquired before mu.
	writer chan struct{}
	log    fsys.File
	end    int64     // of log: the next record is written here
	broken bool      // a write or fsync failed: log must not be written again
	looked time.Time // when the log was in its place

	// The fields below are guarded by mu.
	open      *batch // commits for the next write
	records   int64  // in the log, including obsolete ones
	compactAt int64  // no rewrite below this number of records, after one failed
	baseToken uint64 // all tokens of earlier processes are below
}

var _ Cache = (*File)(nil)

// OpenFile opens the log at path, or creates it in an existing directory. The
// files path + ".lock" and, temporarily, path + ".new" are created beside it.
// The error is [*LockedError], [ErrFormat], or an error of the file system.
func OpenFile(path string, o Options) (*File, error) { return openFile(path, o, fsys.OS) }

func openFile(path string, o Options, on fsys.FS) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("dedupe: %w", err)
	}
	lock, err := on.Lock(abs + ".lock")
	if err == nil {
		if err = lock.Guard(abs, abs); errors.Is(err, fs.ErrNotExist) {
			err = nil // rewrite guards it
		} else if err != nil {
			_ = lock.Close()
		}
	}
	var locked *fsys.LockedError
	switch {
	case errors.As(err, &locked):
		return nil, &LockedError{Path: abs, PID: locked.PID}
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("dedupe: directory %s does not exist; make it first: %w", filepath.Dir(abs), err)
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

// Close waits for commits, records the age of the keys, syncs and unlocks the log.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true // no further batch can begin
	f.table.wakeAll()
	f.mu.Unlock()

	f.writer <- struct{}{} // never released: nothing is written after this
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
