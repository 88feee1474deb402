package session

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestTable_IsAMap compares a table with a map, in random histories of the identifiers that a
// server assigns: in sequence, with some in use for a long time.
func TestTable_IsAMap(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		var got table[int]
		want := map[uint16]int{}
		next := uint16(random.Uint32())
		for range 50_000 {
			next++
			id := next - uint16(random.IntN(1+random.IntN(1000)))
			switch random.IntN(3) {
			case 0:
				got.remove(id)
				delete(want, id)
			default:
				v := 1 + random.IntN(10)
				got.set(id, v)
				want[id] = v
			}
			if random.IntN(20_000) == 0 {
				got.clear()
				clear(want)
			}
			other := uint16(random.Uint32())
			if got.get(id) != want[id] || got.get(other) != want[other] || got.len() != len(want) {
				t.Fatalf("seed %d: %d is %d, want %d; %d is %d, want %d; %d values, want %d",
					seed, id, got.get(id), want[id], other, got.get(other), want[other], got.len(), len(want))
			}
		}
		if all := maps.Collect(got.all()); !maps.Equal(all, want) {
			t.Fatalf("seed %d: all values are %v, want %v", seed, all, want)
		}
		for id := range got.all() { // removal during iteration is allowed
			got.remove(id)
		}
		if got.len() != 0 || len(maps.Collect(got.all())) != 0 {
			t.Errorf("seed %d: %d values are left", seed, got.len())
		}
	}
}

// TestTable_KeepsNoMemory assigns all identifiers in sequence, as a server does, with few in use at
// a time.
func TestTable_KeepsNoMemory(t *testing.T) {
	var ids table[uint64]
	for n := range 1_000_000 {
		ids.set(uint16(n), 1)
		ids.remove(uint16(n - 100))
		pages := 0
		for _, p := range ids.pages {
			if p != nil {
				pages++
			}
		}
		if pages > 2 {
			t.Fatalf("%d pages for %d values", pages, ids.len())
		}
	}
	if n := testing.AllocsPerRun(1000, func() { ids.set(1000, 1); ids.remove(1000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
