package dedupe

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lockFile takes the lock that keeps a second writer off: a file open without
// sharing. The system closes it when the process ends, however it ends.
func lockFile(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("dedupe: cannot lock: %w", err)
	}
	const noSharing = 0
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, noSharing, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	const sharingViolation = syscall.Errno(32)
	if err == sharingViolation {
		return nil, &LockedError{Path: strings.TrimSuffix(path, ".lock")}
	}
	if err != nil {
		return nil, fmt.Errorf("dedupe: cannot lock %s: %w", path, err)
	}
	return os.NewFile(uintptr(h), path), nil
}

func unlockFile(l *os.File) { l.Close() }
