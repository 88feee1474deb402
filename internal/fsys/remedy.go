package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Remedy returns what to do about an error of the file system.
func Remedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return "a file is in its place: remove the file or choose another folder"
	case errors.Is(err, fs.ErrNotExist):
		return "put the folder and its files back, or restart the program to begin anew"
	case errors.Is(err, syscall.EROFS):
		return "mount the file system for writing, or choose another folder"
	case errors.Is(err, fs.ErrPermission):
		return "let this user write to it, or choose another folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free space on the disk, or raise the quota"
	case errors.Is(err, syscall.EMFILE):
		return fmt.Sprintf("this process has opened as many files as RLIMIT_NOFILE allows%s: close files or connections, or raise the limit (ulimit -n, LimitNOFILE= of a systemd service)", limit(processFiles()))
	case errors.Is(err, syscall.ENFILE):
		return fmt.Sprintf("all processes have opened as many files as the system allows%s: stop programs that leave files open, or raise the limit (sysctl fs.file-max on Linux)", limit(systemFiles()))
	case errors.Is(err, syscall.ENOMEM):
		return "the system is out of memory: stop other programs, or raise the memory limit of this one"
	}
	return "check the disk and the system's log"
}

// limit returns the value of a limit for an error text; 0: unknown.
func limit(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d", n)
}
