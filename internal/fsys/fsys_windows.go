package fsys

import (
	"errors"
	"os"
	"syscall"
)

const sharingViolation = syscall.Errno(32)

// Lock opens a lock file without sharing, so it cannot be removed while it is open. The system
// closes the file whenever the process ends. Error: *LockedError.
func Lock(name string) (Held, error) {
	path, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	const noSharing = 0
	h, err := syscall.CreateFile(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE, noSharing, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err == sharingViolation {
		return nil, &LockedError{Name: name}
	}
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	return held{File: os.NewFile(uintptr(h), name)}, nil
}

type held struct {
	*os.File
	Unlocked
}

// Close releases the lock.
func (h held) Close() error { return h.File.Close() }

// Holder reports whether a process holds a lock. The process ID is unknown. Holder tries to open
// the lock file, which fails while another process has it open without sharing.
func Holder(name string) (held bool, pid int) {
	f, err := os.Open(name)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, sharingViolation), 0
}
