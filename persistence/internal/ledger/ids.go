package ledger

import "math/bits"

// IDSet is a set of packet identifiers.
type IDSet struct {
	bits  []uint64 // 8 KiB, from the first Add on
	count int
}

// Add reports whether id is new.
func (s *IDSet) Add(id uint16) bool {
	if s.bits == nil {
		s.bits = make([]uint64, 1<<16/64)
	}
	if s.bits[id/64]&(1<<(id%64)) != 0 {
		return false
	}
	s.bits[id/64] |= 1 << (id % 64)
	s.count++
	return true
}

// Remove reports whether id was in the set.
func (s *IDSet) Remove(id uint16) bool {
	if s.count == 0 || s.bits[id/64]&(1<<(id%64)) == 0 {
		return false
	}
	s.bits[id/64] &^= 1 << (id % 64)
	s.count--
	return true
}

func (s *IDSet) clear() {
	clear(s.bits)
	s.count = 0
}

// List returns the members, ascending.
func (s *IDSet) List() []uint16 {
	ids := make([]uint16, 0, s.count)
	if s.count == 0 {
		return ids
	}
	for i, w := range s.bits {
		for ; w != 0; w &= w - 1 {
			ids = append(ids, uint16(i*64+bits.TrailingZeros64(w)))
		}
	}
	return ids
}
