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

// FS is a file system in memory: an fsys.FS. As on Windows, an open file cannot be removed
// or renamed. Folders need not be made. All methods may be called by several
// goroutines at once; operations happen one after the other.
type FS struct {
	mu     sync.Mutex
	start  *disk
	now    *disk
	ops    []Op
	fault  Fault
	hang   func(Op) <-chan struct{}
	locked map[string]bool
	boot   uint64 // of the system
}

// New returns an empty file system.
func New() *FS { return newFS(newDisk()) }

// From returns a file system with these files, by path, all durable.
func From(files map[string][]byte) *FS {
	d := newDisk()
	for name, data := range files {
		d.add(name, data)
	}
	return newFS(d)
}

// boots numbers the boots of systems.
var boots atomic.Uint64

// newFS returns a file system as a system finds it that has just booted.
func newFS(d *disk) *FS { return bootedFS(d, boots.Add(1)) }

func bootedFS(d *disk, boot uint64) *FS {
	return &FS{start: d.clone(), now: d, locked: map[string]bool{}, boot: boot}
}

// Host returns the boot of the system, which each power cut ends, and no machine.
func (s *FS) Host() fsys.Host { return fsys.Host{Boot: s.boot} }

// SetFault makes fault be asked before each operation from now on; nil: none.
func (s *FS) SetFault(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// SetHang makes each operation from now on wait until the channel that hang returns for it is closed; it
// does not wait for a nil channel. Operations that wait hold no others up. nil: none waits.
func (s *FS) SetHang(hang func(Op) <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = hang
}

// wait waits as SetHang asks, with no lock held.
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

// Len is how many operations were recorded: a crash at a cut up to it can come
// from the present. What a program was promised before Len was called holds at
// this cut and all later ones.
func (s *FS) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ops)
}

// Kill gives back the locks and handles of the program that used the file
// system: the process was killed, the system goes on. What the program still
// holds must not be used any more.
func (s *FS) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.locked)
	for _, in := range s.now.inodes {
		in.open = 0
	}
}

// Killed returns a copy, with nothing lost and nothing more durable, that begins
// a trace of its own.
func (s *FS) Killed() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bootedFS(s.now.clone(), s.boot)
}

// Files returns the contents by path, as processes see them. They must not be
// changed.
func (s *FS) Files() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make(map[string][]byte, len(s.now.names))
	for name, in := range s.now.names {
		files[name] = slices.Clone(in.data)
	}
	return files
}

// do asks the fault, does the operation and records it.
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

// MkdirAll does nothing: folders are there.
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

// opened counts handles.
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

// Rename gives a file that is not open another name in the same folder; what had
// that name is gone.
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

// Lock takes a lock until the result is closed or the program is killed. It is not
// a file. Error: *fsys.LockedError.
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
