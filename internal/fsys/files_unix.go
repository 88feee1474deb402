//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fsys

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// processFiles returns how many files this process may have open, or 0 if unknown.
func processFiles() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return uint64(r.Cur)
}

// systemFiles returns how many files all processes together may have open, or 0 if unknown.
func systemFiles() uint64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	b, err := os.ReadFile("/proc/sys/fs/file-max") // fails if no file can be opened
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n
}
