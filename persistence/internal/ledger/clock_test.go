package ledger

import (
	"testing"
	"time"
)

// TestClock_Begin checks the time at an opening, after an earlier opening has recorded a time.
func TestClock_Begin(t *testing.T) {
	const set = neverSet + 1_000_000
	for _, c := range []struct {
		name    string
		last    int64
		pending bool
		now     int64
		want    int64
	}{
		{"new", 0, false, set, set},
		{"later", set - 500, true, set, set},
		{"the system's clock went back", set + 5000, true, set, set + 5000},
		{"it went back, nothing is pending", set + 5000, false, set, set},
		{"it was never set before, messages are pending", 1000, true, set, 1000},
		{"it was never set before, nothing is pending", 1000, false, set, set},
		{"it is not set", 5000, false, 1000, 5000},
	} {
		var k Clock
		k.Begin(time.UnixMilli(c.now), c.last, c.pending)
		if got := k.Began.UnixMilli() + k.Offset; got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestNextEpoch checks that an epoch is the time, or a random number above the last epoch.
func TestNextEpoch(t *testing.T) {
	const set = neverSet + 1_000_000
	for _, c := range []struct {
		now         int64
		last        uint64
		least, most uint64
		twoAreApart bool
	}{
		{set, 0, set, set, false},
		{set, set - 1, set, set, false},
		{set, 5, set, set, false},
		{set, set, set + 1, set + 1<<24, true},
		{set, set + 9, set + 10, set + 9 + 1<<24, true},
		{0, 0, 1, neverSet - 1, true},
		{-5, 0, 1, neverSet - 1, true},
		{neverSet - 1, 0, 1, neverSet - 1, true},
		{0, 7, 8, 7 + 1<<24, true},
		{neverSet - 1, set, set + 1, set + 1<<24, true},
	} {
		one, two := NextEpoch(c.now, c.last), NextEpoch(c.now, c.last)
		if min(one, two) < c.least || max(one, two) > c.most || (one != two) != c.twoAreApart {
			t.Errorf("at %d after %d: %d and %d, want %d to %d", c.now, c.last, one, two, c.least, c.most)
		}
	}
}
