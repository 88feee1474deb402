//go:build !(linux || windows)

package fsys

import (
	"errors"
	"os"
	"syscall"
)

// Holder reports whether the process whose PID is in the lock file is alive, and
// that PID. It does not take the lock, which would make the Lock of a starting
// process fail. It may report a lock that is free, because the PID may belong to
// another process by now.
func Holder(name string) (held bool, pid int) {
	if pid = readPID(name); pid == 0 || !alive(pid) {
		return false, 0
	}
	return true, pid
}

// alive reports whether a process exists. Where that is unknown, it returns true
// if the process can be found.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }()
	err = p.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}
