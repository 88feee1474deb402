//go:build !race

package ordering_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/ordering"
)

// The race detector allocates closures, so this file is excluded from race builds.
func TestPush_DoesNotAllocate(t *testing.T) {
	r := ordering.NewResequencer[int](ordering.Options{})
	emit := func(int, bool) {}
	seq := uint64(0)
	push := func() {
		seq++
		r.Push("k", 1, seq, numbered(seq), 0, emit)
		r.Push("k", 1, seq, numbered(seq|1<<60), 0, emit)
	}
	for range 2000 {
		push()
	}
	if n := testing.AllocsPerRun(1000, push); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
