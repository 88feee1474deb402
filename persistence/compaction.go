package persistence

import "github.com/mooring-mqtt/mooring/persistence/internal/index"

// compaction decides when the oldest segment is emptied. Without it, one pending message would keep
// all later segments on disk. When more than half of the bytes in the segments belong to ended
// messages, the remaining messages of the oldest segment are written again, to the newest segment,
// and the oldest can be removed. A round moves the messages of all segments that exist when it
// begins. About one byte is moved, at most, for each byte written.
type compaction struct {
	running  bool
	reading  uint64 // the segment that is open for reading, which stays; 0: none
	round    uint64 // the newest segment when the round began; 0: no round yet
	floor    int64  // the size that was left after the last round
	squeezed uint64 // the newest segment when compaction last began for want of room
	forced   uint64 // segments up to this one are emptied, because messages in them were dropped for room
}

// due reports whether the oldest segment is to be emptied. size is the size of all segments, live
// the size of the messages that have not ended, and newest the number of the newest segment.
func (c *compaction) due(oldest *index.Segment, size, live int64, newest uint64) bool {
	c.floor = min(c.floor, size)
	switch {
	case oldest.Number == newest || oldest.Alive+oldest.Dead == 0:
		return false
	case oldest.Number <= c.forced:
		return true
	case size <= 2*max(live, c.floor):
		return false
	}
	if oldest.Number > c.round {
		// The last round moved everything, so the present size is needed, even if live is smaller
		// (long keys, many streams). The next round is only worthwhile when the size has doubled.
		begun := c.round > 0
		c.round = newest
		if begun {
			c.floor = size
			return c.due(oldest, size, live, newest)
		}
	}
	return true
}

// squeeze begins a round for want of room, at most once for each newest segment.
func (c *compaction) squeeze(oldest *index.Segment, size, live int64, newest uint64) bool {
	if newest <= c.squeezed {
		return false
	}
	c.squeezed = newest
	c.floor, c.round = 0, newest
	return c.due(oldest, size, live, newest)
}
