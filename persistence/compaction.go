package persistence

import "github.com/mooring-mqtt/mooring/persistence/internal/index"

// compaction decides when to move the messages out of the oldest segment. Without compaction, one
// pending message would keep all later segments on disk. Compaction is due when more than half of
// the bytes in the segments belong to ended messages. The remaining messages of the oldest segment
// are then written again to the newest segment, and the oldest segment can be removed. A round
// moves the messages of all segments that exist when the round begins. Compaction moves at most
// about one byte for each byte written.
type compaction struct {
	running  bool
	reading  uint64 // the segment that is open for reading and is therefore not removed; 0 if none is open
	round    uint64 // the newest segment when the round began; 0 if no round has begun
	floor    int64  // the size that was left after the last round
	squeezed uint64 // the newest segment when squeeze last began a round
	forced   uint64 // segments up to this one are emptied, because messages in them were dropped for room
}

// due reports whether the messages of the oldest segment should be moved. size is the size of all
// segments. live is the size of the messages that have not ended. newest is the number of the
// newest segment.
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
		// The last round moved everything, so the log needs the present size, even if live is
		// smaller. The estimate live can be too low with long keys or many streams. The next round
		// is only worthwhile when the size has doubled.
		begun := c.round > 0
		c.round = newest
		if begun {
			c.floor = size
			return c.due(oldest, size, live, newest)
		}
	}
	return true
}

// squeeze begins a round of compaction because the log lacks disk space. After that, it begins no
// other round until the log has a newer segment.
func (c *compaction) squeeze(oldest *index.Segment, size, live int64, newest uint64) bool {
	if newest <= c.squeezed {
		return false
	}
	c.squeezed = newest
	c.floor, c.round = 0, newest
	return c.due(oldest, size, live, newest)
}
