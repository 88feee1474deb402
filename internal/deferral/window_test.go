package deferral_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/deferral"
)

func answers(w *deferral.Window, n int, acked bool) {
	for range n {
		w.Answered(acked, 100)
	}
}

// The window halves from the number in flight, once for messages that were in flight together.
func TestWindow_Halves(t *testing.T) {
	var w deferral.Window
	wants(t, "at first", w.Limit(), 0)
	answers(&w, 1000, true)
	wants(t, "without a refusal", w.Limit(), 0)
	w.Refused(64)
	wants(t, "after a refusal", w.Limit(), 32)
	for range 63 { // answers to messages sent before
		answers(&w, 1, false)
		w.Refused(60)
		wants(t, "after another of the same time", w.Limit(), 32)
	}
	answers(&w, 1, false)
	w.Refused(31)
	wants(t, "after one that was sent later", w.Limit(), 16)
	for range 16 {
		answers(&w, 100, false)
		w.Refused(1)
	}
	wants(t, "the smallest", w.Limit(), 1)
}

// The window grows by a quarter for each acknowledged window, and finally has no limit.
func TestWindow_Grows(t *testing.T) {
	var w deferral.Window
	w.Refused(40)
	for _, limit := range []int{20, 25, 31, 38, 47, 58, 72, 90, 0} {
		wants(t, "limit", w.Limit(), limit)
		answers(&w, max(limit-1, 0), true)
		wants(t, "limit, one acknowledgement short", w.Limit(), limit)
		answers(&w, 5, false) // these do not count
		wants(t, "limit, after refusals", w.Limit(), limit)
		answers(&w, 1, true)
	}
	w.Refused(1) // the smallest window grows by one
	for _, limit := range []int{1, 2, 3, 4, 5, 6} {
		wants(t, "limit", w.Limit(), limit)
		answers(&w, limit, true)
	}
}

func TestWindow_OpensAtOnce(t *testing.T) {
	var w deferral.Window
	w.Refused(40)
	w.Open()
	wants(t, "after Open", w.Limit(), 0)
	w.Refused(10)
	wants(t, "after the next refusal", w.Limit(), 5)
}

// A refusal restarts the count.
func TestWindow_RefusalResetsTheCredit(t *testing.T) {
	var w deferral.Window
	w.Refused(20)
	answers(&w, 20, false)
	answers(&w, 9, true)
	w.Refused(10)
	wants(t, "after the second refusal", w.Limit(), 5)
	answers(&w, 4, true)
	wants(t, "one acknowledgement short", w.Limit(), 5)
	answers(&w, 1, true)
	wants(t, "after a window", w.Limit(), 6)
}

// If a server accepts a fixed number of messages at a time, the window stays near that number.
func TestWindow_FindsTheQuota(t *testing.T) {
	for _, quota := range []int{1, 2, 7, 50} {
		var w deferral.Window
		var flight []bool // accepted messages
		held := 0
		for n := range 20_000 {
			for len(flight) < 200 && (w.Limit() == 0 || len(flight) < w.Limit()) {
				flight = append(flight, held < quota)
				if held < quota {
					held++
				}
			}
			accepted := flight[0]
			flight = flight[1:]
			if w.Answered(accepted, 1<<16); accepted {
				held--
			} else {
				w.Refused(len(flight))
			}
			if l := w.Limit(); n > 1000 && (l == 0 || l > quota+quota/4+1 || l < quota/2) {
				t.Fatalf("quota %d: the window is %d after %d answers", quota, l, n)
			}
		}
	}
}
