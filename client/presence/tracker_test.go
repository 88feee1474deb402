package presence_test

import (
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

func TestTracker_States(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.want(r.retained("a", "online"), "a unknown>online initial")
	r.want(r.live("b", "offline"), "b unknown>offline")
	r.wantList(r.sync(), "view synced")
	r.wait(time.Second)
	r.want(r.live("a", "online"), "")
	r.want(r.live("a", "offline"), "a online>offline")
	r.want(r.live("a", "online"), "a offline>online")
	r.want(r.live("a", "gibberish"), "a online>unknown")
	r.want(r.live("c", "gibberish"), "c unknown>unknown")
	r.want(r.live("b", ""), "b offline>unknown forgotten")
	r.want(r.live("b", ""), "")
	c := r.Counts(r.now)
	c.Synced = false
	if want := (presence.Counts{Devices: 2, Unknown: 2, Words: 9, Unreadable: 2}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	d, ok := r.Get("a", r.now)
	if want := (presence.Device{Topic: "a", State: presence.Unknown, Since: r.now, Seen: r.now, Flaps: 1}); !ok || d != want {
		t.Errorf("got %+v, want %+v", d, want)
	}
	if d, ok := r.Get("b", r.now); ok || d != (presence.Device{Topic: "b"}) {
		t.Errorf("got %+v of a device that was forgotten", d)
	}
	if c, ok := r.Forget("c", r.now); !ok || short(c) != "c unknown>unknown forgotten" {
		t.Errorf("got %+v", c)
	}
	if _, ok := r.Forget("c", r.now); ok {
		t.Error("forgotten twice")
	}
}

func TestTracker_ReportsWholeDevice(t *testing.T) {
	r := newRig(t, presence.Options{})
	s := presence.Status{State: presence.Online, Boot: someBoot, Time: begin.Add(time.Hour), Reason: presence.ReasonBirth, Version: "1.2", Interval: time.Minute}
	r.live("a", string(s.Append(nil)))
	r.wait(time.Second)
	s.Time, s.Reason = s.Time.Add(time.Second), presence.ReasonHeartbeat
	r.live("a", string(s.Append(nil)))
	d, _ := r.Get("a", r.now)
	want := presence.Device{Topic: "a", State: presence.Online, Since: begin, Seen: r.now, Boot: someBoot, Boots: 1, Status: s}
	if d != want {
		t.Errorf("got %+v, want %+v", d, want)
	}
	if list := slices.Collect(r.All(func() time.Time { return r.now })); len(list) != 1 || list[0] != want {
		t.Errorf("All: %+v", list)
	}
	if list := r.Snapshot(r.now); len(list) != 1 || list[0] != want {
		t.Errorf("Snapshot: %+v", list)
	}
}

// TestTracker_IgnoresWillOfOlderBoot: the will arrives after the birth of the process that has replaced
// the earlier one.
func TestTracker_IgnoresWillOfOlderBoot(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", boot("online", 1))
	r.live("a", boot("online", 2))
	r.want(r.live("a", boot("offline", 1)), "")
	d, _ := r.Get("a", r.now)
	if d.State != presence.Online || d.Boots != 2 || r.Counts(r.now).Superseded != 1 {
		t.Errorf("got %+v, %+v", d, r.Counts(r.now))
	}
	r.want(r.live("a", boot("offline", 2)), "a online>offline")
	r.want(r.live("a", boot("online", 3)), "a offline>online")
	r.live("a", boot("online", 4))
	r.live("a", boot("online", 5))
	r.want(r.live("a", boot("offline", 2)), "")
	r.want(r.live("a", boot("offline", 5)), "a online>offline")
	if d, _ := r.Get("a", r.now); d.Boots != 5 || d.Flaps != 1 {
		t.Errorf("got %+v", d)
	}
}

// TestTracker_CountsPossiblyFinalStatus: an offline that no newer online is known to
// supersede, or that may have one missing before it.
func TestTracker_CountsPossiblyFinalStatus(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", boot("online", 1))
	r.want(r.live("a", boot("offline", 2)), "a online>offline") // its birth was lost
	r.live("a", boot("online", 1))
	r.want(r.live("a", "offline"), "a online>offline") // a plain word
	r.live("a", boot("online", 1))
	r.live("a", boot("online", 3))
	r.Lost(r.now)
	r.want(r.retained("a", boot("offline", 1)), "a online>offline") // that of 3 may be overwritten
	if n := r.Counts(r.now).Superseded; n != 0 {
		t.Errorf("%d superseded", n)
	}
	d, _ := r.Get("a", r.now)
	if d.Boot != (presence.BootID{0: 1, 15: 3}) || d.Boots != 3 {
		t.Errorf("got %+v", d)
	}
	seen := d.Seen
	r.wait(time.Second)
	r.Lost(r.now)
	r.want(r.retained("a", boot("offline", 1)), "")
	if d, _ = r.Get("a", r.now); d.Seen != seen {
		t.Error("an unchanged retained status was accepted as a new one")
	}
	r.live("a", boot("online", 3))
	r.want(r.retained("a", boot("offline", 1)), "a online>offline")
	r.live("a", boot("online", 3))
	r.Lost(r.now)
	r.want(r.live("a", boot("offline", 1)), "a online>offline")
}

// TestTracker_TwoBootsOnOneTopic: an online always counts, and its own end then
// counts too.
func TestTracker_TwoBootsOnOneTopic(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", boot("online", 1))
	r.live("a", boot("online", 2))
	r.live("a", boot("online", 1))
	r.want(r.live("a", boot("offline", 2)), "")
	r.want(r.live("a", boot("offline", 1)), "a online>offline")
	if d, _ := r.Get("a", r.now); d.Boots != 2 {
		t.Errorf("%d boots", d.Boots)
	}
}

func TestTracker_NoOfflineWhileLinkIsDown(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.retained("on", "online")
	r.retained("off", "offline")
	r.sync()
	r.wait(time.Minute)
	r.Lost(r.now.Add(-5 * time.Second))
	r.wait(9 * time.Second)
	r.wantList(r.expire())
	if s := r.state("on"); s != presence.Online {
		t.Errorf("%v before its time", s)
	}
	r.wait(time.Second) // 15 s after the last sign of life
	r.wantList(r.expire(), "view stale")
	r.wantList(r.expire())
	if r.state("on") != presence.Stale || r.state("off") != presence.Offline {
		t.Errorf("%v and %v", r.state("on"), r.state("off"))
	}
	if d, _ := r.Get("on", r.now.Add(time.Hour)); !d.Since.Equal(r.now) {
		t.Errorf("stale since %v", d.Since)
	}
	if c := r.Counts(r.now); c.Stale != 1 || c.Online != 0 || c.Offline != 1 || c.Synced {
		t.Errorf("%+v", c)
	}
	r.want(r.retained("on", "online"), "")
	r.want(r.retained("off", "offline"), "")
	if c := r.Counts(r.now); c.Stale != 0 || c.Online != 1 {
		t.Errorf("%+v", c)
	}
	r.wantList(r.sync(), "view synced")
	if d, _ := r.Get("on", r.now); d.State != presence.Online || !d.Since.Equal(begin) || d.Flaps != 0 {
		t.Errorf("%+v", d)
	}
}

func TestTracker_StaleAtOnce(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: -1})
	r.live("a", "online")
	r.sync()
	r.Lost(r.now)
	r.wantList(r.expire(), "view stale")
	if r.state("a") != presence.Stale {
		t.Error(r.state("a"))
	}
	r.want(r.retained("a", "offline"), "a stale>offline")
}

// TestTracker_PastMessagesAreNotChanges: the queued messages of a resumed session are outdated. The
// retained status has the last state.
func TestTracker_PastMessagesAreNotChanges(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", boot("online", 1))
	r.live("b", boot("online", 1))
	r.sync()
	r.Lost(r.now)
	for _, word := range []string{boot("offline", 1), boot("online", 2), boot("offline", 2), boot("online", 3)} {
		r.want(r.past("a", word), "")
	}
	r.want(r.past("b", boot("offline", 1)), "")
	r.want(r.past("b", ""), "")
	r.want(r.past("new", "online"), "")
	if r.state("a") != presence.Online || r.state("b") != presence.Online {
		t.Error("history shows")
	}
	r.want(r.retained("a", boot("online", 3)), "")
	r.want(r.retained("b", boot("offline", 1)), "b online>offline")
	r.wantList(r.sync(), "view synced")
	if d, _ := r.Get("a", r.now); d.Boots != 3 || d.Flaps != 2 {
		t.Errorf("%+v", d)
	}
}

func TestTracker_ForgetsClearedDevices(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", "online")
	r.live("b", "online")
	r.sync()
	r.Lost(r.now)
	r.live("a", "online") // of the subscription that is made again
	r.past("b", "online")
	r.wantList(r.sync(), "b online>unknown forgotten absent", "view synced")
	if c := r.Counts(r.now); c.Devices != 1 || c.Online != 1 || c.Unknown != 0 {
		t.Errorf("%+v", c)
	}
}

// TestTracker_LinkFlaps: what is confirmed on a link that is lost before all came is
// stale by that one's time, and the rest by the earlier one's.
func TestTracker_LinkFlaps(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: 10 * time.Second})
	r.live("a", "online")
	r.live("b", "online")
	r.sync()
	r.Lost(r.now)
	r.wait(5 * time.Second)
	r.retained("b", "online")
	r.Lost(r.now)
	r.wait(5 * time.Second)
	r.wantList(r.expire(), "view stale")
	if r.state("a") != presence.Stale || r.state("b") != presence.Online {
		t.Errorf("%v, %v", r.state("a"), r.state("b"))
	}
	r.wait(5 * time.Second)
	if r.state("b") != presence.Stale {
		t.Error(r.state("b"))
	}
	for range 3 * presence.MaxEnded {
		r.wait(time.Second)
		r.retained("b", "online")
		r.Lost(r.now)
	}
	if r.state("a") != presence.Stale || r.state("b") != presence.Online || r.Counts(r.now).Online != 1 || r.Counts(r.now).Stale != 1 {
		t.Errorf("%v, %v, %+v", r.state("a"), r.state("b"), r.Counts(r.now))
	}
	if n := r.Ended(); n > presence.MaxEnded {
		t.Errorf("%d epochs are kept", n)
	}
	r.wait(10 * time.Second)
	if c := r.Counts(r.now); r.state("b") != presence.Stale || c.Stale != 2 || c.Online != 0 {
		t.Errorf("%v, %+v", r.state("b"), c)
	}
	r.retained("b", "online")
	r.wantList(r.sync(), "a stale>unknown forgotten absent", "view synced")
	if c := r.Counts(r.now); c.Online != 1 || c.Devices != 1 {
		t.Errorf("%+v", c)
	}
}

// TestTracker_LatePastMessages: a retained status at QoS 0 may overtake what the session
// kept. What is older than that says nothing any more, and the silence of the device is
// noticed all the same.
func TestTracker_LatePastMessages(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", beat(10, r.now))
	r.sync()
	r.wait(time.Second)
	r.Lost(r.now)
	r.want(r.retained("a", beat(10, r.now)), "")
	r.want(r.past("a", boot("offline", 1)), "")
	if d, _ := r.Get("a", r.now); d.State != presence.Online || d.Status.State != presence.Online || d.Boots != 0 {
		t.Errorf("%+v", d)
	}
	r.sync()
	r.wait(31 * time.Second)
	r.wantList(r.expire(), "a online>stale")
}
