// Package fsys contains the file system operations that the stores of this module use. Files are
// created once, synced and removed. Names in folders can be made durable. A lock file shows the
// process that holds it. Files that are removed or replaced while in use are detected. Tests
// replace [OS] to inject faults.
package fsys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// FS is a file system. Names are paths. Errors wrap those of the operating system, so
// errors.Is(err, fs.ErrExist) and the like work.
type FS interface {
	// MkdirAll creates a folder and its parents, durably.
	MkdirAll(dir string) error
	// ReadDir returns the names of the regular files in a folder.
	ReadDir(dir string) ([]string, error)
	// Create creates a file. The file must not exist.
	Create(name string) (File, error)
	// Open opens a file for reading, and for Sync.
	Open(name string) (File, error)
	// Remove removes a file.
	Remove(name string) error
	// Rename renames a file within its folder, and replaces an existing file of the new name.
	// Neither file may be open, because some systems refuse that.
	Rename(from, to string) error
	// SyncDir makes the creations, renames and removals in a folder durable.
	SyncDir(dir string) error
	// Lock locks a lock file for this process until the result is closed or the process ends.
	// Error: *LockedError.
	Lock(name string) (Held, error)
}

// File is an open file. A partial write returns an error.
type File interface {
	io.WriterAt
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	// Truncate truncates the file to a size.
	Truncate(size int64) error
	// Sync makes written bytes durable, and the metadata that is needed to read them. It fails with
	// a *GoneError if the file was removed or replaced.
	Sync() error
}

// OS is the file system of the operating system.
var OS FS = osFS{}

type (
	osFS   struct{}
	osFile struct{ *os.File }
)

// Sync uses fdatasync where it exists, because that causes fewer writes to the journal of the file
// system.
func (f osFile) Sync() error { return datasync(f.File) }

// Check returns a *GoneError if the file was removed or replaced.
func (f osFile) Check() error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return inPlace(f.Name(), info)
}

func (f osFile) Size() (size int64, err error) {
	info, err := f.Stat()
	if err == nil {
		size = info.Size()
	}
	return size, err
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
	return SyncDir(parent)
}

func (osFS) ReadDir(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (osFS) Create(name string) (File, error) { return open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL) }

// Open also opens for writing if possible, because some systems only sync writable files.
func (osFS) Open(name string) (File, error) {
	f, err := open(name, os.O_RDWR)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return open(name, os.O_RDONLY)
	}
	return f, err
}

// OpenReadOnly opens a file of the operating system for reading only.
func OpenReadOnly(name string) (File, error) { return open(name, os.O_RDONLY) }

func open(name string, flags int) (File, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error       { return os.Remove(name) }
func (osFS) Rename(from, to string) error   { return os.Rename(from, to) }
func (osFS) SyncDir(dir string) error       { return SyncDir(dir) }
func (osFS) Lock(name string) (Held, error) { return Lock(name) }

// ReadFile returns the content of a file.
func ReadFile(fs FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && !(err == io.EOF && n == len(b)) {
		return nil, err
	}
	return b, nil
}

// readPID returns the process ID in a lock file, or 0.
func readPID(name string) int {
	data, _ := os.ReadFile(name)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return max(pid, 0)
}

// SyncDir makes the creations, renames and removals in a folder durable. On systems that cannot
// sync a folder, it does nothing: Windows journals names, and some network and user-space file
// systems sync names by themselves.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
