package ordering_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/ordering"
)

// heap returns the bytes in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Publishers choose the keys. However long they are, and whether messages are held or not, the
// streams take no more than MaxStreamBytes, and no message is lost.
func TestMaxStreamBytes(t *testing.T) {
	const limit, length, count = 8 << 20, 60_000, 1000
	for name, seqs := range map[string][]uint64{"idle": {1}, "held": {1, 3}, "with ranges": {1, 3, 5, 7, 9, 11}} {
		t.Run(name, func(t *testing.T) {
			before, emitted := heap(), 0
			r := ordering.NewResequencer[int](ordering.Options{MaxStreamBytes: limit, MaxHeldPerKey: 1})
			emit := func(int, bool) { emitted++ }
			for i := range count {
				key := fmt.Sprintf("%0*d", length, i)
				for _, seq := range seqs {
					r.Push(key, 1, seq, ordering.ID{}, 0, emit)
				}
				if s := r.Stats(); s.StreamBytes > limit+2*(length+2048) {
					t.Fatalf("%d bytes in %d streams", s.StreamBytes, s.Keys)
				}
			}
			if used := heap() - before; used > limit+1<<20 {
				t.Errorf("%d bytes of heap, want at most %d", used, limit+1<<20)
			}
			s := r.Stats()
			if s.EvictedKeys == 0 || s.Keys < limit/length/2 {
				t.Errorf("%+v", s)
			}
			r.Flush(emit)
			if emitted != count*len(seqs) {
				t.Errorf("%d messages emitted, want %d", emitted, count*len(seqs))
			}
			runtime.KeepAlive(r)
		})
	}
}

// Forgotten keys are subtracted from StreamBytes.
func TestMaxStreamBytes_Subtracts(t *testing.T) {
	r := ordering.NewResequencer[int](ordering.Options{})
	for i := range 10 {
		key := strings.Repeat("k", i+1)
		r.Push(key, 1, 1, ordering.ID{}, 0, func(int, bool) {})
		r.Push(key, 1, 3, ordering.ID{}, 0, func(int, bool) {})
		r.Forget(key)
	}
	if s := r.Stats(); s.StreamBytes != 0 || s.Keys != 0 {
		t.Errorf("%+v", s)
	}
}
