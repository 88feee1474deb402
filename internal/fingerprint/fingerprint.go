// Package fingerprint computes a keyed 64-bit fingerprint of a sequence of fields. Two different
// sequences have the same fingerprint with a probability of about 2⁻⁶⁴, even if they were chosen by
// someone without the key.
package fingerprint

import (
	"encoding/binary"
	"math/bits"
)

// Hash computes a fingerprint. It is SipHash-2-4 over the framed fields. Each field is preceded by
// its length in eight bytes, little-endian, and padded with zeros to a multiple of eight bytes.
type Hash struct{ v0, v1, v2, v3, size uint64 }

// New returns a Hash without fields.
func New(key *[16]byte) Hash {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	return Hash{v0: k0 ^ 0x736f6d6570736575, v1: k1 ^ 0x646f72616e646f6d, v2: k0 ^ 0x6c7967656e657261, v3: k1 ^ 0x7465646279746573}
}

// Add adds a field.
func (h *Hash) Add(field []byte) {
	h.word(uint64(len(field)))
	v0, v1, v2, v3 := h.v0, h.v1, h.v2, h.v3
	for ; len(field) >= 8; field = field[8:] { // the code of word, with the state in local variables
		w := binary.LittleEndian.Uint64(field)
		v0, v1, v2, v3 = round(v0, v1, v2, v3^w)
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0 ^= w
		h.size += 8
	}
	h.v0, h.v1, h.v2, h.v3 = v0, v1, v2, v3
	if len(field) > 0 {
		var rest [8]byte
		copy(rest[:], field)
		h.word(binary.LittleEndian.Uint64(rest[:]))
	}
}

// Sum returns the fingerprint, which is never 0. The Hash must not be used afterwards.
func (h *Hash) Sum() uint64 {
	h.word(h.size << 56)
	h.v2 ^= 0xff
	for range 4 {
		h.v0, h.v1, h.v2, h.v3 = round(h.v0, h.v1, h.v2, h.v3)
	}
	return max(h.v0^h.v1^h.v2^h.v3, 1)
}

func (h *Hash) word(w uint64) {
	h.v0, h.v1, h.v2, h.v3 = round(h.v0, h.v1, h.v2, h.v3^w)
	h.v0, h.v1, h.v2, h.v3 = round(h.v0, h.v1, h.v2, h.v3)
	h.v0 ^= w
	h.size += 8
}

func round(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32) + v3
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	return v0, v1, bits.RotateLeft64(v2, 32), v3
}
