package persistence

import (
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// memoryFS is a folder in memory. What a file had is used again by the next one
// once it was removed, so who still has it open may read anything.
type memoryFS struct {
	mu    sync.RWMutex // of the files too
	files map[string]*memoryFile
	spare []byte
}

func (m *memoryFS) MkdirAll(string) error          { return nil }
func (m *memoryFS) SyncDir(string) error           { return nil }
func (m *memoryFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

func (m *memoryFS) ReadDir(string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.files))
	for name := range m.files {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (m *memoryFS) Create(name string) (fsys.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] != nil {
		return nil, fs.ErrExist
	}
	f := &memoryFile{m: m, data: m.spare[:0]}
	m.spare = nil
	m.files[name] = f
	return f, nil
}

func (m *memoryFS) Open(name string) (fsys.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memoryFS) Remove(name string) error {
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

type memoryFile struct {
	m    *memoryFS
	data []byte
}

func (f *memoryFile) WriteAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if gap := int(off) - len(f.data); gap > 0 {
		f.data = append(f.data, make([]byte, gap)...)
	}
	n := copy(f.data[off:], b)
	f.data = append(f.data, b[n:]...)
	return len(b), nil
}

func (f *memoryFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) Size() (int64, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return int64(len(f.data)), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.data = f.data[:min(size, int64(len(f.data)))]
	return nil
}

func (f *memoryFile) Sync() error  { return nil }
func (f *memoryFile) Close() error { return nil }
