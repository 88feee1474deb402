//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package dedupe

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lockFile takes the lock that keeps a second writer off. The system lets go of
// it when the process ends, however it ends; the file itself stays.
func lockFile(path string) (*os.File, error) {
	l, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("dedupe: cannot lock: %w", err)
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(l, 32))
		l.Close()
		if err == syscall.EWOULDBLOCK {
			return nil, &LockedError{Path: strings.TrimSuffix(path, ".lock"), Holder: string(holder)}
		}
		return nil, fmt.Errorf("dedupe: cannot lock %s: %w", path, err)
	}
	// The number is for people; the lock holds without it.
	if l.Truncate(0) == nil {
		fmt.Fprintf(l, "%d", os.Getpid())
	}
	return l, nil
}

func unlockFile(l *os.File) { l.Close() }
