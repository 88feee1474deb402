package client

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
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
		refills := func() uint64 {
			w.c.taps.mu.Lock()
			defer w.c.taps.mu.Unlock()
			return w.c.taps.sources[0].fill
		}
		w.away(time.Second, func() {})
		before := refills()
		time.Sleep(time.Minute)
		if n := refills() - before; n > 0 {
			t.Errorf("fetched %d times more", n)
		}
	})
}
