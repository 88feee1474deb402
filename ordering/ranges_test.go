package ordering

import (
	"math/rand/v2"
	"testing"
)

func TestRangesAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		var s ranges
		model := map[uint64]bool{}
		at := uint64(0)
		for range rnd.IntN(6) {
			from := at + 1 + uint64(rnd.IntN(4))
			to := from + uint64(rnd.IntN(6))
			s.add(Range{from, to})
			for n := from; n <= to; n++ {
				model[n] = true
			}
			at = to + 1
		}
		for range 100 {
			n := uint64(rnd.IntN(int(at) + 3))
			if got := s.take(n); got != model[n] {
				t.Fatalf("seed %d: take(%d) %v", seed, n, got)
			}
			delete(model, n)
			for i, r := range s {
				if r.From > r.To || i > 0 && s[i-1].To >= r.From {
					t.Fatalf("seed %d: %v is out of order", seed, s)
				}
			}
		}
	}
}
