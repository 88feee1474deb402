package ledger

import (
	"cmp"
	"slices"
)

// DeadLetters are the dead letters that are kept, by sequence.
type DeadLetters struct {
	Bytes int64 // their packets
	list  []DeadLetter
}

// DeadLetter is a message whose result is DeadLettered.
type DeadLetter struct {
	Seq    uint64
	Reason uint8
}

// Len returns the number of dead letters.
func (d *DeadLetters) Len() int { return len(d.list) }

// List returns the dead letters, ascending.
func (d *DeadLetters) List() []DeadLetter { return slices.Clone(d.list) }

// Oldest returns the sequence of the first dead letter.
func (d *DeadLetters) Oldest() uint64 { return d.list[0].Seq }

// Reason returns the reason code of a dead letter, or 0.
func (d *DeadLetters) Reason(seq uint64) uint8 {
	if i, known := d.find(seq); known {
		return d.list[i].Reason
	}
	return 0
}

// Add adds a dead letter with a packet of this size.
func (d *DeadLetters) Add(seq uint64, size int, reason uint8) {
	if i, known := d.find(seq); !known {
		d.list = slices.Insert(d.list, i, DeadLetter{seq, reason})
	}
	d.Bytes += int64(size)
}

// Remove removes a dead letter with a packet of this size.
func (d *DeadLetters) Remove(seq uint64, size int) {
	switch i, known := d.find(seq); {
	case known && i == 0: // the usual one, without moving all others
		d.list = d.list[1:]
	case known:
		d.list = slices.Delete(d.list, i, i+1)
	}
	d.Bytes -= int64(size)
}

func (d *DeadLetters) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(d.list, seq, func(e DeadLetter, seq uint64) int { return cmp.Compare(e.Seq, seq) })
}
