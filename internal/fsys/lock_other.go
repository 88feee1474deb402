//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package fsys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// held has the locks of this process, whose PID is in their files.
var held sync.Map

// Lock creates a lock file, which only one process can create. A killed process
// leaves the file; it is taken over if no process has the PID in it. Error:
// *LockedError.
func Lock(name string) (io.Closer, error) {
	for attempt := 0; ; attempt++ {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
			if err = errors.Join(err, f.Close()); err != nil {
				return nil, errors.Join(err, os.Remove(name))
			}
			held.Store(name, true)
			return lockFile(name), nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		pid := readPID(name)
		if _, ours := held.Load(name); ours || attempt > 0 || pid == 0 || pid != os.Getpid() && alive(pid) {
			return nil, &LockedError{Name: name, PID: pid}
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
}

type lockFile string

func (l lockFile) Close() error {
	held.Delete(string(l))
	return os.Remove(string(l))
}
