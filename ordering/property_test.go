package ordering_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
)

// Any permutation with duplicates, within the limits, is emitted in order and exactly
// once.
func TestResequencer_RandomPermutations(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		n := 1 + rnd.IntN(100)
		base := []uint64{1, 1, 1 << 40, ^uint64(0) - uint64(n) + 1}[rnd.IntN(4)]
		var in, want, got []uint64
		for i := range uint64(n) {
			want = append(want, base+i)
			for range 1 + rnd.IntN(3) {
				in = append(in, base+i)
			}
		}
		rnd.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
		r := ordering.NewResequencer[uint64](ordering.Options{MaxHeldPerKey: n})
		r.Restore("k", ordering.Position{Epoch: 1, Last: base - 1})
		results := map[ordering.Result]int{}
		for _, seq := range in {
			results[r.Push("k", 1, seq, ordering.HashID(fmt.Sprint(seq)), seq, func(v uint64, _ bool) { got = append(got, v) })]++
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v in, %v out", seed, in, got)
		}
		if results[ordering.Late] != 0 || results[ordering.Duplicate] != len(in)-n || results[ordering.Delivered]+results[ordering.Held] != n {
			t.Fatalf("seed %d: results %v of %d, %d different", seed, results, len(in), n)
		}
	}
}

// With losses, every missing number is in exactly one gap, gaps and messages are in
// order, and a message that arrives afterwards is Late exactly once.
func TestResequencer_RandomLosses(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			n := 2 + rnd.IntN(80)
			lost := map[uint64]bool{}
			var in []uint64
			for seq := uint64(1); seq <= uint64(n); seq++ {
				if seq < uint64(n) && rnd.IntN(4) == 0 {
					lost[seq] = true
					continue
				}
				in = append(in, seq)
			}
			// Shuffled a little, so that timeouts and limits apply in the middle.
			for range n {
				i := rnd.IntN(len(in))
				j := min(len(in)-1, i+rnd.IntN(4))
				in[i], in[j] = in[j], in[i]
			}
			reported := map[uint64]int{}
			var order []uint64
			position := uint64(0)
			r := ordering.NewResequencer[uint64](ordering.Options{
				Start: ordering.FromOne, MaxHeldPerKey: 1 + rnd.IntN(8), MaxRanges: n, GapTimeout: time.Second,
				OnGap: func(g ordering.Gap) {
					if g.From <= position {
						t.Errorf("seed %d: gap %+v after %d", seed, g, position)
					}
					for seq := g.From; seq <= g.To; seq++ {
						reported[seq]++
					}
					position = g.To
				},
			})
			emit := func(v uint64, _ bool) { order = append(order, v); position = max(position, v) }
			late := map[uint64]bool{}
			for _, seq := range in {
				if r.Push("k", 1, seq, ordering.HashID(fmt.Sprint(seq)), seq, emit) == ordering.Late {
					late[seq] = true
				}
				if rnd.IntN(5) == 0 {
					time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
					r.Expire(emit)
				}
			}
			r.Flush(emit)
			for seq := uint64(1); seq <= uint64(n); seq++ {
				want := 0
				if lost[seq] || late[seq] {
					want = 1
				}
				if reported[seq] != want {
					t.Fatalf("seed %d: %d is in %d gaps, want %d", seed, seq, reported[seq], want)
				}
			}
			inOrder := slices.DeleteFunc(slices.Clone(order), func(v uint64) bool { return late[v] })
			if !slices.IsSorted(inOrder) || len(order) != len(in) {
				t.Fatalf("seed %d: %v in, %v out, late %v", seed, in, order, late)
			}
			for seq := range lost {
				for _, want := range []ordering.Result{ordering.Late, ordering.Duplicate} {
					if got := r.Push("k", 1, seq, ordering.HashID(fmt.Sprint(seq)), seq, emit); got != want {
						t.Fatalf("seed %d: lost %d turns up: %v, want %v", seed, seq, got, want)
					}
				}
			}
		})
	}
}

// Under the tightest limits, with many keys and epochs, each message is emitted exactly
// once: limits cost order, never a message.
func TestResequencer_LosesNothingUnderTightLimits(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 4))
			r := ordering.NewResequencer[string](ordering.Options{
				MaxKeys: 1 + rnd.IntN(4), MaxHeldPerKey: 1 + rnd.IntN(4), MaxHeld: 1 + rnd.IntN(6),
				MaxRanges: 1 + rnd.IntN(3), Start: ordering.Start(rnd.IntN(2)), GapTimeout: time.Second,
			})
			type message struct {
				key        string
				epoch, seq uint64
			}
			var all []message
			for key := range 5 {
				for epoch := range uint64(3) {
					for seq := uint64(1); seq <= 12; seq++ {
						all = append(all, message{fmt.Sprint(key), epoch, seq * (1 + seq%3)})
					}
				}
			}
			// The multiplication repeats some numbers; keep one of each.
			seen := map[message]bool{}
			all = slices.DeleteFunc(all, func(m message) bool { was := seen[m]; seen[m] = true; return was })
			if rnd.IntN(2) == 0 {
				rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			}
			got := map[string]int{}
			emit := func(v string, _ bool) { got[v]++ }
			for _, m := range all {
				if res := r.Push(m.key, m.epoch, m.seq, ordering.HashID(fmt.Sprint(m)), fmt.Sprint(m), emit); res == ordering.Duplicate {
					t.Fatalf("seed %d: %v is called a duplicate", seed, m)
				}
				s := r.Stats()
				if s.Held > r.Options().MaxHeld || s.Keys > r.Options().MaxKeys || s.Waiting != 0 {
					t.Fatalf("seed %d: beyond the limits %+v: %+v", seed, r.Options(), s)
				}
				if rnd.IntN(20) == 0 {
					time.Sleep(time.Second)
					r.Expire(emit)
				}
			}
			r.Flush(emit)
			for _, m := range all {
				if got[fmt.Sprint(m)] != 1 {
					t.Fatalf("seed %d: %v emitted %d times", seed, m, got[fmt.Sprint(m)])
				}
			}
			if s := r.Stats(); s.Held != 0 || s.Delivered+s.Late != uint64(len(all)) {
				t.Fatalf("seed %d: %+v of %d", seed, s, len(all))
			}
		})
	}
}
