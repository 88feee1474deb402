package dedupe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// File is a [Cache] that survives restarts: an append-only log of committed
// keys, held in memory while it is open. Claims in flight are not in it, so
// after a crash their messages are Fresh again.
//
// Commits that come together are written together and share one fsync, without
// a goroutine: one of the callers writes for all. When less than half of the
// log is still of use it is written anew beside the old one, which the rename
// replaces at once.
//
// What went wrong is told apart when the log is opened. An unfinished record at
// the end is what a crash leaves: it is cut off. Damage anywhere else is not:
// the log is copied to path + ".corrupt" first (the newest such copy is kept),
// everything around the damage is recovered, and Stats.Corrupt counts it.
//
// A failed write or fsync ends the use of that file: the next commit writes a
// new one with every key, including those whose Commit failed.
//
// Age counts on across restarts: a key that was 20 minutes old is 20 minutes
// plus the downtime old when the log is opened again. Only the downtime is
// taken from the wall clock, and at most half of the TTL of it, so that a
// device that starts in 1970 and then learns the time forgets nothing at once.
type File struct {
	path string
	opts Options
	disk disk
	lock *os.File

	// writer is the right to touch log and broken: whoever puts the one token in
	// is the writer until taking it out again. Order: writer before mu.
	writer chan struct{}
	log    logFile
	broken bool // log must not be written any more

	mu      sync.Mutex
	closed  bool
	clock   clock
	table   table
	open    *batch // collects commits for the next write
	records int64  // in the log, dead ones too

	compactAt int64 // records below which a rewrite that failed is not tried again
}

var _ Cache = (*File)(nil)

// LockedError says that another process (or another File of this one) has the
// log open.
type LockedError struct {
	Path   string
	Holder string // what the holder wrote down, its process ID; may be empty
}

// Error names the holder.
func (e *LockedError) Error() string {
	holder := "another process"
	if e.Holder != "" {
		holder = "process " + e.Holder
	}
	return fmt.Sprintf("dedupe: %s is in use by %s; stop it or use another path", e.Path, holder)
}

// ErrFormat says that the file is not a log of this package.
var ErrFormat = errors.New("dedupe: not a dedupe log; use another path, or move the file away if it should have been one")

// OpenFile opens the log at path, or creates it; its folder must exist. Beside
// it lie path + ".lock" and, for moments, path + ".new". Errors: [*LockedError],
// [ErrFormat], and those of the file system.
func OpenFile(path string, o Options) (*File, error) { return openFile(path, o, osDisk{}) }

func openFile(path string, o Options, d disk) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("dedupe: %w", err)
	}
	lock, err := lockFile(abs + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("dedupe: there is no folder %s; make it first: %w", filepath.Dir(abs), err)
	}
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	f := &File{path: abs, opts: o, disk: d, lock: lock, writer: make(chan struct{}, 1), table: newTable(o)}
	if err := f.recover(); err != nil {
		f.closeLog()
		unlockFile(lock)
		return nil, err
	}
	f.opts.tell(f.table.departures())
	return f, nil
}

// Begin implements [Cache]. It does not touch the disk.
func (f *File) Begin(key string) (Verdict, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return 0, ErrClosed
	}
	v, err := f.table.begin(key, f.clock.now())
	gone := f.table.departures()
	f.mu.Unlock()
	f.opts.tell(gone)
	return v, err
}

// Abort implements [Cache]. It does not touch the disk.
func (f *File) Abort(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.table.abort(key)
	return nil
}

// Stats implements [Cache].
func (f *File) Stats() Stats {
	f.mu.Lock()
	f.table.expire(f.clock.now())
	gone := f.table.departures()
	stats := f.table.snapshot()
	f.mu.Unlock()
	f.opts.tell(gone)
	return stats
}

// Close waits for commits under way, writes down how old the keys are and gives
// the file free. With [SyncNever] it syncs, so an orderly end loses nothing.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true // no further batch can begin
	f.mu.Unlock()

	f.writer <- struct{}{} // kept: nobody writes after this
	gone := f.write()
	var err error
	if f.broken {
		err = f.rewrite()
	}
	if !f.broken {
		now := f.clock.now()
		if _, err = f.log.Write(appendRecord(nil, now, time.Now().UnixNano(), "")); err == nil {
			err = f.log.Sync()
		}
	}
	if cerr := f.closeLog(); err == nil {
		err = cerr
	}
	unlockFile(f.lock)
	f.opts.tell(gone)
	if err != nil {
		return &CommitError{Path: f.path, Err: err}
	}
	return nil
}
