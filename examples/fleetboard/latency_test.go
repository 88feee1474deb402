package main

import (
	"testing"
	"time"
)

func TestSpread_Quantiles(t *testing.T) {
	var s spread
	if got := s.quantile(.5); got != -1 {
		t.Errorf("the median of nothing is %v", got)
	}
	for i := 1; i <= 1000; i++ {
		s.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{.01: 10 * time.Millisecond, .5: 500 * time.Millisecond, .99: 990 * time.Millisecond, 1: time.Second} {
		if got := s.quantile(q); got < want || float64(got) > 1.2*float64(want) {
			t.Errorf("quantile %v is %v, want %v to 20 %% more", q, got, want)
		}
	}
	s.add(-time.Second)
	s.add(1000 * time.Hour)
	if got := s.quantile(1); got < time.Hour/2 {
		t.Errorf("the largest is %v", got)
	}
}

func TestRecent_ForgetsOldValues(t *testing.T) {
	var r recent
	at := time.Unix(1000, 0)
	count := func() (n uint32) {
		s := r.spread(at)
		for _, k := range s {
			n += k
		}
		return n
	}
	r.add(time.Second, at)
	at = at.Add(window / 2)
	r.add(time.Second, at)
	if n := count(); n != 2 {
		t.Errorf("%d after half a minute, want 2", n)
	}
	at = at.Add(window/2 - part - time.Second)
	if n := count(); n != 2 {
		t.Errorf("%d after 54 seconds, want 2", n)
	}
	at = at.Add(part + time.Second)
	if n := count(); n != 1 {
		t.Errorf("%d after a minute, want 1", n)
	}
	at = at.Add(window)
	if n := count(); n != 0 {
		t.Errorf("%d after two minutes, want 0", n)
	}
}

func TestMicros_HasTwoDigits(t *testing.T) {
	for d, want := range map[time.Duration]int64{-1: -1, 0: 0, 99 * time.Microsecond: 99, 123 * time.Microsecond: 120,
		1678 * time.Microsecond: 1700, 99600 * time.Microsecond: 100000} {
		if got := micros(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}
