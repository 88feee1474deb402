package client

import (
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/retained"
)

// TestRetainedView_FetchKeepsLastMessagePerTopic, and counts it once.
func TestRetainedView_FetchKeepsLastMessagePerTopic(t *testing.T) {
	f := newRetainedView(RetainedOptions{MaxMessages: 1, MaxBytes: 10})
	f.once = true
	for _, payload := range []string{"12345678", "x", "12345678"} {
		f.take(&Message{Topic: "a", Payload: []byte(payload), Retain: true}, retained.Fill)
	}
	if got := slices.Collect(f.All()); len(got) != 1 || string(got[0].Payload) != "12345678" || f.bytes != 9 || f.Refused() != 0 {
		t.Errorf("%+v, %d bytes, %d refused", got, f.bytes, f.Refused())
	}
}

// TestWatch_DeviceRemovedBetweenFetches: the watch fetches all statuses again, because there is space for
// more devices. Before the server receives the SUBSCRIBE, the status of a device is removed. The watch
// cannot distinguish its last status message from an old one.
func TestWatch_DeviceRemovedBetweenFetches(t *testing.T) {
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
		t.Errorf("b is shown as %v, and it has no retained status", d.State)
	}
}

// TestRetainedView_ReplacesRemovedTopics: what went makes room at the end of the first fetch, also where
// something was published meanwhile, in each fetch that there may be.
func TestRetainedView_ReplacesRemovedTopics(t *testing.T) {
	v := &RetainedView{o: RetainedOptions{MaxMessages: 2, MaxBytes: 1 << 20}, entries: map[string]*retainedEntry{}}
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

// TestRetainedView_CountsEmptyProperties, in memory and therefore of MaxBytes.
func TestRetainedView_CountsEmptyProperties(t *testing.T) {
	m := &Message{Topic: "a", UserProperties: make([]UserProperty, 1000)}
	if n := m.size(); n < 1000*userPropertyBytes {
		t.Errorf("%d bytes", n)
	}
}
