package fsys

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// datasync syncs the data of a file. It fails if the file has been removed or replaced.
func datasync(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed, gone error
	err = raw.Control(func(fd uintptr) {
		for failed = syscall.EINTR; failed == syscall.EINTR; {
			failed = syscall.Fdatasync(int(fd))
		}
		var is, named syscall.Stat_t
		if failed != nil || syscall.Fstat(int(fd), &is) != nil {
			return
		}
		switch err := syscall.Stat(f.Name(), &named); {
		case err == syscall.ENOENT, err == syscall.ENOTDIR, is.Nlink == 0 && err != nil:
			gone = &GoneError{Name: f.Name()}
		case err == nil && (is.Ino != named.Ino || is.Dev != named.Dev):
			gone = &GoneError{Name: f.Name(), Replaced: true}
		}
	})
	switch {
	case err != nil:
		return err
	case failed != nil:
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: failed}
	}
	return gone
}

// Holder reports whether a process holds a lock, and its process ID, or 0 if unknown. It does not
// take the lock, because that could make a concurrent Lock fail. It reads the lock list of the
// system, which contains the process, device and inode of each lock.
func Holder(name string) (held bool, pid int) {
	info, err := os.Stat(name)
	if err != nil {
		return false, 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile("/proc/locks")
	if !ok || err != nil {
		return false, 0
	}
	noted, inode := strconv.Itoa(readPID(name)), strconv.FormatUint(stat.Ino, 10)
	dev := uint64(stat.Dev)
	device := fmt.Sprintf("%02x:%02x", dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[3] != "WRITE" {
			continue
		}
		at := strings.LastIndexByte(f[5], ':')
		// Some file systems show another device number here. In that case, compare the process ID.
		if at >= 0 && f[5][at+1:] == inode && (f[5][:at] == device || f[4] == noted) {
			pid, _ := strconv.Atoi(f[4])
			return true, max(pid, 0)
		}
	}
	return false, 0
}
