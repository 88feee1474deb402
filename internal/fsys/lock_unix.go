//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// Lock locks a lock file with flock. The system releases the lock when the process ends. The lock
// belongs to the open file, so a second Lock in the same process fails too. The lock file is never
// removed, because that would allow two locks. Error: *LockedError.
func Lock(name string) (Held, error) {
	h := &held{name: name}
	if err := h.lock(); err != nil {
		return nil, err
	}
	return h, nil
}

// held is a locked lock file and the file that it guards.
type held struct {
	name, guards string
	file, guard  *os.File // guard is nil if nothing is guarded, or if the guarded file cannot be locked
	before       *os.File // released by the next Check
	is, guarded  os.FileInfo
}

// lock opens and locks the lock file, which may have been replaced.
func (h *held) lock() error {
	f, err := os.OpenFile(h.name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) { // flock works on a read-only file
		if r, e := os.Open(h.name); e == nil {
			f, err = r, nil
		}
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = flock(f)
	}
	if err == nil { // another process may have removed it before it was locked
		err = inPlace(h.name, info)
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return &LockedError{Name: h.name, PID: readPID(h.name)}
		}
		return err
	}
	// The process ID is for people and for Holder. The lock does not depend on it.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if h.file != nil {
		_ = unlock(h.file)
	}
	h.file, h.is = f, info
	return nil
}

func (h *held) Guard(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	switch err := flock(f); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		_ = f.Close()
		_, pid := Holder(from)
		return &LockedError{Name: from, PID: pid}
	case err != nil: // network file systems cannot lock folders
		_ = f.Close()
		f = nil
	}
	_ = h.release()
	h.before = h.guard
	h.guards, h.guard, h.guarded = name, f, info
	return nil
}

// release releases the file that was guarded before.
func (h *held) release() error {
	f := h.before
	h.before = nil
	if f == nil {
		return nil
	}
	return unlock(f)
}

func (h *held) Check() error {
	_ = h.release()
	if h.guarded != nil {
		if err := inPlace(h.guards, h.guarded); err != nil {
			return err
		}
	}
	err := inPlace(h.name, h.is)
	if err == nil || h.guard == nil {
		return err
	}
	// The guarded file stayed locked, so a process that removed the lock file cannot have used it.
	// If the lock file cannot be created or locked now, the next Check tries again.
	_ = h.lock()
	return nil
}

// Close releases the locks. They would otherwise live on in a child process that has inherited the
// descriptors.
func (h *held) Close() error {
	err := h.release()
	if h.guard != nil {
		err = errors.Join(err, unlock(h.guard))
	}
	return errors.Join(err, unlock(h.file))
}

// flock locks a file. It returns EWOULDBLOCK if another process has locked it.
func flock(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}
