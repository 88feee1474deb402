package reliability

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next attempt: exponential with full
// jitter, that is evenly spread between Min and the exponential bound, so that
// a thousand devices cut off by one broker restart do not come back together.
// The zero value waits 100 ms to 1 minute and doubles.
//
// A Backoff is a value without state; it may be used concurrently if Rand may.
type Backoff struct {
	Min    time.Duration // shortest delay; default 100 ms
	Max    time.Duration // longest delay; default 1 minute, at least Min
	Factor float64       // growth per attempt; default 2, values below 1 mean the default

	// Rand returns numbers in [0, 1); default math/rand/v2. Numbers outside are
	// taken as the nearest inside.
	Rand func() float64
}

const (
	defaultMin    = 100 * time.Millisecond
	defaultMax    = time.Minute
	defaultFactor = 2
)

// Delay returns the wait before attempt, counted from 0: between Min and
// Min·Factor^(attempt+1), never above Max. It does not overflow for any attempt;
// negative ones count as 0.
func (b Backoff) Delay(attempt int) time.Duration {
	lo, hi, factor := b.bounds()
	bound := float64(lo) * math.Pow(factor, float64(max(attempt, 0))+1)
	if bound >= float64(hi) { // also when Pow gave +Inf
		bound = float64(hi)
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	d := lo + time.Duration(min(max(random(), 0), 1)*(bound-float64(lo)))
	return min(max(d, lo), hi) // float64 rounds near the largest Duration, and NaN is anything
}

// Later returns the wait before an attempt that the other side asked to put
// off: evenly spread between half of Max and Max, however few attempts there
// were.
func (b Backoff) Later() time.Duration {
	lo, hi, _ := b.bounds()
	return Backoff{Min: max(lo, hi/2), Max: hi, Rand: b.Rand}.Delay(math.MaxInt32)
}

func (b Backoff) bounds() (lo, hi time.Duration, factor float64) {
	lo, hi, factor = b.Min, b.Max, b.Factor
	if lo <= 0 {
		lo = defaultMin
	}
	if hi <= 0 {
		hi = defaultMax
	}
	if !(factor >= 1) || math.IsInf(factor, 1) {
		factor = defaultFactor
	}
	return lo, max(lo, hi), factor
}
