package reliability

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff computes exponential delays with full jitter. Each delay is a random duration, uniformly
// distributed between Min and a bound that grows exponentially. Clients that lost their connections
// at the same time therefore do not reconnect at the same time. The zero value is usable. A Backoff
// has no state. It is safe for concurrent use if the function Rand is also safe for concurrent use.
type Backoff struct {
	Min    time.Duration // shortest delay; default: 100 ms, or half of Max if that is less
	Max    time.Duration // longest delay, at least Min; default: 1 minute
	Factor float64       // growth of the bound per attempt; default: 2, also for values below 1
	// Rand returns random numbers in [0, 1). A number outside this range is replaced by the nearest
	// number in the range. Default: rand.Float64 of math/rand/v2.
	Rand func() float64
}

// Delay returns the delay before an attempt. Attempts are counted from 0, and a negative attempt
// counts as 0. The delay is between Min and Min·Factor^(attempt+1), and at most Max. The
// computation does not overflow for any attempt.
func (b Backoff) Delay(attempt int) time.Duration {
	lo, hi, factor := b.bounds()
	bound := float64(lo) * math.Pow(factor, float64(max(attempt, 0))+1)
	if bound >= float64(hi) { // true also if Pow returned +Inf
		bound = float64(hi)
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	d := lo + time.Duration(min(max(random(), 0), 1)*(bound-float64(lo)))
	return min(max(d, lo), hi) // float64 rounds near the largest Duration; NaN converts to any value
}

// Later returns the delay before an attempt if the server has asked the client to retry later. The
// delay is random, uniformly distributed between half of Max and Max.
func (b Backoff) Later() time.Duration {
	lo, hi, _ := b.bounds()
	return Backoff{Min: max(lo, hi/2), Max: hi, Rand: b.Rand}.Delay(math.MaxInt32)
}

func (b Backoff) bounds() (lo, hi time.Duration, factor float64) {
	hi, factor = cmp.Or(max(0, b.Max), time.Minute), b.Factor
	lo = cmp.Or(max(0, b.Min), min(100*time.Millisecond, max(1, hi/2))) // half of Max, so that the delay stays random
	if !(factor >= 1) || math.IsInf(factor, 1) {
		factor = 2
	}
	return lo, max(lo, hi), factor
}

// steps returns the lowest attempt whose delay may be Max.
func (b Backoff) steps() float64 {
	lo, hi, factor := b.bounds()
	if lo == hi {
		return 0
	}
	return math.Ceil(math.Log(float64(hi)/float64(lo))/math.Log(factor)) - 1 // +Inf if factor is 1
}
