package fsys

import (
	"io/fs"
	"os"
	"syscall"
)

// datasync syncs the data of a file. It fails if the file has been removed: no
// process would ever read it.
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
