package fsys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// LockedError reports that another holder has the lock.
type LockedError struct {
	Name string // path of the lock file, or of the guarded file
	PID  int    // process ID of the holder; 0: unknown
}

func (e *LockedError) Error() string { return "lock held: " + e.Name }

// GoneError reports that a file or folder was removed or replaced while it was in use. Data written
// to it would not be found again. It matches [fs.ErrNotExist].
type GoneError struct {
	Name     string
	Replaced bool // another file or folder has the name
}

func (e *GoneError) Error() string {
	if e.Replaced {
		return e.Name + " was replaced while it was in use"
	}
	return e.Name + " was removed while it was in use"
}

func (e *GoneError) Is(target error) bool { return target == fs.ErrNotExist }

// Held is a lock. It must not be used by several goroutines at once.
type Held interface {
	// Close releases the lock.
	io.Closer
	// Guard also locks the file or folder that the lock protects. A process that has removed the
	// lock file then still fails to lock. from is the present name of the guarded file, and name is
	// its name when Check is called. Check releases the file that was guarded before. File systems
	// without such locks ignore Guard. Error: *LockedError.
	Guard(name, from string) error
	// Check returns a *GoneError if the guarded file or the lock file was removed or replaced. If
	// only the lock file was, and the guarded file was locked all the time, Check creates the lock
	// file again and returns nil.
	Check() error
}

// Unlocked is the Held of a file system that only one process can use.
type Unlocked struct{}

func (Unlocked) Close() error               { return nil }
func (Unlocked) Guard(string, string) error { return nil }
func (Unlocked) Check() error               { return nil }

// CheckFile returns a *GoneError if a file was removed or replaced since it was opened. A file
// whose file system can detect this has a method Check. Sync then performs the check too.
func CheckFile(f File) error {
	if c, ok := f.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// inPlace returns a *GoneError unless name still refers to this file. It ignores errors that do not
// answer this.
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
