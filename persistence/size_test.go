package persistence

import (
	"context"
	"runtime"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// TestIndexMemory checks that ten million pending messages would take less than 200 MB.
func TestIndexMemory(t *testing.T) {
	const messages = 1_000_000
	l := open(t, nullFS{newMemFS()}, Options{Limits: Limits{MaxMessages: messages}, Files: Files{SegmentBytes: 16 << 20}})
	defer l.Close()
	before := heap()
	m := &Message{Packet: make([]byte, 64)}
	for range messages {
		if _, err := l.Enqueue(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if each := float64(heap()-before) / messages; each > 20 { // 11, plus the spare capacity of slices
		t.Errorf("%.1f bytes a pending message", each)
	}
}

func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// nullFS keeps no data, so that only the memory of the log is measured.
type nullFS struct{ *memFS }

func (n nullFS) Create(name string) (fsys.File, error) {
	f, err := n.memFS.Create(name)
	return nullFile{f}, err
}

type nullFile struct{ fsys.File }

func (nullFile) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestEnqueueAllocations: at most one for a message.
// TestEnqueueAllocations checks that Enqueue makes at most one allocation.
func TestEnqueueAllocations(t *testing.T) {
	l := open(t, nullFS{newMemFS()}, Options{})
	defer l.Close()
	for _, m := range []Message{{}, {Priority: High}, {OnSessionLost: FailInFlight}} {
		m.Packet = make([]byte, 256)
		if n := testing.AllocsPerRun(5000, func() {
			if _, err := l.Enqueue(context.Background(), &m); err != nil {
				t.Fatal(err)
			}
		}); n > 1 {
			t.Errorf("%v allocations for each %v", n, m.OnSessionLost)
		}
	}
}

func (nullFile) Truncate(int64) error { return nil }
