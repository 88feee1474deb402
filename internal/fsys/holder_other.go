//go:build !(linux || windows)

package fsys

import (
	"errors"
	"os"
	"syscall"
)

// Holder reports whether the process whose PID is in the lock file is alive, and that
// PID. It does not take the lock, which would make the Lock of a starting process fail.
// It may report a free lock, if another process has the PID by now.
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
