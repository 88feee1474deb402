package main

import (
	"encoding/json"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// row is one device as browsers have it. Two rows that are equal look the same.
type row struct {
	name         string
	state        presence.State
	since        int64 // of state, Unix time in milliseconds
	boots, flaps int
	backlog      uint64 // as the device said last
	p50, p99     int64  // microseconds, two digits; -1: nothing was handled of late
	reconnects   int64
	handled      uint64
	events       int // that were noted, to know when there are more
	simulated    bool
	trouble      trouble // what the simulation does to it
	reported     bool    // it has said anything of itself
	backlogIsOld bool    // it has not for a while
}

// MarshalJSON is an array, since there are many. assets/fleet.js knows the order.
func (r row) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{r.name, r.state, r.since, r.boots, r.flaps, r.backlog, r.p50, r.p99,
		r.reconnects, r.handled, r.events, r.trouble, r.reported, r.backlogIsOld, r.simulated})
}

// point is one second of the plot.
type point struct {
	at      int64 // Unix time in milliseconds
	online  int
	rate    float64 // messages handled in a second
	p99     int64   // microseconds; -1: none was handled
	backlog uint64
	trusted bool
}

// MarshalJSON is an array too.
func (p point) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{p.at, p.online, p.rate, p.p99, p.backlog, p.trusted})
}

// totals are those of all rows, so that they always add up to what is shown.
type totals struct {
	Online     int     `json:"online"`
	Offline    int     `json:"offline"`
	Stale      int     `json:"stale"`
	Unknown    int     `json:"unknown"`
	Backlog    uint64  `json:"backlog"`
	Reconnects int64   `json:"reconnects"`
	Handled    uint64  `json:"handled"`
	Rate       float64 `json:"rate"`
	P50        int64   `json:"p50"` // microseconds, of the last half minute to minute
	P99        int64   `json:"p99"`
}

func (t *totals) count(r *row) {
	switch r.state {
	case presence.Online:
		t.Online++
	case presence.Offline:
		t.Offline++
	case presence.Stale:
		t.Stale++
	default:
		t.Unknown++
	}
	t.Backlog += r.backlog
	t.Reconnects += r.reconnects
	t.Handled += r.handled
}

// linkState is our own link: whether the rest may be believed.
type linkState struct {
	Phase   string `json:"phase"`
	Trusted bool   `json:"trusted"` // it stands, and all retained statuses are known
	Since   int64  `json:"since"`   // when Trusted became what it is, Unix time in milliseconds
	Err     string `json:"err,omitempty"`
}

// frame is what browsers are sent.
type frame struct {
	Now    int64     `json:"now"` // Unix time in milliseconds
	Totals totals    `json:"totals"`
	Link   linkState `json:"link"`
	Chaos  bool      `json:"chaos"` // random faults are on
	Rows   []row     `json:"rows"`  // all, or those that changed
	Gone   []string  `json:"gone,omitempty"`
	Points []point   `json:"points,omitempty"`

	// Only in a snapshot.
	Restart bool `json:"restart,omitempty"` // the broker can be restarted from here
	Limit   int  `json:"limit,omitempty"`   // options.limit, in milliseconds
}

// micros is a latency as browsers get it: with two digits, so that it does not
// flicker.
func micros(d time.Duration) int64 {
	us := int64(d / time.Microsecond)
	if d < 0 {
		return -1
	}
	unit := int64(1)
	for us/unit >= 100 {
		unit *= 10
	}
	return (us + unit/2) / unit * unit
}
