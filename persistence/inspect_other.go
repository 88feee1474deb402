//go:build !linux

package persistence

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// inUse reports whether the process whose PID is in the lock file is alive, and
// that PID. To try and take the lock would keep off a process that is just
// starting. It errs on the safe side: the PID may be another process's by now.
func inUse(name string) (bool, int) {
	data, err := os.ReadFile(name)
	if err != nil {
		return false, 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return false, 0
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false, 0 // where processes cannot be sent a signal, this tells
	}
	defer func() { _ = p.Release() }()
	if err := p.Signal(syscall.Signal(0)); errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return false, 0
	}
	return true, pid
}
