package ledger

import (
	"cmp"
	"slices"
)

// DeadLetters are the dead letters of the store.
type DeadLetters struct {
	Bytes int64        // packet bytes
	List  []DeadLetter // by sequence
}

// DeadLetter is a message whose result is DeadLettered.
type DeadLetter struct {
	Seq    uint64
	Reason uint8
}

// Reason returns the reason code of a dead letter, or 0.
func (d *DeadLetters) Reason(seq uint64) uint8 {
	if i, known := d.find(seq); known {
		return d.List[i].Reason
	}
	return 0
}

// Add adds a dead letter with a packet of this size.
func (d *DeadLetters) Add(seq uint64, size int, reason uint8) {
	if i, known := d.find(seq); !known {
		d.List = slices.Insert(d.List, i, DeadLetter{seq, reason})
	}
	d.Bytes += int64(size)
}

// Remove removes a dead letter with a packet of this size.
func (d *DeadLetters) Remove(seq uint64, size int) {
	switch i, known := d.find(seq); {
	case known && i == 0: // the usual case: no other dead letter has to be copied
		d.List = d.List[1:]
	case known:
		d.List = slices.Delete(d.List, i, i+1)
	}
	d.Bytes -= int64(size)
}

func (d *DeadLetters) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(d.List, seq, func(e DeadLetter, seq uint64) int { return cmp.Compare(e.Seq, seq) })
}
