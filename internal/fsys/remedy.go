package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Remedy returns advice for an error of the file system.
func Remedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return "remove the file that is in its place, or choose another folder"
	case errors.Is(err, fs.ErrNotExist):
		return "restore the folder and its files, or restart the application to begin with an empty folder"
	case errors.Is(err, syscall.EROFS):
		return "mount the file system for writing, or choose another folder"
	case errors.Is(err, fs.ErrPermission):
		return "give this user write permission, or choose another folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free space on the disk, or raise the quota"
	case errors.Is(err, syscall.EMFILE):
		return fmt.Sprintf("close files or connections of this process, or raise its limit of open files, RLIMIT_NOFILE%s (ulimit -n, LimitNOFILE= of a systemd service)", limit(processFiles()))
	case errors.Is(err, syscall.ENFILE):
		return fmt.Sprintf("stop processes that leave files open, or raise the limit of open files of the system%s (sysctl fs.file-max on Linux)", limit(systemFiles()))
	case errors.Is(err, syscall.ENOMEM):
		return "stop other processes, or raise the memory limit of this one"
	}
	return "check the disk and the log of the operating system"
}

// limit formats the value of a limit for an error text. It returns "" for 0, which means unknown.
func limit(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" = %d", n)
}
