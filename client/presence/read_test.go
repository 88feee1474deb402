package presence_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestTracker_AllWhileDevicesAreForgotten: the loop skips a device that is forgotten during the loop, but
// not the devices after it. The loop may end early.
func TestTracker_AllWhileDevicesAreForgotten(t *testing.T) {
	r := newRig(t, presence.Options{})
	for _, topic := range []string{"a", "b", "c", "d"} {
		r.live(topic, "online")
	}
	now := func() time.Time { return r.now }
	gone, came := "", 0
	for d := range r.All(now) {
		if d.Topic == gone {
			t.Errorf("%s was forgotten", gone)
		}
		came++
		for _, topic := range []string{"a", "b"} {
			if gone == "" && topic != d.Topic {
				gone = topic
				r.Forget(gone, r.now)
			}
		}
	}
	if came != 3 {
		t.Errorf("%d devices", came)
	}
	came = 0
	for range r.All(now) {
		came++
		break
	}
	if came != 1 {
		t.Errorf("%d devices, after a break", came)
	}
}

func TestTracker_CountsSynced(t *testing.T) {
	r := newRig(t, presence.Options{})
	synced := func(want bool, when string) {
		t.Helper()
		if r.Counts(r.now).Synced != want {
			t.Errorf("%s: Synced is %v", when, !want)
		}
	}
	synced(false, "at first")
	r.Resync()
	synced(false, "asked for again, before all came once")
	r.sync()
	synced(true, "all came")
	r.Resync()
	synced(true, "asked for again")
	r.sync()
	synced(true, "all arrived again")
	r.Lost(r.now)
	synced(false, "the link is lost")
}

// TestTracker_SyncEndsEarlierEpochs: a loss of the link before the sync is not reported any more.
func TestTracker_SyncEndsEarlierEpochs(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", "online")
	r.sync()
	r.Lost(r.now)
	r.retained("a", "online")
	r.wantList(r.sync(), "view synced")
	r.wait(time.Hour)
	r.wantList(r.expire())
	if r.state("a") != presence.Online {
		t.Errorf("a is %v", r.state("a"))
	}
}
