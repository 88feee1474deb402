package faultfs

import (
	"iter"
	"math/rand/v2"
)

// subsets yields at most most subsets of the units. It yields all subsets if there are no more than
// that. Otherwise it yields the significant ones, followed by a random sample.
func (u *undecided) subsets(most int, rnd *rand.Rand) iter.Seq[[]bool] {
	n := len(u.units)
	return func(yield func([]bool) bool) {
		if n <= allSubsets && 1<<n <= most {
			pick := make([]bool, n)
			for set := range 1 << n {
				for i := range pick {
					pick[i] = set>>i&1 == 1
				}
				if !yield(pick) {
					return
				}
			}
			return
		}
		for i := 0; i < most; i++ {
			pick, ok := u.significant(i)
			if !ok {
				pick = u.random(rnd)
			}
			if !yield(pick) {
				return
			}
		}
	}
}

// significant returns the i-th of the subsets that are always tested.
func (u *undecided) significant(i int) (pick []bool, ok bool) {
	n := len(u.units)
	pick = make([]bool, n)
	switch group, one := (i-2)/max(n, 1), (i-2)%max(n, 1); {
	case i == 0: // no unit
	case i == 1: // all units
		one, group = n, 0
		fallthrough
	case group == 0: // a prefix
		for j := range min(one, n) {
			pick[j] = true
		}
	case group == 1: // all but one
		for j := range pick {
			pick[j] = j != one
		}
	case group == 2: // only one
		pick[one] = true
	default:
		return nil, false
	}
	return pick, true
}
