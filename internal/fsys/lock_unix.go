//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package fsys

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
)

// Lock locks a lock file with flock. The system releases the lock when the process
// ends. It belongs to the open file, so a second Lock in the same process fails too.
// The file stays: removing it would allow two locks. Error: *LockedError.
func Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Name: name, PID: readPID(name)}
		}
		return nil, &os.PathError{Op: "flock", Path: name, Err: err}
	}
	// The PID is information for people; the lock does not depend on it.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return held{f}, nil
}

// held is a locked file.
type held struct{ *os.File }

// Close unlocks the file, also for a child process that has its descriptor until it calls exec.
func (h held) Close() error {
	return errors.Join(syscall.Flock(int(h.Fd()), syscall.LOCK_UN), h.File.Close())
}
