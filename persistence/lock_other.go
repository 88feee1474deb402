//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package persistence

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// held keeps a second Lock in this process off, whose PID is in the file.
var held sync.Map

// Lock creates a file that only one process can create. A process that was
// killed leaves it behind; it is taken over when its PID belongs to no process.
func (osFS) Lock(name string) (io.Closer, error) {
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
		data, _ := os.ReadFile(name)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		if _, ours := held.Load(name); ours || attempt > 0 || pid == 0 || (pid != os.Getpid() && alive(pid)) {
			return nil, &LockedError{Dir: filepath.Dir(name), PID: pid}
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
}

// alive errs on the safe side where FindProcess always succeeds.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}

type lockFile string

func (l lockFile) Close() error {
	held.Delete(string(l))
	return os.Remove(string(l))
}
