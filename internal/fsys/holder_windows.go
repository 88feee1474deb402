package fsys

import (
	"errors"
	"os"
	"syscall"
)

// Holder reports whether a process holds a lock. Its PID is unknown. Holder opens
// the lock file, which fails while another process has it open without sharing.
func Holder(name string) (held bool, pid int) {
	const sharingViolation = syscall.Errno(32)
	f, err := os.Open(name)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, sharingViolation), 0
}
