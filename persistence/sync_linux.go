package persistence

import (
	"io/fs"
	"os"
	"syscall"
)

// datasync also finds out when the file has no name any more: nobody will ever
// read what is written to it.
func datasync(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if failed = syscall.Fdatasync(int(fd)); failed != syscall.EINTR {
				break
			}
		}
		var st syscall.Stat_t
		if failed == nil && syscall.Fstat(int(fd), &st) == nil && st.Nlink == 0 {
			failed = fs.ErrNotExist
		}
	})
	if err == nil && failed != nil {
		err = &os.PathError{Op: "fdatasync", Path: f.Name(), Err: failed}
	}
	return err
}
