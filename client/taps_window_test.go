package client

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestWhatIsSaidWhileAllIsFetched is heard, whenever it comes, with Subscription
// Identifiers and without, with and without a session that kept something.
func TestWhatIsSaidWhileAllIsFetched(t *testing.T) {
	for _, without := range []bool{false, true} {
		for _, expiry := range []time.Duration{NoSession, time.Hour} {
			for delay := time.Duration(0); delay < 400*time.Millisecond; delay += 20 * time.Millisecond {
				t.Run(fmt.Sprintf("without %v, expiry %v, behind %v", without, expiry, delay), func(t *testing.T) {
					inWatch(t, mqtttest.Options{DisableSubID: without}, expiry, WatchOptions{}, func(w *watched) {
						t := w.t
						w.p.Refuse(true)
						w.p.Cut()
						time.Sleep(time.Second)
						w.say("d/2/status", "offline")
						w.say("d/2/status", "online")
						w.p.Delay(20*time.Millisecond, 0)
						w.p.Refuse(false)
						connect(t, w.c)
						w.d.since()
						time.Sleep(delay)
						w.say("d/2/status", "offline")
						time.Sleep(10 * time.Second)
						w.synced(ByMarker)
						if s := w.state("d/2/status"); s != presence.Offline {
							t.Errorf("the device is %v", s)
						}
						w.d.want(t, "d/2/status online>offline", "view synced")
					})
				})
			}
		}
	}
}
