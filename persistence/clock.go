package persistence

import "time"

// clock is the store's: the system's at the start, then the monotonic one. It
// never runs back from one opening to the next, and a system whose clock was
// never set (devices without a battery begin at 1970) does not leap by decades
// while messages are waiting.
type clock struct {
	start  time.Time
	offset int64 // what the system's clock lacks, in milliseconds
}

// neverSet is a time that no clock which was set shows: the year 2020.
const neverSet = 1_577_836_800_000

// begin starts the clock; last is the latest time that an earlier opening noted
// (0: none), and waiting says whether messages are there that count by it.
func (c *clock) begin(last int64, waiting bool) { c.beginAt(time.Now(), last, waiting) }

func (c *clock) beginAt(start time.Time, last int64, waiting bool) {
	c.start = start
	now := c.start.UnixMilli()
	switch {
	case last == 0 || !waiting && now >= neverSet:
	case now < last, last < neverSet && now >= neverSet:
		c.offset = last - now
	}
}

func (c *clock) now() int64 {
	return c.start.Add(time.Since(c.start)).UnixMilli() + c.offset
}
