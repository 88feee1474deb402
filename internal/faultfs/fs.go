package faultfs

import (
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// FS is a file system in memory. It implements fsys.FS. As on Windows, an open file cannot be
// removed or renamed. Folders need not be created. FS is safe for concurrent use; it executes one
// operation at a time.
type FS struct {
	mu     sync.Mutex
	start  *disk
	now    *disk
	ops    []Op
	fault  Fault
	hang   func(Op) <-chan struct{}
	locked map[string]bool
	boot   uint64 // of the simulated system
}

// New returns an empty file system.
func New() *FS { return newFS(newDisk()) }

// From returns a file system with these durable files. The keys are paths.
func From(files map[string][]byte) *FS {
	d := newDisk()
	for name, data := range files {
		d.add(name, data)
	}
	return newFS(d)
}

// boots is the number of simulated boots so far.
var boots atomic.Uint64

// newFS returns a file system in a system that has just booted.
func newFS(d *disk) *FS { return bootedFS(d, boots.Add(1)) }

func bootedFS(d *disk, boot uint64) *FS {
	return &FS{start: d.clone(), now: d, locked: map[string]bool{}, boot: boot}
}

// Host returns the boot of the simulated system, which ends with a power failure. The machine is
// unknown.
func (s *FS) Host() fsys.Host { return fsys.Host{Boot: s.boot} }

// SetFault sets the function that is called before each operation. nil removes it.
func (s *FS) SetFault(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// SetHang makes each following operation wait until the channel that hang returns for it is closed.
// If hang returns nil, the operation does not wait. Waiting operations do not block others. A nil
// hang ends the waiting of later operations.
func (s *FS) SetHang(hang func(Op) <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = hang
}

// wait waits for the channel of SetHang. The caller holds no lock.
func (s *FS) wait(op Op) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang == nil {
		return
	}
	if c := hang(op); c != nil {
		<-c
	}
}

// Len returns the number of recorded operations, which is also the highest possible cut. Guarantees
// that the code under test has given before the call of Len hold at this cut and at all later ones.
func (s *FS) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ops)
}

// Kill simulates that the process that used the file system was killed while the system runs on. It
// releases the locks and handles of the process, which must not be used afterwards.
func (s *FS) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.locked)
	for _, in := range s.now.inodes {
		in.open = 0
	}
}

// Killed returns a copy of the file system after the process was killed. Nothing is lost, and
// nothing becomes more durable. The copy begins a new trace.
func (s *FS) Killed() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bootedFS(s.now.clone(), s.boot)
}

// Files returns the content of each file, by path, as processes see it. The caller must not change
// it.
func (s *FS) Files() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make(map[string][]byte, len(s.now.names))
	for name, in := range s.now.names {
		files[name] = slices.Clone(in.data)
	}
	return files
}

// do calls the fault, applies the operation and records it.
func (s *FS) do(op Op, possible func(*disk) error) (int, error) {
	s.wait(op)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := op.Len
	op.Index = len(s.ops)
	if s.fault != nil {
		if n, op.Err = s.fault(op); op.Err == ErrSkip {
			return op.Len, nil
		}
	}
	if op.Err == nil && possible != nil {
		op.Err = possible(s.now)
	}
	if op.Kind < Open {
		if op.Kind == Write {
			op.Data = op.Data[:n]
		}
		s.ops = append(s.ops, op)
		s.now.apply(&op)
	}
	return n, op.Err
}

// MkdirAll does nothing: all folders exist.
func (s *FS) MkdirAll(string) error { return nil }

// ReadDir returns the names of the files in a folder.
func (s *FS) ReadDir(dir string) ([]string, error) {
	var names []string
	_, err := s.do(Op{Kind: Open, Name: dir}, func(d *disk) error {
		for name := range d.names {
			if filepath.Dir(name) == dir {
				names = append(names, filepath.Base(name))
			}
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// Create creates a file that must not exist.
func (s *FS) Create(name string) (fsys.File, error) {
	f := &handle{fs: s, name: name}
	_, err := s.do(Op{Kind: Create, Name: name}, func(d *disk) error {
		if d.names[name] != nil {
			return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
		}
		f.number = len(d.inodes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.opened(f.number, 1)
	return f, nil
}

// Open opens a file for reading and writing.
func (s *FS) Open(name string) (fsys.File, error) {
	f := &handle{fs: s, name: name}
	_, err := s.do(Op{Kind: Open, Name: name}, func(d *disk) error {
		in := d.names[name]
		if in == nil {
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		f.number = in.number
		in.open++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// opened adds n to the number of open handles of a file.
func (s *FS) opened(number, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.inodes[number].open += n
}

// Remove removes a file that is not open.
func (s *FS) Remove(name string) error {
	_, err := s.do(Op{Kind: Remove, Name: name}, movable("remove", name))
	return err
}

// Rename renames a file that is not open, within its folder. It replaces an existing file of the
// new name.
func (s *FS) Rename(from, to string) error {
	_, err := s.do(Op{Kind: Rename, Name: from, To: to}, movable("rename", from))
	return err
}

func movable(what, name string) func(*disk) error {
	return func(d *disk) error {
		switch in := d.names[name]; {
		case in == nil:
			return &fs.PathError{Op: what, Path: name, Err: fs.ErrNotExist}
		case in.open > 0:
			return &fs.PathError{Op: what, Path: name, Err: syscall.EBUSY}
		}
		return nil
	}
}

// SyncDir makes the names in a folder durable.
func (s *FS) SyncDir(dir string) error {
	_, err := s.do(Op{Kind: SyncDir, Name: dir}, nil)
	return err
}

// Lock takes a lock until it is closed or the process is killed. The lock is not a file. Error:
// *fsys.LockedError.
func (s *FS) Lock(name string) (fsys.Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked[name] {
		return nil, &fsys.LockedError{Name: name}
	}
	s.locked[name] = true
	return &lock{fs: s, name: name}, nil
}

type lock struct {
	fsys.Unlocked
	fs   *FS
	name string
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locked, l.name)
	return nil
}
