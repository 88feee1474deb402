package index

// Batch contains the messages of an uncommitted batch. Their offsets are relative to its buffer.
type Batch struct {
	Index
	moves   []move  // messages that the batch writes again, to move them
	entries []entry // the messages of the batch that are not Normal
}

type move struct {
	seq uint64
	loc Loc
}

type entry struct {
	queued
	priority uint8
}

// AddMessage adds the next message, which is pending.
func (b *Batch) AddMessage(at Loc, priority uint8, number uint64, print uint16) {
	if priority != 0 {
		b.entries = append(b.entries, entry{queued{b.End(), number}, priority})
	}
	b.Add(at, priority, print)
}

// AddMove adds a message that the batch writes again.
func (b *Batch) AddMove(seq uint64, at Loc) { b.moves = append(b.moves, move{seq, at}) }

// Prioritized reports whether the batch contains a message that is not Normal.
func (b *Batch) Prioritized() bool { return len(b.entries) > 0 }

// Messages reports whether the batch contains messages, new or moved.
func (b *Batch) Messages() bool { return len(b.Locs)+len(b.moves) > 0 }

// Reset empties the batch and keeps its memory for reuse.
func (b *Batch) Reset(first uint64) {
	b.Index = Index{First: first, Keep: b.Keep, Locs: b.Locs[:0], states: b.states[:0], prints: b.prints[:0], extras: b.extras[:0]}
	b.moves, b.entries = b.moves[:0], b.entries[:0]
}
