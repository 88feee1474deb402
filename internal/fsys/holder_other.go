//go:build !(linux || windows)

package fsys

import (
	"errors"
	"os"
	"syscall"
)

// Holder reports whether the process whose ID is in the lock file is alive, and returns that ID. It
// does not take the lock, because that could make a concurrent Lock fail. If another process has
// reused the ID, Holder reports a free lock as held.
func Holder(name string) (held bool, pid int) {
	pid = readPID(name)
	p, err := os.FindProcess(pid)
	if pid == 0 || err != nil {
		return false, 0
	}
	defer func() { _ = p.Release() }()
	if err = p.Signal(syscall.Signal(0)); errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return false, 0
	}
	return true, pid
}
