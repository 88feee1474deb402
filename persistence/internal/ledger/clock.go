package ledger

import (
	"math/rand/v2"
	"time"
)

// Clock is the clock of the store. It starts at the system time and then follows the monotonic clock.
// While messages are pending, it does not go back from one opening to the next. If the system clock
// was never set, as on a device without a battery, it also does not jump by decades.
type Clock struct {
	Began  time.Time
	Offset int64 // added to the system time, in milliseconds
}

// neverSet is the beginning of the year 2020. A clock that shows an earlier time was never set.
const neverSet = 1_577_836_800_000

// ClockSet reports whether a clock that shows this time, in Unix milliseconds, was ever set.
func ClockSet(now int64) bool { return now >= neverSet }

// NextEpoch returns an epoch that is higher than last. last is the previous epoch, or 0 if there
// was none. The result is the time in Unix milliseconds if that number is higher than last. If it
// is not higher, or if the clock was never set, the result has random bits. It then differs from
// the epoch of another copy of the store, or of a lost store, with the same clock.
func NextEpoch(now int64, last uint64) uint64 {
	switch {
	case ClockSet(now) && uint64(now) > last:
		return uint64(now)
	case last == 0:
		return 1 + rand.Uint64N(neverSet-1) // below the epochs of a clock that was set
	}
	return last + 1 + rand.Uint64N(1<<24) // at most 4.7 hours above, so a clock that is set soon exceeds it
}

// Begin starts the clock. last is the latest time that an earlier opening recorded, or 0 if there
// is none. pending reports whether there are messages whose expiry depends on the clock.
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
