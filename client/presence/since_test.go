package presence_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

func timed(state presence.State, reason string, at time.Time) string {
	return string(presence.Status{State: state, Reason: reason, Time: at}.Append(nil))
}

// TestTracker_SinceOfRetainedStatus: a watcher that starts later knows when the state began.
func TestTracker_SinceOfRetainedStatus(t *testing.T) {
	hour := time.Hour
	for name, tt := range map[string]struct {
		payload string
		want    time.Duration // relative to the reception
	}{
		"birth":                {timed(presence.Online, presence.ReasonBirth, begin.Add(-hour)), -hour},
		"close":                {timed(presence.Offline, presence.ReasonClose, begin.Add(-hour)), -hour},
		"a clock that is fast": {timed(presence.Online, presence.ReasonBirth, begin.Add(hour)), 0},
		"will":                 {timed(presence.Offline, presence.ReasonWill, time.Time{}), 0},
		"plain":                {"online", 0},
	} {
		r := newRig(t, presence.Options{})
		r.retained("a", tt.payload)
		if d, _ := r.Get("a", r.now); !d.Since.Equal(begin.Add(tt.want)) {
			t.Errorf("%s: since %v, want %v after the reception", name, d.Since, tt.want)
		}
	}

	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	r.live("a", timed(presence.Online, presence.ReasonBirth, begin.Add(-hour)))
	if d, _ := r.Get("a", r.now); !d.Since.Equal(begin) {
		t.Errorf("a live status: since %v", d.Since)
	}
	r.wait(time.Minute)
	r.live("a", timed(presence.Online, presence.ReasonHeartbeat, begin.Add(-hour)))
	r.Lost(r.now)
	r.wait(time.Minute)
	r.retained("a", timed(presence.Offline, presence.ReasonClose, begin.Add(-2*hour)))
	if d, _ := r.Get("a", r.now); !d.Since.Equal(begin.Add(time.Minute)) {
		t.Errorf("a clock that is slow: since %v, want the last status before", d.Since)
	}
}
