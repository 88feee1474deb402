package main

import (
	"encoding/json"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// row is what browsers show of one device. Equal rows look the same.
type row struct {
	name         string
	state        presence.State
	since        int64 // last change of state, Unix time in milliseconds
	boots, flaps int
	backlog      uint64 // from the last report of the device
	p50, p99     int64  // microseconds, two digits; -1: no reading was handled recently
	reconnects   int64
	handled      uint64
	events       int // number of events so far; browsers load the details when it changes
	simulated    bool
	trouble      trouble // the present fault
	reported     bool    // the device has sent a report
	backlogIsOld bool    // the last report is outdated
	dropped      uint64  // readings that the device lost, from its last report
	losing       bool    // dropped has increased in the last minute
}

// MarshalJSON returns an array, to save space. assets/fleet.js has the names in the same order.
func (r row) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{r.name, r.state, r.since, r.boots, r.flaps, r.backlog, r.p50, r.p99,
		r.reconnects, r.handled, r.events, r.trouble, r.reported, r.backlogIsOld, r.simulated, r.dropped, r.losing})
}

// point is one second of the plots.
type point struct {
	at      int64 // Unix time in milliseconds
	online  int
	rate    float64 // handled readings per second
	p99     int64   // microseconds; -1: no reading was handled
	backlog uint64
	trusted bool
}

// MarshalJSON returns an array.
func (p point) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{p.at, p.online, p.rate, p.p99, p.backlog, p.trusted})
}

// totals are the sums of all rows.
type totals struct {
	Online     int     `json:"online"`
	Offline    int     `json:"offline"`
	Stale      int     `json:"stale"`
	Unknown    int     `json:"unknown"`
	Losing     int     `json:"losing"` // devices; they also count in one of the states
	Backlog    uint64  `json:"backlog"`
	Dropped    uint64  `json:"dropped"`
	Reconnects int64   `json:"reconnects"`
	Handled    uint64  `json:"handled"`
	Rate       float64 `json:"rate"`
	P50        int64   `json:"p50"` // microseconds, of the last minute
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
	if r.losing {
		t.Losing++
	}
	t.Backlog += r.backlog
	t.Dropped += r.dropped
	t.Reconnects += r.reconnects
	t.Handled += r.handled
}

// linkState describes the backend's connection, and whether the shown states are current.
type linkState struct {
	Phase   string `json:"phase"`
	Trusted bool   `json:"trusted"` // connected, and all retained statuses are known
	Since   int64  `json:"since"`   // last change of Trusted, Unix time in milliseconds
	Err     string `json:"err,omitempty"`
}

// known is what the backend knew when it was last connected.
type known struct {
	totals
	At int64 `json:"at"` // Unix time in milliseconds
}

// frame is a message to the browsers.
type frame struct {
	Now    int64     `json:"now"` // Unix time in milliseconds
	Totals totals    `json:"totals"`
	Known  *known    `json:"known,omitempty"` // set while Link.Trusted is false, if it was true before
	Link   linkState `json:"link"`
	Chaos  bool      `json:"chaos"` // random faults are on
	Rows   []row     `json:"rows"`  // all rows, or the changed ones
	Gone   []string  `json:"gone,omitempty"`
	Points []point   `json:"points,omitempty"`

	// Set in a snapshot only.
	Restart bool `json:"restart,omitempty"` // the board can restart the broker
	Limit   int  `json:"limit,omitempty"`   // options.limit, in milliseconds
	Window  int  `json:"window,omitempty"`  // period of P50 and P99 in totals and rows, in milliseconds
}

// micros returns a latency in microseconds, rounded to two digits so that the page does not flicker.
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
