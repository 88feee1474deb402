package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
)

// TestKeys compares Keys with a map that keeps all keys. Keys may only forget messages that have
// ended.
func TestKeys(t *testing.T) {
	for seed := range uint64(10) {
		var k ledger.Keys
		random := rand.New(rand.NewPCG(seed, 1))
		newest, ended := map[string]uint64{}, map[uint64]bool{}
		alive := func(seq uint64) bool { return !ended[seq] }
		names := 1 + random.IntN(5000)
		pending := 0
		for seq := uint64(1); seq <= 20_000; seq++ {
			key := fmt.Sprint("key", random.IntN(names))
			if before := k.Newest(key); before != newest[key] && (before != 0 || alive(newest[key])) {
				t.Fatalf("seed %d: the newest message of %s is %d, want %d", seed, key, before, newest[key])
			}
			k.Set(key, seq, alive)
			newest[key] = seq
			pending++
			if end := 1 + random.Uint64N(seq); !ended[end] && random.IntN(3) > 0 {
				ended[end] = true
				pending--
			}
			if random.IntN(100) == 0 {
				k.Shrink(pending, alive)
			}
		}
		for key, seq := range newest {
			if got := k.Newest(key); got != seq && (got != 0 || alive(seq)) {
				t.Fatalf("seed %d: the newest message of %s is %d, want %d", seed, key, got, seq)
			}
		}
	}
	var k ledger.Keys
	k.Set("late", 1<<48, nil)
	if k.Newest("late") != 0 {
		t.Error("a sequence that does not fit is noted")
	}
}

// TestKeys_Memory checks that an entry takes at most 25 bytes, and that entries of ended messages
// are removed.
func TestKeys_Memory(t *testing.T) {
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	var k ledger.Keys
	const n = 300_000
	yes := func(uint64) bool { return true }
	before, most := heap(), 0.0
	for seq := uint64(1); seq <= n; seq++ {
		k.Set(fmt.Sprintf("%01000d", seq), seq, yes)
		if seq%10_000 == 0 && seq >= 100_000 {
			most = max(most, float64(heap()-before)/float64(seq))
		}
	}
	if most > 25 {
		t.Errorf("%.1f bytes an entry", most)
	}
	k.Shrink(10, func(seq uint64) bool { return seq > n-10 })
	if left := heap() - before; left > 64<<10 {
		t.Errorf("%d bytes are left of what has ended", left)
	}
	if k.Newest(fmt.Sprintf("%01000d", n)) != n {
		t.Error("a message that has not ended is forgotten")
	}
}
