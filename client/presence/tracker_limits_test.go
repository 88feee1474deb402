package presence_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

func TestTracker_MaxDevices(t *testing.T) {
	r := newRig(t, presence.Options{MaxDevices: 2})
	r.live("a", "online")
	r.live("b", "online")
	r.want(r.live("c", "online"), "view full")
	r.want(r.live("d", "online"), "")
	r.want(r.live("b", "offline"), "b online>offline")
	r.live("a", "")
	r.want(r.live("c", "online"), "c unknown>online")
	r.want(r.live("d", "online"), "view full")
	if c := r.Counts(r.now); c.Devices != 2 || c.Refused != 3 {
		t.Errorf("%+v", c)
	}
}

// TestTracker_HundredThousandDevices measures what the documentation of Tracker says.
func TestTracker_HundredThousandDevices(t *testing.T) {
	const n, most = 100_000, 300
	r := newRig(t, presence.Options{})
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	s := presence.Status{State: presence.Online, Reason: presence.ReasonBirth, Version: "1.4.2", Interval: 30 * time.Second}
	before := heap()
	for i := range n {
		s.Boot, s.Time = presence.BootID{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16), 15: 1}, begin.Add(time.Duration(i))
		r.retained(fmt.Sprintf("plants/04/devices/%07d/status", i), string(s.Append(nil)))
	}
	each := (heap() - before) / n
	t.Logf("%d bytes for a device", each)
	if each > most {
		t.Errorf("a device takes %d bytes, more than %d", each, most)
	}
	r.sync()
	if c := r.Counts(r.now); c.Online != n {
		t.Errorf("%+v", c)
	}
	r.Lost(r.now)
	r.wait(time.Minute)
	r.wantList(r.expire(), "view stale")
	if c := r.Counts(r.now); c.Stale != n {
		t.Errorf("%+v", c)
	}
	forgotten := 0
	r.Synced(r.now, func(c presence.Change) {
		if c.Kind == presence.Forgotten {
			forgotten++
		}
	})
	if c := r.Counts(r.now); forgotten != n || c.Devices != 0 {
		t.Errorf("%d forgotten, %+v", forgotten, c)
	}
}
