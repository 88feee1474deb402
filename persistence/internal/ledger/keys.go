package ledger

import (
	"hash/maphash"
	"math/bits"
)

// Keys finds the newest message of each key. It identifies a key by an 80-bit hash. Among a million
// keys, a collision occurs in one of 10^12 processes. The entries of ended messages stay until the
// table is rebuilt. The table is rebuilt when it is nearly full. It is also rebuilt when a segment
// is removed and the table has more than twice as many entries as there are pending messages. An
// entry takes 19 to 25 bytes, for any length of the key.
type Keys struct {
	slots []keySlot // an open-addressing hash table
	used  int
}

// keySlot is free if its sequence is 0.
type keySlot struct {
	hash uint64
	rest uint64 // the sequence in the low 48 bits, 16 more bits of the hash above
}

const (
	seqBits = 48
	maxSeq  = 1<<seqBits - 1 // messages with a higher sequence replace no other
	minKeys = 1024
)

var keySeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashKey(key string) keySlot {
	return keySlot{maphash.String(keySeeds[0], key), maphash.String(keySeeds[1], key) &^ maxSeq}
}

func (s keySlot) seq() uint64 { return s.rest & maxSeq }

// find returns the slot of a key, or the free slot where it belongs.
func (k *Keys) find(key keySlot) *keySlot {
	n := uint64(len(k.slots))
	for i, _ := bits.Mul64(key.hash, n); ; i++ {
		if i == n {
			i = 0
		}
		s := &k.slots[i]
		if s.seq() == 0 || s.hash == key.hash && (s.rest^key.rest)&^maxSeq == 0 {
			return s
		}
	}
}

// Newest returns the newest message of a key, or 0.
func (k *Keys) Newest(key string) uint64 {
	if len(k.slots) == 0 {
		return 0
	}
	return k.find(hashKey(key)).seq()
}

// Set sets the newest message of a key. alive reports whether a message has not ended.
func (k *Keys) Set(key string, seq uint64, alive func(seq uint64) bool) {
	if seq > maxSeq {
		return
	}
	if k.used >= len(k.slots)/20*17 {
		k.renew(alive)
	}
	h := hashKey(key)
	s := k.find(h)
	if s.seq() == 0 {
		k.used++
	}
	*s = keySlot{h.hash, h.rest | seq}
}

// Shrink rebuilds the table if most entries belong to messages that have ended.
func (k *Keys) Shrink(pending int, alive func(seq uint64) bool) {
	if k.used > 2*pending+minKeys {
		k.renew(alive)
	}
}

// renew rebuilds the table from the messages that have not ended. The new table is two thirds full.
func (k *Keys) renew(alive func(seq uint64) bool) {
	left := 0
	for i := range k.slots {
		if s := &k.slots[i]; s.seq() != 0 && alive(s.seq()) {
			left++
		} else {
			*s = keySlot{}
		}
	}
	before := k.slots
	k.slots, k.used = make([]keySlot, max(left*3/2, minKeys)), left
	for _, s := range before {
		if s.seq() != 0 {
			*k.find(s) = s
		}
	}
}
