package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// TestWatch_FleetChangesWhileDisconnected: as many as there is room for, and all of them others than
// before. They are all known when it is synced.
func TestWatch_FleetChangesWhileDisconnected(t *testing.T) {
	inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{MaxDevices: 3}, func(w *watched) {
		t := w.t
		v := must1(w.c.MirrorRetained(t.Context(), "d/+/status", client.RetainedOptions{MaxMessages: 3}))
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
		w.synced(client.ByMarker)
		if n := w.w.Counts(); n.Online != 3 {
			t.Errorf("%+v", n)
		}
		// One more than there is room for is not asked for again and again.
		w.say("d/13/status", "online")
		w.away(time.Second, func() {})
		before := client.Fetches(w.c)
		time.Sleep(time.Minute)
		if n := client.Fetches(w.c) - before; n > 0 {
			t.Errorf("fetched %d times more", n)
		}
	})
}
