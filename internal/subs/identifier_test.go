package subs

import (
	"fmt"
	"testing"
)

// The identifier of a filter never changes, and no other owner uses it.
func TestFilterID(t *testing.T) {
	if id := FilterID("devices/+/readings/#", 0); id != 178_048_416 {
		t.Errorf("%d: sessions of earlier processes have another", id)
	}
	used := map[uint32]bool{}
	for i := range 100_000 {
		filter := fmt.Sprint("d/", i)
		id := FilterID(filter, 0)
		for probe := 1; used[id]; probe++ {
			id = FilterID(filter, probe)
		}
		used[id] = true
		for process := range uint32(variants) {
			v := Variant(id, process)
			if of, p := SplitVariant(v); of != id || p != process || !OfFilter(v) || !Internal(v) || v <= LastView {
				t.Fatalf("%s: %d of process %d is %d of %d", filter, id, process, of, p)
			}
		}
	}
	for _, id := range []uint32{1, FirstID - 1, MarkerID, StatusID, ViewID, LastView, oldFirst, oldFirst + oldCount - 1} {
		if of, _ := SplitVariant(id); OfFilter(id) || of != id {
			t.Errorf("%d is that of a filter", id)
		}
	}
}
