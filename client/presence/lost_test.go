package presence_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestTracker_ReportsStaleOnceForAll: whoever goes by the changes hears that what they
// said to be Online is Stale, also where the link is lost before all was known.
func TestTracker_ReportsStaleOnceForAll(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.retained("a", "online")
	r.Lost(r.now)
	r.wait(15 * time.Second)
	r.wantList(r.expire(), "view stale")
	r.wantList(r.expire())

	// The next link brings news, and is lost as well.
	r.retained("b", "online")
	r.Lost(r.now)
	r.wantList(r.expire())
	r.wait(15 * time.Second)
	r.wantList(r.expire(), "view stale")
	if next := r.Expire(r.now, nil); !next.IsZero() {
		t.Errorf("due again at %v", next)
	}

	// One that brings nothing new is nothing to tell.
	r.retained("a", "online")
	r.retained("b", "online")
	r.Lost(r.now)
	r.wait(time.Hour)
	r.wantList(r.expire())
	for _, topic := range []string{"a", "b"} {
		if s := r.state(topic); s != presence.Stale {
			t.Errorf("%s is %v", topic, s)
		}
	}
}

// TestTracker_RepeatedOldOnline: a retained online message is received again without a change, and the
// link is lost before the fetch ends. The device still counts as reported Online.
func TestTracker_RepeatedOldOnline(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: -1})
	r.sync()
	r.Lost(r.now)
	r.wantList(r.expire(), "view stale")
	r.want(r.retained("a", "online"), "a unknown>online initial")
	r.Resync()
	r.want(r.retained("a", "online"), "")
	r.Lost(r.now)
	r.wantList(r.expire(), "view stale")
}

// TestTracker_LostDuringSynced: a link that is lost meanwhile is not synced, and takes
// nobody out.
func TestTracker_LostDuringSynced(t *testing.T) {
	r := newRig(t, presence.Options{})
	for _, topic := range []string{"a", "b", "c"} {
		r.live(topic, "online")
	}
	r.Lost(r.now)
	r.live("a", "online")
	var reported []string
	r.Synced(r.now, func(c presence.Change) {
		reported = append(reported, c.Kind.String())
		r.Lost(r.now)
	})
	r.wantList(reported, "forgotten")
	if n := r.Counts(r.now); n.Devices != 2 || n.Synced || r.state("a") != presence.Online {
		t.Errorf("%+v, a is %v", n, r.state("a"))
	}
	r.wait(time.Hour)
	if s := r.state("a"); s != presence.Stale {
		t.Errorf("a is %v", s)
	}
}

// TestTracker_LargeDevices: neither long topics nor long texts take more than they
// may.
func TestTracker_LargeDevices(t *testing.T) {
	r := newRig(t, presence.Options{MaxBytes: 1 << 20})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 1000 {
		text := fmt.Sprint(i) + strings.Repeat("x", 4000)
		r.live(fmt.Sprint("d/", i), `{"state":"online","reason":"`+text+`"}`)
	}
	if per := (heap() - before) / 1000; per > 1000 {
		t.Errorf("a device with a long text takes %d bytes", per)
	}
	for i := range 50 {
		r.live(fmt.Sprint(i)+strings.Repeat("x", 60_000), "online")
	}
	n := r.Counts(r.now)
	if n.Devices != 1017 || n.Refused != 33 {
		t.Errorf("%+v", n)
	}
	for _, d := range r.Snapshot(r.now) {
		r.Forget(d.Topic, r.now)
	}
	r.want(r.live(strings.Repeat("x", 60_000), "online")[60_000:], " unknown>online")
	runtime.KeepAlive(r)
}

// TestTracker_InvalidParseResult.
func TestTracker_InvalidParseResult(t *testing.T) {
	for _, c := range []struct {
		said presence.Status
		want presence.State
	}{{presence.Status{State: presence.Stale}, presence.Unknown}, {presence.Status{State: 7}, presence.Unknown}, {presence.Status{State: presence.Online, Interval: -time.Minute}, presence.Online}} {
		r := newRig(t, presence.Options{Parse: func(string, []byte) (presence.Status, error) { return c.said, nil }})
		r.live("a", "x")
		r.expire()
		if got := r.state("a"); got != c.want {
			t.Errorf("%+v: %v", c.said, got)
		}
	}
}
