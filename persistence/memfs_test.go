package persistence

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// memFS is a file system that knows what a power cut would leave of it, and
// fails when told to. As on Windows, an open file cannot be removed. A failed Sync behaves as on Linux: the data stay readable,
// and no later Sync makes them durable.
type memFS struct {
	mu      sync.Mutex
	names   map[string]*memData // as processes see them
	durable map[string]*memData // the names that a power cut leaves
	locked  map[string]bool
	ops     int
	// fault is asked before each operation that changes something. It returns an
	// error, and for "write" how many bytes are written nevertheless.
	fault func(op, name string, n int) (int, error)
}

type memData struct {
	data    []byte
	disk    []byte     // what a power cut leaves
	pending []memWrite // since the last sync
	open    int        // handles
}

// memWrite is a write, or, without data, a truncation.
type memWrite struct {
	off  int64
	data []byte
}

func (w memWrite) to(data []byte) []byte {
	if end := int(w.off) + len(w.data); len(data) < end || w.data == nil {
		data = append(data, make([]byte, max(0, end-len(data)))...)[:end]
	}
	copy(data[w.off:], w.data)
	return data
}

var errPower = errors.New("the power is off")

func newMemFS() *memFS {
	return &memFS{names: map[string]*memData{}, durable: map[string]*memData{}, locked: map[string]bool{}}
}

func (m *memFS) setFault(fault func(op, name string, n int) (int, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

func (m *memFS) ask(op, name string, n int) (int, error) {
	m.ops++
	if m.fault == nil {
		return n, nil
	}
	return m.fault(op, name, n)
}

// powerCut returns what is there afterwards: what was synced, and by chance some
// of what was not.
func (m *memFS) powerCut(rnd *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemFS()
	names := maps.Clone(m.durable)
	for name, d := range m.names {
		if rnd.IntN(2) == 0 {
			names[name] = d
		}
	}
	for name := range names {
		if m.names[name] == nil && rnd.IntN(2) == 0 {
			delete(names, name)
		}
	}
	for name, d := range names {
		data := slices.Clone(d.disk)
		for _, w := range d.pending {
			if w.data == nil {
				if rnd.IntN(2) == 0 {
					data = w.to(data)
				}
				continue
			}
			part := slices.Clone(w.data[:rnd.IntN(len(w.data)+1)])
			if len(part) > 1 && rnd.IntN(3) == 0 {
				clear(part[rnd.IntN(len(part)):]) // the size was written before the data
			}
			if len(part) > 1 && rnd.IntN(3) == 0 {
				clear(part[:rnd.IntN(len(part))]) // pages are written in any order
			}
			data = memWrite{w.off, part}.to(data)
		}
		after.names[name] = &memData{data: data, disk: slices.Clone(data)}
	}
	after.durable = maps.Clone(after.names)
	return after
}

// killed returns what is there when the process is killed: everything.
func (m *memFS) killed() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemFS()
	for name, d := range m.names {
		after.names[name] = &memData{data: slices.Clone(d.data), disk: slices.Clone(d.disk), pending: slices.Clone(d.pending)}
	}
	after.durable = maps.Clone(after.names)
	return after
}

func (m *memFS) MkdirAll(string) error { return nil }

func (m *memFS) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (m *memFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.ask("create", name, 0); err != nil {
		return nil, err
	}
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	m.names[name] = &memData{open: 1}
	return &memFile{m, name, m.names[name]}, nil
}

func (m *memFS) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return nil, fs.ErrNotExist
	}
	m.names[name].open++
	return &memFile{m, name, m.names[name]}, nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.ask("remove", name, 0); err != nil {
		return err
	}
	if m.names[name] == nil {
		return fs.ErrNotExist
	}
	if m.names[name].open > 0 {
		return syscall.EBUSY
	}
	delete(m.names, name)
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.ask("syncdir", dir, 0); err != nil {
		return err
	}
	m.durable = maps.Clone(m.names)
	return nil
}

func (m *memFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked[name] {
		return nil, &LockedError{Dir: filepath.Dir(name)}
	}
	m.locked[name] = true
	return &memLock{m, name}, nil
}

type memLock struct {
	m    *memFS
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locked, l.name)
	return nil
}

type memFile struct {
	m    *memFS
	name string
	d    *memData
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	n, err := f.m.ask("write", f.name, len(b))
	f.change(memWrite{off, append([]byte{}, b[:n]...)})
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	_, err := f.m.ask("truncate", f.name, 0)
	if err == nil {
		f.change(memWrite{off: size})
	}
	return err
}

func (f *memFile) change(w memWrite) {
	f.d.data = w.to(f.d.data)
	f.d.pending = append(f.d.pending, w)
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.d.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.d.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.d.data)), nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	d := f.d
	_, err := f.m.ask("sync", f.name, 0)
	if err == nil {
		for _, w := range d.pending {
			d.disk = w.to(d.disk)
		}
	}
	d.pending = nil // also after an error: the system has dropped the data
	return err
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.d.open--
	return nil
}
