package presence_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestSilence_ChecksSurviveCompaction: intervals that change leave
// entries behind, and with them must not go those of other devices.
func TestSilence_ChecksSurviveCompaction(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("quiet", beat(1000, r.now))
	for i := range 200 {
		r.live("a", beat(900-i, r.now))
	}
	if n := r.Checks(); n > 80 {
		t.Fatalf("%d checks: none was given up", n)
	}
	r.wait(3000 * time.Second)
	r.wantList(r.expire(), "a online>stale", "quiet online>stale")
}

func TestSilence_IsReportedOnce(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	first := r.now
	r.retained("a", beat(10, first))
	r.sync()
	r.wait(30 * time.Second)
	r.wantList(r.expire(), "a online>stale")
	r.Lost(r.now)
	r.retained("a", beat(10, first)) // nothing new
	r.sync()
	r.wait(30 * time.Second)
	r.wantList(r.expire())
}

// TestSilence_IgnoresDevicesWithoutInterval: nothing is due for it.
func TestSilence_IgnoresDevicesWithoutInterval(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", "online")
	r.live("b", "offline")
	if next := r.Expire(r.now, nil); !next.IsZero() {
		t.Errorf("due at %v", next)
	}
}
