package ordering

import (
	"slices"
	"sort"
)

// Range is a range of sequence numbers. It includes both ends.
type Range struct {
	From, To uint64
}

// ranges is a set of numbers. It contains disjoint ranges in ascending order.
type ranges []Range

// add appends a range, which must be after all others.
func (s *ranges) add(r Range) { *s = append(*s, r) }

// find returns the index of the range that contains n.
func (s ranges) find(n uint64) (i int, found bool) {
	i = sort.Search(len(s), func(i int) bool { return s[i].To >= n })
	return i, i < len(s) && s[i].From <= n
}

// has reports whether n is in the set.
func (s ranges) has(n uint64) bool { _, found := s.find(n); return found }

// take removes n and reports whether it was in the set.
func (s *ranges) take(n uint64) bool {
	i, found := s.find(n)
	if !found {
		return false
	}
	r := &(*s)[i]
	switch {
	case r.From == n && r.To == n:
		*s = slices.Delete(*s, i, i+1)
	case r.From == n:
		r.From++
	case r.To == n:
		r.To--
	default:
		upper := Range{n + 1, r.To}
		r.To = n - 1
		*s = slices.Insert(*s, i+1, upper)
	}
	return true
}
