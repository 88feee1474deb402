// Package memfs implements a folder in memory, for a log without a disk.
package memfs

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// FS is one folder. It implements fsys.FS. The next file reuses the memory of a removed file, so a
// reader that still has the removed file open may read arbitrary data.
type FS struct {
	mu      sync.RWMutex // guards the files too
	files   map[string]*file
	spare   []byte
	largest int // size of the largest file so far
}

// New returns an empty folder.
func New() *FS                               { return &FS{files: map[string]*file{}} }
func (m *FS) MkdirAll(string) error          { return nil }
func (m *FS) SyncDir(string) error           { return nil }
func (m *FS) Lock(string) (fsys.Held, error) { return fsys.Unlocked{}, nil }

func (m *FS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[from] == nil {
		return fs.ErrNotExist
	}
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *FS) ReadDir(string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.files))
	for name := range m.files {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (m *FS) Create(name string) (fsys.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] != nil {
		return nil, fs.ErrExist
	}
	f := &file{m: m, data: m.spare[:0]}
	m.spare = nil
	m.files[name] = f
	return f, nil
}

func (m *FS) Open(name string) (fsys.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		return fs.ErrNotExist
	}
	m.spare, f.data = f.data, nil
	delete(m.files, name)
	return nil
}

type file struct {
	m    *FS
	data []byte
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if gap := int(off) - len(f.data); gap > 0 {
		f.data = append(f.data, make([]byte, gap)...)
	}
	n := copy(f.data[off:], b)
	// Segments have about the same size, so growing in one step copies their bytes only once.
	if size := len(f.data) + len(b) - n; size > 64<<10 && size < f.m.largest {
		f.data = slices.Grow(f.data, f.m.largest-len(f.data))
	}
	f.data = append(f.data, b[n:]...)
	f.m.largest = max(f.m.largest, len(f.data))
	return len(b), nil
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return bytes.NewReader(f.data).ReadAt(b, off)
}

func (f *file) Size() (int64, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return int64(len(f.data)), nil
}

func (f *file) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.data = f.data[:min(size, int64(len(f.data)))]
	return nil
}

func (f *file) Sync() error  { return nil }
func (f *file) Close() error { return nil }
