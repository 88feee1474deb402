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

// File is a [Cache] that keeps its keys across restarts. It appends committed keys to a log file,
// and keeps all keys in memory while it is open. Only one process at a time can open a log.
//
// File does not store claims. After a crash, a message that was being handled is Fresh again, with
// a greater fencing token. Concurrent commits share one write and one fsync. File rewrites the log
// when it needs less than half of the records in the log.
//
// When File opens the log, it removes an unfinished record at the end of the log. It counts other
// damage in Stats.Corrupt. It then copies the damaged log to path + ".corrupt", which replaces an
// earlier copy, and uses all undamaged records. After a failed write or fsync, the next commit
// writes a new log with all keys. A commit also writes a new log if the log was removed. If another
// file has replaced the log, commits return [*CommitError].
//
// The age of a key includes the time during which the log was closed. File measures this time by
// the wall clock. In case the wall clock is wrong, File adds at most half of the TTL to the age.
type File struct {
	state
	path string
	fs   fsys.FS
	lock fsys.Held // the lock of the file path + ".lock", which guards the log

	// writer is a semaphore with capacity 1. It guards lock and the next four fields. A goroutine
	// that needs both writer and mu acquires writer first.
	writer chan struct{}
	log    fsys.File
	end    int64     // offset of the end of the log, where the next record is written
	broken bool      // a write or fsync failed, so log must not be written to
	looked time.Time // the time at which look last succeeded

	// The fields below are guarded by mu.
	open      *batch // commits for the next write
	records   int64  // records in the log, including obsolete ones
	compactAt int64  // set after a failed rewrite; the log is not rewritten below this number of records
	baseToken uint64 // greater than all tokens of earlier processes
}

var _ Cache = (*File)(nil)

// OpenFile opens the log at path. It creates the log if it does not exist, and the directory of
// path with mode 0700. OpenFile also creates the file path + ".lock" and, temporarily, the file
// path + ".new".
//
// If the log exists and the disk refuses writes, OpenFile succeeds. A full disk is an example. The
// keys in the log are Duplicates, and commits return [*CommitError] until the disk accepts writes
// again. OpenFile fails in this situation only if it cannot guarantee that its tokens are greater
// than all earlier ones. This can happen if the log was opened in this situation less than about 20
// minutes ago and has been written since then.
//
// Errors: [*LockedError], [ErrFormat], or an error of the file system.
func OpenFile(path string, o Options) (*File, error) { return openFile(path, o, fsys.OS) }

func openFile(path string, o Options, on fsys.FS) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("dedupe: %w", err)
	}
	if err := on.MkdirAll(filepath.Dir(abs)); err != nil {
		return nil, cannot("create the directory", err)
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

// Close waits for running commits, and then syncs and unlocks the log. Before the sync it writes
// the present time to the log. The next opening needs this time to compute the age of the keys.
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
