package reliability

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is an exponential backoff with full jitter: each delay is random, uniform
// between Min and the exponential bound, so that many clients that lost their
// connection together do not reconnect together. The zero value is usable. A Backoff
// has no state. It can be used concurrently if Rand can.
type Backoff struct {
	Min    time.Duration // shortest delay; default 100 ms
	Max    time.Duration // longest delay; default 1 minute, at least Min
	Factor float64       // growth per attempt; default 2, values below 1 mean the default
	// Rand returns numbers in [0, 1); default: math/rand/v2. For others the nearest one
	// in the range is used.
	Rand func() float64
}

// Delay returns the delay before an attempt, counted from 0. It is between Min and
// Min·Factor^(attempt+1), and at most Max. A negative attempt counts as 0. No attempt overflows.
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
	return min(max(d, lo), hi) // float64 rounds near the largest Duration; NaN converts to any value
}

// Later returns the delay before an attempt that the server has asked to defer:
// random, uniform between half of Max and Max.
func (b Backoff) Later() time.Duration {
	lo, hi, _ := b.bounds()
	return Backoff{Min: max(lo, hi/2), Max: hi, Rand: b.Rand}.Delay(math.MaxInt32)
}

func (b Backoff) bounds() (lo, hi time.Duration, factor float64) {
	lo, hi, factor = cmp.Or(max(0, b.Min), 100*time.Millisecond), cmp.Or(max(0, b.Max), time.Minute), b.Factor
	if !(factor >= 1) || math.IsInf(factor, 1) {
		factor = 2
	}
	return lo, max(lo, hi), factor
}
