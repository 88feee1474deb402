package client

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// A second loop continues after the first, two loops at the same time share the values, and all
// loops end.
func TestChanges_SeveralLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changes[int]{limit: 4, missed: func(n int) int { return -n }}
		seq := c.read()
		c.push(1)
		for range seq {
			break
		}
		c.push(2) // between the loops
		var mu sync.Mutex
		var got []int
		var loops sync.WaitGroup
		for range 2 {
			loops.Go(func() {
				for v := range seq {
					mu.Lock()
					got = append(got, v)
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		for v := range 3 {
			c.push(10 + v)
			synctest.Wait()
		}
		c.close()
		loops.Wait() // otherwise synctest reports a deadlock
		if slices.Sort(got); !slices.Equal(got, []int{10, 11, 12}) || len(c.readers) != 0 {
			t.Errorf("got %v; %d readers are left", got, len(c.readers))
		}
		for range seq {
			t.Error("it is closed")
		}
	})
}

// The values that wait for a reader are limited in bytes too.
func TestChanges_LimitsBytes(t *testing.T) {
	const limit, size = 1 << 20, 60_000
	lost := 0
	c := &changes[string]{limit: 1024, bytes: limit, size: func(v string) int { return len(v) },
		missed: func(n int) string { return "missed" }, lost: func(n int) { lost += n }}
	seq := c.read()
	const count = 100
	for range count {
		c.push(strings.Repeat("x", size))
		for r := range c.readers {
			if held := len(strings.Join(r.queue, "")); held > limit || held != r.bytes {
				t.Fatalf("%d bytes wait, counted %d", held, r.bytes)
			}
		}
	}
	c.close()
	got := slices.Collect(seq)
	if got[0] != "missed" || lost+len(got)-1 != count || lost == 0 {
		t.Errorf("%d values, %d lost", len(got), lost)
	}
}
