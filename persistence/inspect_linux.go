package persistence

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// inUse reports whether a process has the lock, and which. To try and take it
// would keep off a process that is just starting, so the system's list of locks
// is asked: it has the holder, the device and the inode of each.
func inUse(name string) (bool, int) {
	info, err := os.Stat(name)
	if err != nil {
		return false, 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile("/proc/locks")
	if !ok || err != nil {
		return false, 0
	}
	data, _ := os.ReadFile(name)
	noted, inode := strings.TrimSpace(string(data)), strconv.FormatUint(stat.Ino, 10)
	dev := uint64(stat.Dev)
	device := fmt.Sprintf("%02x:%02x", dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[3] != "WRITE" {
			continue
		}
		at := strings.LastIndexByte(f[5], ':')
		// Some file systems show another device here: then the PID decides.
		if at >= 0 && f[5][at+1:] == inode && (f[5][:at] == device || f[4] == noted) {
			pid, _ := strconv.Atoi(f[4])
			return true, max(pid, 0)
		}
	}
	return false, 0
}
