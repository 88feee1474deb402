package ledger

import (
	"math/rand/v2"
	"time"
)

// Clock is the store's clock: the system's at the start, then the monotonic one. It
// does not go back between two openings. If the system's clock was never set (a device
// without a battery), it does not jump by decades while messages are pending.
type Clock struct {
	Began  time.Time
	Offset int64 // what is added to the system's clock, in milliseconds
}

// neverSet is before the time of any clock that was set: the year 2020.
const neverSet = 1_577_836_800_000

// ClockSet reports whether a clock with this time in Unix milliseconds was ever set.
func ClockSet(now int64) bool { return now >= neverSet }

// NextEpoch returns an epoch above the last one (0: there was none). It is the time in
// Unix milliseconds, if that is above. Otherwise chance keeps it apart from the epoch
// that another copy of the store begins, or that a lost store had, under the same clock.
func NextEpoch(now int64, last uint64) uint64 {
	switch {
	case ClockSet(now) && uint64(now) > last:
		return uint64(now)
	case last == 0:
		return 1 + rand.Uint64N(neverSet-1) // below that of any clock that was set
	}
	return last + 1 + rand.Uint64N(1<<24) // up to 4.7 hours: below that of a clock that is set soon
}

// Begin starts the clock. last is the latest time that an earlier opening recorded
// (0: none); pending reports that there are messages whose expiry depends on it.
func (c *Clock) Begin(start time.Time, last int64, pending bool) {
	c.Began = start
	now := start.UnixMilli()
	set := ClockSet(now)
	if last != 0 && (pending || !set) && (now < last || last < neverSet && set) {
		c.Offset = last - now
	}
}

// Now returns the time in Unix milliseconds.
func (c *Clock) Now() int64 { return c.Began.Add(time.Since(c.Began)).UnixMilli() + c.Offset }
