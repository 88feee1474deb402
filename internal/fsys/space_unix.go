//go:build darwin || linux

package fsys

import "syscall"

// Partition returns the size in bytes of the partition that contains a folder, or 0 if unknown.
func (osFS) Partition(dir string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0
	}
	return int64(s.Blocks) * int64(s.Bsize)
}
