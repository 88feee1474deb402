package persistence

import "github.com/mooring-mqtt/mooring/persistence/internal/index"

// compaction decides when the oldest segment is emptied: when more than half of the
// files has ended, the messages that are left in it are written again, to the newest,
// and it can be removed. Otherwise one pending message would keep all. At most about
// one byte is moved for each byte written.
type compaction struct {
	running  bool
	round    uint64 // everything was moved once when a segment above it is the oldest
	floor    int64  // the size that was left then
	squeezed uint64 // the newest segment when there was last no room
	forced   uint64 // segments up to this one are emptied: messages in them were dropped for room
}

// due reports whether the oldest segment is to be emptied. size is that of all
// segments, live what has not ended, newest the number of the newest segment.
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
		// Everything was moved once, so the present size is what is needed, whatever
		// live says (long keys, many streams): only twice as much is worth a round.
		begun := c.round > 0
		c.round = newest
		if begun {
			c.floor = size
			return c.due(oldest, size, live, newest)
		}
	}
	return true
}

// squeeze begins a round because there is no room, once for each newest segment.
func (c *compaction) squeeze(oldest *index.Segment, size, live int64, newest uint64) bool {
	if newest <= c.squeezed {
		return false
	}
	c.squeezed = newest
	c.floor, c.round = 0, newest
	return c.due(oldest, size, live, newest)
}
