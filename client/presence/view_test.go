package presence_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestTracker_MergedEpochsKeepDevices: the link is lost more often than the tracker can distinguish
// losses, and each loss affects another device.
func TestTracker_MergedEpochsKeepDevices(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	const n = 2 * presence.MaxEnded
	for i := range n {
		r.live(fmt.Sprint(i), "online")
		r.Lost(r.now)
	}
	if c := r.Counts(r.now); c.Online != n || c.Stale != 0 {
		t.Errorf("%+v", c)
	}
	r.wait(time.Hour)
	if c := r.Counts(r.now); c.Online != 0 || c.Stale != n {
		t.Errorf("after StaleAfter: %+v", c)
	}
	for i := range n {
		r.retained(fmt.Sprint(i), "offline")
	}
	if c := r.Counts(r.now); c.Online != 0 || c.Stale != 0 || c.Offline != n {
		t.Errorf("all offline: %+v", c)
	}
}

// TestTracker_MergedEpochsKeepPendingReports: one of them told that a device is Online.
func TestTracker_MergedEpochsKeepPendingReports(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	r.Lost(r.now)
	r.live("a", "online")
	for range 2 * presence.MaxEnded {
		r.Lost(r.now)
	}
	r.wait(time.Hour)
	r.wantList(r.expire(), "view stale")
	for range 2 * presence.MaxEnded {
		r.Lost(r.now)
	}
	r.wait(time.Hour)
	r.wantList(r.expire()) // it is reported
}

// TestTracker_NoViewStaleWithoutOnlineDevices: the only device that was reported as Online goes Offline
// before the view becomes stale.
func TestTracker_NoViewStaleWithoutOnlineDevices(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", "online")
	r.Lost(r.now)
	r.retained("a", "offline")
	r.wait(time.Hour)
	r.wantList(r.expire())
}

// TestTracker_ReportsUnreadableOnce: that a device is there is news, the first time.
func TestTracker_ReportsUnreadableOnce(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.want(r.live("a", "gibberish"), "a unknown>unknown")
	r.want(r.live("a", "gibberish"), "")
	r.want(r.live("a", "more of it"), "")
}
