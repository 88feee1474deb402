package index

// Batch has the messages of an unfinished commit, with places relative to its buffer.
type Batch struct {
	Index
	moves []move // messages whose records were written before, elsewhere
	lines []line // its messages that are not Normal
}

type move struct {
	seq uint64
	loc Loc
}

type line struct {
	queued
	priority uint8
}

// AddMessage adds the next message, which is pending.
func (b *Batch) AddMessage(at Loc, priority uint8, number uint64, print uint16) {
	if priority != 0 {
		b.lines = append(b.lines, line{queued{b.End(), number}, priority})
	}
	b.Add(at, priority, print)
}

// AddMove adds a message that the commit writes again.
func (b *Batch) AddMove(seq uint64, at Loc) { b.moves = append(b.moves, move{seq, at}) }

// Prioritized reports whether a message is not Normal.
func (b *Batch) Prioritized() bool { return len(b.lines) > 0 }

// Messages reports whether there are messages in the batch, or moved ones.
func (b *Batch) Messages() bool { return len(b.Locs)+len(b.moves) > 0 }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset(first uint64) {
	b.Index = Index{First: first, Keep: b.Keep, Locs: b.Locs[:0], states: b.states[:0], prints: b.prints[:0], extras: b.extras[:0]}
	b.moves, b.lines = b.moves[:0], b.lines[:0]
}
