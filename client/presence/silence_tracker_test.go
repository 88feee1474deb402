package presence_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

func beat(sec int, at time.Time) string {
	return string(presence.Status{State: presence.Online, Time: at, Interval: time.Duration(sec) * time.Second}.Append(nil))
}

func TestSilence_MakesDeviceStale(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", beat(10, r.now))
	r.live("plain", "online")
	r.sync()
	for range 5 {
		r.wait(29 * time.Second)
		r.wantList(r.expire())
		r.live("a", beat(10, r.now))
	}
	if next := r.Expire(r.now, nil); next.Before(r.now) || next.After(r.now.Add(30*time.Second)) {
		t.Errorf("next at %v, now is %v", next, r.now)
	}
	r.wait(30 * time.Second)
	r.wantList(r.expire(), "a online>stale")
	r.wantList(r.expire())
	if c := r.Counts(r.now); c.Stale != 1 || c.Online != 1 {
		t.Errorf("%+v", c)
	}
	r.want(r.live("a", beat(2, r.now)), "a stale>online")
	r.wait(6 * time.Second)
	r.wantList(r.expire(), "a online>stale")
	r.want(r.live("a", "offline"), "a stale>offline")
	r.want(r.live("a", beat(30, r.now)), "a offline>online")
	r.want(r.live("a", beat(1, r.now)), "") // looked at sooner than before
	r.wait(3 * time.Second)
	r.wantList(r.expire(), "a online>stale")
	if d, _ := r.Get("a", r.now); d.Flaps != 1 {
		t.Errorf("%d flaps, but silence does not count as one", d.Flaps)
	}
}

// TestSilence_CountsOnlyWhileLinkIsUp: what we could not hear is not held against
// a device, and a retained status that says nothing new is no sign of life.
func TestSilence_CountsOnlyWhileLinkIsUp(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	first := r.now
	r.live("a", beat(10, first))
	r.sync()
	r.wait(20 * time.Second)
	r.Lost(r.now)
	r.wait(time.Minute)
	r.wantList(r.expire())
	r.retained("a", beat(10, first))
	r.sync()
	r.wait(29 * time.Second)
	r.wantList(r.expire())
	r.wait(time.Second)
	r.wantList(r.expire(), "a online>stale")
	r.Lost(r.now)
	r.want(r.retained("a", beat(10, first)), "")
	if r.state("a") != presence.Stale {
		t.Error("an old status was accepted as a new one")
	}
	r.Lost(r.now)
	r.want(r.retained("a", beat(10, r.now)), "a stale>online")
}

func TestSilence_ChangingIntervalsUseNoMemory(t *testing.T) {
	r := newRig(t, presence.Options{})
	for range 10_000 {
		r.live("a", beat(2_000_000, r.now))
		r.live("a", beat(1, r.now))
		r.wait(4 * time.Second)
		r.expire()
	}
	if n := r.Checks(); n > 100 {
		t.Errorf("%d checks are kept for one device", n)
	}
}

// TestSilence_Hold: the process was suspended, and the heartbeats are read later.
func TestSilence_Hold(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", beat(1, r.now))
	r.live("b", beat(1, r.now))
	r.wait(time.Minute)
	until := r.now.Add(5 * time.Second)
	r.Hold(until)
	r.Hold(r.now)
	var told []presence.Change
	if next := r.Expire(r.now, func(c presence.Change) { told = append(told, c) }); len(told) > 0 || !next.Equal(until) {
		t.Errorf("got %v, next at %v, want %v", told, next, until)
	}
	r.wait(4 * time.Second)
	r.want(r.live("a", beat(1, r.now)), "")
	r.wantList(r.expire())
	r.wait(time.Second)
	r.wantList(r.expire(), "b online>stale")
}
