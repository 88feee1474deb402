package persistence

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// FS is the part of a file system that the log uses. [OS] is the real one;
// tests put their faults here. Names are paths; errors are those of the
// operating system, so that errors.Is(err, fs.ErrExist) and the like work.
type FS interface {
	// MkdirAll creates dir, and its parents, durably.
	MkdirAll(dir string) error
	// ReadDir returns the names of the regular files in dir.
	ReadDir(dir string) ([]string, error)
	// Create creates a file. The file must not exist.
	Create(name string) (File, error)
	// Open opens a file for reading, and for Sync.
	Open(name string) (File, error)
	// Remove removes a file.
	Remove(name string) error
	// SyncDir makes the creations and removals in dir durable.
	SyncDir(dir string) error
	// Lock takes the lock file name for this process until the result is closed
	// or the process ends. When it is held already: *LockedError.
	Lock(name string) (io.Closer, error)
}

// File is an open file. A write that is not whole returns an error.
type File interface {
	io.WriterAt
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	// Truncate cuts the file off behind size bytes.
	Truncate(size int64) error
	// Sync makes what was written durable, and as much of the file's size as
	// reading it takes.
	Sync() error
}

// OS is the file system of the operating system.
var OS FS = osFS{}

type osFS struct{}

type osFile struct{ *os.File }

// Sync goes without what is not needed to read the data, where the system can
// (fdatasync): over bytes that were there before, it saves the file system's
// own journal.
func (f osFile) Sync() error { return datasync(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (o osFS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := o.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0) // some systems sync only what they may write
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there; the file system journals its names
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // some network and user-space file systems sync names on their own only
	}
	return err
}
