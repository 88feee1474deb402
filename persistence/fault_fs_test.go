package persistence

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// memFS is a faultfs.FS with a simpler kind of fault.
type memFS struct {
	*faultfs.FS
	ops int // number of operations that change something, including failed ones
	// fault is called before each of them. It returns an error and, for "write", how many bytes are
	// written nevertheless. While another goroutine uses the log, it must be set with setFault.
	fault fault
	lie   func(faultfs.Op) bool // operations that do nothing and report success
	dead  atomic.Bool           // all operations do nothing
	idle  bool                  // logs make idle writes
}

type fault func(op, name string, n int) (int, error)

func newMemFS() *memFS { return onMemFS(faultfs.New()) }

func onMemFS(fsys *faultfs.FS) *memFS {
	m := &memFS{FS: fsys}
	m.setFault(func(op, name string, n int) (int, error) {
		if m.fault == nil {
			return n, nil
		}
		return m.fault(op, name, n)
	})
	return m
}

func (m *memFS) setFault(fault fault) {
	m.SetFault(func(op faultfs.Op) (int, error) {
		if op.Kind >= faultfs.Open {
			return op.Len, nil
		}
		if m.dead.Load() || m.lie != nil && m.lie(op) {
			return 0, faultfs.ErrSkip
		}
		m.ops++
		return fault(op.Kind.String(), op.Name, op.Len)
	})
}

// powerCut returns one of the states that a power failure may leave.
func (m *memFS) powerCut(rnd *rand.Rand) *memFS { return onMemFS(m.PowerCut(rnd)) }

// killed returns the file system after the process was killed. Nothing is lost.
func (m *memFS) killed() *memFS { return onMemFS(m.Killed()) }

// data returns a copy of a file, or nil if it does not exist.
func (m *memFS) data(name string) []byte { return m.Files()[name] }

// flip flips bits of a byte in a file, even while it is open.
func (m *memFS) flip(t *testing.T, name string, off int64, bits byte) {
	t.Helper()
	f, err := m.FS.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= bits
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// edit returns a file system in which the file has this content, or is missing if data is nil.
func (m *memFS) edit(name string, data []byte) *memFS {
	files := m.Files()
	if files[name] = data; data == nil {
		delete(files, name)
	}
	return onMemFS(faultfs.From(files))
}
