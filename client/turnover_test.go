package client

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/retained"
)

// TestOthersWhileWeWereAway: as many as there is room for, and all of them others than
// before. They are all known when it is synced.
func TestOthersWhileWeWereAway(t *testing.T) {
	inWatch(t, mqtttest.Options{}, NoSession, WatchOptions{MaxDevices: 3}, func(w *watched) {
		t := w.t
		v := must1(w.c.MirrorRetained(t.Context(), "d/+/status", RetainedOptions{MaxMessages: 3}))
		must1(v.Synced(t.Context()))
		w.away(time.Second, func() {
			for i := range 3 {
				w.say(fmt.Sprintf("d/%d/status", i), "")
				w.say(fmt.Sprintf("d/%d/status", 10+i), "online")
			}
		})
		if _, err := v.Synced(t.Context()); err != nil || v.Len() != 3 {
			t.Errorf("the mirror has %d: %v", v.Len(), err)
		}
		time.Sleep(time.Second)
		w.synced(ByMarker)
		if n := w.w.Counts(); n.Online != 3 {
			t.Errorf("%+v", n)
		}
		// One more than there is room for is not asked for again and again.
		w.say("d/13/status", "online")
		w.away(time.Second, func() {})
		before := w.c.fetches()
		time.Sleep(time.Minute)
		if n := w.c.fetches() - before; n > 0 {
			t.Errorf("fetched %d times more", n)
		}
	})
}

// TestGoneBetweenTwoFetches: all is fetched once more because there is room now, and
// until the server has our SUBSCRIBE a device goes, whose word nobody can tell from an
// old one.
func TestGoneBetweenTwoFetches(t *testing.T) {
	w := &StatusWatch{tracker: presence.NewTracker(presence.Options{MaxDevices: 2})}
	w.changes = changes[presence.Change]{limit: 10}
	fetched := func(names ...string) bool {
		for _, name := range names {
			w.take(&Message{Topic: name, Payload: []byte("online"), Retain: true}, retained.Fill)
		}
		return w.filled(ByMarker)
	}
	if fetched("a", "b") {
		t.Fatal("fetched again for nothing")
	}
	w.lost(time.Now())
	if !fetched("b", "c") {
		t.Fatal("not fetched again, but there is room for c now")
	}
	w.take(&Message{Topic: "b"}, retained.Past)
	if fetched("c") {
		t.Error("fetched for a third time")
	}
	if d, ok := w.Get("b"); ok {
		t.Errorf("b is shown as %v, and nothing of it is retained", d.State)
	}
}

// TestOthersOnBusyTopics: what went makes room at the end of the first fetch, also where
// something was published meanwhile, in each fetch that there may be.
func TestOthersOnBusyTopics(t *testing.T) {
	v := &mirror{o: RetainedOptions{MaxMessages: 2, MaxBytes: 1 << 20}, entries: map[string]*retainedEntry{}}
	v.changes = changes[RetainedChange]{limit: 100}
	fetched := func(names ...string) (again bool) {
		for _, name := range names {
			v.take(&Message{Topic: name, Payload: []byte("x"), Retain: name != "busy"}, retained.Fill)
		}
		return v.filled(ByMarker)
	}
	fetched("a", "b")
	v.lost(time.Now())
	for fetched("c", "d", "busy") {
	}
	if _, ok := (*RetainedView)(v).Get("c"); !ok {
		t.Errorf("c is not in the view, which has room for it: %d are", len(v.entries))
	}
}
