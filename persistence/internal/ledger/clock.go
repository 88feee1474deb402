package ledger

import "time"

// Clock is the store's clock: the system's at the start, then the monotonic one. It
// does not go back between two openings. If the system's clock was never set (a device
// without a battery), it does not jump by decades while messages are pending.
type Clock struct {
	Began  time.Time
	Offset int64 // what is added to the system's clock, in milliseconds
}

// neverSet is before the time of any clock that was set: the year 2020.
const neverSet = 1_577_836_800_000

// Begin starts the clock. last is the latest time that an earlier opening recorded
// (0: none); pending reports that there are messages whose expiry depends on it.
func (c *Clock) Begin(start time.Time, last int64, pending bool) {
	c.Began = start
	now := start.UnixMilli()
	set := now >= neverSet
	if last != 0 && (pending || !set) && (now < last || last < neverSet && set) {
		c.Offset = last - now
	}
}

// Now returns the time in Unix milliseconds.
func (c *Clock) Now() int64 { return c.Began.Add(time.Since(c.Began)).UnixMilli() + c.Offset }
