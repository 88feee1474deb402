package dedupe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

var errDisk = errors.New("input/output error")

// faultDisk is a disk in memory that fails on demand. It also keeps the state after a power
// failure: the contents at the last fsync of each file, and the names at the last sync of the
// directory.
type faultDisk struct {
	mu    sync.Mutex
	names map[string]*faultFile // for the process
	safe  map[string]*faultFile // after a power failure
	ops   int                   // writes, syncs, renames so far
	fail  func(op string) error // called before each operation; nil: no operation fails
}

type faultFile struct {
	d      *faultDisk
	data   []byte
	synced []byte
}

func newFaultDisk() *faultDisk {
	return &faultDisk{names: map[string]*faultFile{}, safe: map[string]*faultFile{}}
}

func (d *faultDisk) op(name string) error {
	d.ops++
	if d.fail != nil {
		return d.fail(name)
	}
	return nil
}

func (d *faultDisk) MkdirAll(string) error            { return nil }
func (d *faultDisk) ReadDir(string) ([]string, error) { return nil, nil }

// Lock locks a lock file of the real disk.
func (d *faultDisk) Lock(name string) (fsys.Held, error) {
	held, err := fsys.OS.Lock(name)
	if err != nil {
		return nil, err
	}
	return diskLock{held: held}, nil
}

type diskLock struct {
	fsys.Unlocked
	held fsys.Held
}

func (l diskLock) Close() error { return l.held.Close() }

func (d *faultDisk) Create(path string) (fsys.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("create"); err != nil {
		return nil, err
	}
	if d.names[path] != nil {
		return nil, fs.ErrExist
	}
	f := &faultFile{d: d}
	d.names[path] = f
	return f, nil
}

func (d *faultDisk) Open(path string) (fsys.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.names[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if err := d.op("open"); err != nil {
		return nil, err
	}
	return f, nil
}

func (d *faultDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("rename"); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *faultDisk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.names[path]; !ok {
		return fs.ErrNotExist
	}
	delete(d.names, path)
	return nil
}

func (d *faultDisk) SyncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("syncdir"); err != nil {
		return err
	}
	d.safe = map[string]*faultFile{}
	for name, f := range d.names {
		d.safe[name] = f
	}
	return nil
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op("write"); err != nil {
		f.data = append(f.data[:off:off], b[:len(b)/2]...) // a short write
		return len(b) / 2, err
	}
	f.data = append(f.data[:off:off], b...)
	return len(b), nil
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return copy(b, f.data[off:]), nil
}

func (f *faultFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *faultFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op("sync"); err != nil {
		return err
	}
	f.synced = append([]byte(nil), f.data...)
	return nil
}

func (f *faultFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.data = f.data[:size]
	return nil
}

func (f *faultFile) Close() error { return nil }

// powerCut returns the disk after a power failure. It keeps the first extra bytes that were appended
// and not synced. If oldNames is true, renames since the last sync are lost.
func (d *faultDisk) powerCut(extra int, oldNames bool) *faultDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newFaultDisk()
	names := d.names
	if oldNames {
		names = d.safe
	}
	for name, f := range names {
		data := append([]byte(nil), f.synced...)
		if rest := f.data[min(len(f.data), len(f.synced)):]; len(rest) > 0 {
			data = append(data, rest[:min(extra, len(rest))]...)
		}
		after.names[name] = &faultFile{d: after, data: data, synced: data}
		after.safe[name] = after.names[name]
	}
	return after
}

// testPath returns a path for a log. Only its lock file is on the real disk.
func testPath(t testing.TB) string { return filepath.Join(t.TempDir(), "keys") }

func openOn(t testing.TB, path string, d fsys.FS, o Options) *File {
	t.Helper()
	f, err := openFile(path, o, d)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func handle(t testing.TB, c Cache, key string) {
	t.Helper()
	if err := c.Commit(t.Context(), want(t, c, key, Fresh)); err != nil {
		t.Fatalf("Commit(%s): %v", key, err)
	}
}

// owner is the owner of all claims in tests of a single owner.
const owner = "owner"

func want(t testing.TB, c Cache, key string, v Verdict) Claim {
	t.Helper()
	claim, got, err := c.Begin(t.Context(), key, owner)
	if err != nil || got != v {
		t.Fatalf("Begin(%s): %v %v, want %v", key, got, err, v)
	}
	return claim
}

// diskWith returns a disk with a file.
func diskWith(path string, data []byte) *faultDisk {
	d := newFaultDisk()
	d.names[path] = &faultFile{d: d, data: data, synced: data}
	return d
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
