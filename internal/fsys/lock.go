package fsys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// LockedError is returned if another holder has the lock.
type LockedError struct {
	Name string // path of the lock file, or of what it guards
	PID  int    // process that holds it; 0: unknown
}

func (e *LockedError) Error() string { return "lock held: " + e.Name }

// GoneError reports a file or folder that was removed or replaced while it was in use: what is
// written to it would not be found again. It is an [fs.ErrNotExist].
type GoneError struct {
	Name     string
	Replaced bool // something else has the name
}

func (e *GoneError) Error() string {
	if e.Replaced {
		return e.Name + " was replaced while it was in use"
	}
	return e.Name + " was removed while it was in use"
}

func (e *GoneError) Is(target error) bool { return target == fs.ErrNotExist }

// Held is a lock. One goroutine at a time uses it.
type Held interface {
	// Close releases the lock.
	io.Closer
	// Guard also locks what the lock is for, a file or a folder: somebody who has removed the lock file
	// is refused by it. It is there under the name from, and under name when Check is called, which also
	// releases what was guarded before. Error: *LockedError. File systems without such locks ignore Guard.
	Guard(name, from string) error
	// Check returns a *GoneError unless the guarded file and the lock file are in their places. A lock file
	// that was removed is made again if nobody can have used what is guarded meanwhile.
	Check() error
}

// Unlocked is a Held of a file system that only its owner can use.
type Unlocked struct{}

func (Unlocked) Close() error               { return nil }
func (Unlocked) Guard(string, string) error { return nil }
func (Unlocked) Check() error               { return nil }

// CheckFile returns a *GoneError if a file was removed or replaced since it was opened. A file has the method
// Check if its file system knows; Sync then includes it.
func CheckFile(f File) error {
	if c, ok := f.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// inPlace returns a *GoneError unless name is that file. It ignores errors that say nothing about that.
func inPlace(name string, is os.FileInfo) error {
	now, err := os.Stat(name)
	switch {
	case err == nil && !os.SameFile(is, now):
		return &GoneError{Name: name, Replaced: true}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return &GoneError{Name: name}
	}
	return nil
}
