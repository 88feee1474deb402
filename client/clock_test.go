package client

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTheClockFollowsTheMonotonicOne: what it says is wall time, so that it can
// be stored, and it moves with the monotonic clock, so that a step of the wall
// clock behind the client's start expires nothing.
func TestTheClockFollowsTheMonotonicOne(t *testing.T) {
	if c := newClock(); c.start == c.start.Round(0) {
		t.Error("its start has no monotonic reading to count from")
	}
	synctest.Test(t, func(t *testing.T) {
		c, began := newClock(), time.Now()
		time.Sleep(90 * time.Minute)
		if got := time.Since(began); got != 90*time.Minute || time.Duration(c.since()) != got {
			t.Errorf("it moved by %v in %v", time.Duration(c.since()), got)
		}
	})
}
