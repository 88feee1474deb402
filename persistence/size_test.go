package persistence

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// TestRecordSizes: a message costs its packet and at most 40 bytes, a done
// record at most 24.
func TestRecordSizes(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		seq    uint64
		m      Message
		packet int
		atMost int
	}{
		{"plain", 1 << 27, Message{Accepted: at}, 500, 33},
		{"with expiry and sequence", 1 << 27, Message{Accepted: at, Expires: at.Add(24 * time.Hour), Stream: 100, StreamSeq: 1 << 20}, 400, 40},
		{"with expiry, among a quarter of a billion", 1<<28 - 1, Message{Accepted: at, Expires: at.Add(100 * time.Hour)}, 60_000, 40},
		{"with a policy for a lost session", 1 << 27, Message{Accepted: at, OnSessionLost: FailInFlight}, 500, 35},
		{"everything at its longest", maxSequence, Message{Accepted: time.Unix(maxMillis/1000, 0), Expires: time.Unix(1, 1e6), Stream: maxStreams, StreamSeq: 1<<64 - 1}, 0, 70},
		{"of kind 12 too", maxSequence, Message{Accepted: time.Unix(maxMillis/1000, 0), Expires: time.Unix(1, 1e6), Stream: maxStreams, StreamSeq: 1<<64 - 1,
			Priority: Urgent, Key: strings.Repeat("k", maxKey), OnSessionLost: Republish}, maxPacketBytes, maxMeta},
	} {
		c.m.Packet = make([]byte, c.packet)
		accepted, expires := c.m.times(&Limits{}, &clock{})
		if n := len(appendMessage(nil, c.seq, c.seq, &c.m, accepted, expires)) - c.packet; n > c.atMost {
			t.Errorf("%s: %d bytes beside the packet, want at most %d", c.name, n, c.atMost)
		}
	}
	if n := len(appendDone(nil, maxSequence, Result{Kind: Dropped, Reason: 255}, 1<<42)); n > 24 {
		t.Errorf("a done record has %d bytes", n)
	}
}

// TestIndexMemory: ten million pending messages take about a hundred megabytes.
func TestIndexMemory(t *testing.T) {
	const messages = 1_000_000
	l := open(t, nullFS{newMemFS()}, Options{Limits: Limits{MaxMessages: messages}, Files: Files{SegmentBytes: 16 << 20}})
	defer l.Close()
	before := heap()
	m := &Message{Packet: make([]byte, 64)}
	for range messages {
		if _, err := l.Enqueue(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if each := float64(heap()-before) / messages; each > 18 {
		t.Errorf("%.1f bytes a pending message", each)
	}
}

func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// nullFS keeps no data, so that only the log's own memory is measured.
type nullFS struct{ *memFS }

func (n nullFS) Create(name string) (fsys.File, error) {
	f, err := n.memFS.Create(name)
	return nullFile{f}, err
}

type nullFile struct{ fsys.File }

func (nullFile) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestEnqueueAllocations: at most one for a message.
func TestEnqueueAllocations(t *testing.T) {
	l := open(t, nullFS{newMemFS()}, Options{})
	defer l.Close()
	for _, m := range []Message{{}, {Priority: High}, {OnSessionLost: FailInFlight}} {
		m.Packet = make([]byte, 256)
		if n := testing.AllocsPerRun(5000, func() {
			if _, err := l.Enqueue(&m); err != nil {
				t.Fatal(err)
			}
		}); n > 1 {
			t.Errorf("%v allocations for each %v", n, m.OnSessionLost)
		}
	}
}

func (nullFile) Truncate(int64) error { return nil }
