package main

import (
	"math"
	"time"
)

// spread counts durations from 50 µs to an hour in 104 buckets. Each bucket is 19 % wider than the
// previous one. A spread is small enough for one per device.
type spread [104]uint32

const narrowest = 50 * time.Microsecond

func (s *spread) add(d time.Duration) {
	i := 0
	if d > narrowest {
		i = min(int(math.Ceil(4*math.Log2(float64(d)/float64(narrowest)))), len(s)-1)
	}
	s[i]++
}

// merge adds the counts of another spread.
func (s *spread) merge(other *spread) {
	for i, n := range other {
		s[i] += n
	}
}

// quantile returns the upper end of the bucket that contains the quantile q, or -1 without durations.
func (s *spread) quantile(q float64) time.Duration {
	var all uint64
	for _, n := range s {
		all += uint64(n)
	}
	if all == 0 {
		return -1
	}
	due := uint64(math.Ceil(q * float64(all)))
	var seen uint64
	for i, n := range s {
		if seen += uint64(n); seen >= due {
			return time.Duration(float64(narrowest) * math.Pow(2, float64(i)/4))
		}
	}
	return -1
}

// recent is a spread of the last minute. It discards old values in steps of part: a value counts for 55
// to 60 seconds.
type recent struct {
	parts  [window / part]spread
	now    int       // index of the part that add fills
	turned time.Time // start of that part
}

const (
	window = time.Minute
	part   = 5 * time.Second
)

func (r *recent) add(d time.Duration, at time.Time) {
	r.turn(at)
	r.parts[r.now].add(d)
}

func (r *recent) turn(at time.Time) {
	if at.Sub(r.turned) >= window {
		*r = recent{turned: at}
	}
	for at.Sub(r.turned) >= part {
		r.now = (r.now + 1) % len(r.parts)
		r.parts[r.now] = spread{}
		r.turned = r.turned.Add(part)
	}
}

func (r *recent) spread(at time.Time) spread {
	r.turn(at)
	var all spread
	for i := range r.parts {
		all.merge(&r.parts[i])
	}
	return all
}
