package dedupe

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
// a failed write or fsync, the next commit writes a new log with every key.
//
// Keys age across restarts. The time between two runs is taken from the wall clock
// and counts as at most half of the TTL, in case the wall clock is wrong.
type File struct {
	state
	path string
	disk disk
	lock io.Closer

	// writer is a semaphore of one for log and broken. It is acquired before mu.
	writer chan struct{}
	log    logFile
	broken bool // a write or fsync failed: log must not be written again

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
func OpenFile(path string, o Options) (*File, error) { return openFile(path, o, osDisk{}) }

func openFile(path string, o Options, d disk) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("dedupe: %w", err)
	}
	lock, err := fsys.Lock(abs + ".lock")
	var locked *fsys.LockedError
	switch {
	case errors.As(err, &locked):
		return nil, &LockedError{Path: abs, PID: locked.PID}
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("dedupe: directory %s does not exist; make it first: %w", filepath.Dir(abs), err)
	case err != nil:
		return nil, fmt.Errorf("dedupe: cannot lock the log: %w", err)
	}
	o = o.withDefaults()
	f := &File{state: state{opts: o, table: newTable(o)}, path: abs, disk: d, lock: lock, writer: make(chan struct{}, 1)}
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
		if _, err = f.log.Write(appendRecord(nil, f.clock.now(), time.Now().UnixNano(), "")); err == nil {
			err = f.log.Sync()
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

// disk is the file system of a File. Tests use one that fails.
type disk interface {
	ReadFile(path string) ([]byte, error)
	Create(path string) (logFile, error)     // empty, for writing
	OpenAppend(path string) (logFile, error) // existing, every write at the end
	Rename(from, to string) error
	Remove(path string) error
	SyncDir(path string) error
}

type logFile interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

type osDisk struct{}

func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (osDisk) Rename(from, to string) error         { return os.Rename(from, to) }
func (osDisk) Remove(path string) error             { return os.Remove(path) }
func (osDisk) SyncDir(path string) error            { return fsys.SyncDir(path) }

func (osDisk) Create(path string) (logFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
}

func (osDisk) OpenAppend(path string) (logFile, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
}
