package callback_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// collector is a queue of texts, and what its function received.
type collector struct {
	*callback.Queue[string]
	got  []string
	wait time.Duration // how long each call takes
	also func(string)
}

func newCollector() *collector {
	c := &collector{}
	c.Queue = callback.NewQueue(callback.QueueConfig[string]{
		Call: func(s string) {
			time.Sleep(c.wait)
			c.got = append(c.got, s)
			if c.also != nil {
				c.also(s)
			}
		},
		Size:   func(s string) int { return len(s) },
		Missed: func(n int) string { return fmt.Sprint("missed ", n) },
		Most:   10,
	})
	return c
}

func (c *collector) want(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := strings.Join(c.got, ","); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestQueue_KeepsTheOrderAndReportsWhatItDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector()
		c.wait = time.Second
		c.Add("1")
		synctest.Wait() // it is being handled
		for i, want := range []bool{true, true, false, false, true} {
			if ok := c.Add([]string{"aaaa", "bbbb", "cccc", "dddd", "e"}[i]); ok != want {
				t.Errorf("value %d: %v", i, ok)
			}
		}
		time.Sleep(time.Minute)
		c.want(t, "1,aaaa,bbbb,missed 2,e")
		c.Add(strings.Repeat("x", 100)) // larger than the queue
		time.Sleep(time.Minute)
		if dropped := c.Finish(t.Context(), "end"); dropped != 0 || c.Add("later") != true {
			t.Errorf("%d dropped", dropped)
		}
		c.want(t, "1,aaaa,bbbb,missed 2,e,"+strings.Repeat("x", 100)+",end")
	})
}

func TestQueue_NeverNestsAndEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector()
		c.wait = time.Second
		depth := 0
		c.also = func(s string) {
			if depth++; depth > 1 {
				t.Error("a call is nested")
			}
			if s != "end" {
				c.Add(s)
			}
			depth--
		}
		c.Add("again")
		c.Add("once")
		time.Sleep(10*time.Second + time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if dropped := c.Finish(ctx, "end"); dropped != 1 || time.Since(begin) > 4*time.Second {
			t.Errorf("%d dropped after %v", dropped, time.Since(begin))
		}
		if n := len(c.got); c.got[n-1] != "end" || !slices.Contains(c.got, "missed 1") {
			t.Errorf("got %v", c.got)
		}
	})
}

// TestQueue_FinishCountsEarlierLosses drops values twice: while they are added, and at the end.
func TestQueue_FinishCountsEarlierLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector()
		c.wait = time.Minute
		c.Add("1")
		synctest.Wait()
		for _, v := range []string{"aaaaaaaaaa", "b", "c"} { // b and c do not fit
			c.Add(v)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if dropped := c.Finish(ctx, "end"); dropped != 1 {
			t.Errorf("%d dropped, want 1", dropped)
		}
		c.want(t, "1,missed 3,end")
	})
}

func TestQueue_WaitReturnsWhenAllAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector()
		c.Wait() // nothing waits
		c.wait = time.Second
		c.Add("1")
		c.Add("2")
		begin := time.Now()
		c.Wait()
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
