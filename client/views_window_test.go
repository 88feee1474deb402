package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestWatch_StatusDuringFetch is heard, whenever it comes, with Subscription
// Identifiers and without, with and without a session that kept something.
func TestWatch_StatusDuringFetch(t *testing.T) {
	for _, without := range []bool{false, true} {
		for _, expiry := range []time.Duration{client.NoSession, time.Hour} {
			for delay := time.Duration(0); delay < 400*time.Millisecond; delay += 20 * time.Millisecond {
				t.Run(fmt.Sprintf("without %v, expiry %v, behind %v", without, expiry, delay), func(t *testing.T) {
					inWatch(t, mqtttest.Options{DisableSubID: without}, expiry, client.WatchOptions{}, func(w *watched) {
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
						w.synced(client.ByMarker)
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

// TestMirrorRetained_ReportsNoHistory: queued messages of a session have the RETAIN flag, because the
// mirror subscribes with Retain As Published. The mirror reports only the messages that are retained now,
// not earlier ones. This also applies without Subscription Identifiers.
func TestMirrorRetained_ReportsNoHistory(t *testing.T) {
	for _, without := range []bool{false, true} {
		t.Run(fmt.Sprintf("without identifiers %v", without), func(t *testing.T) {
			inBubble(t, mqtttest.Options{DisableSubID: without}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				devices := mustStart(t, testConfig("devices", &recorder{}, b.Dial))
				cfg := testConfig("mirror", &recorder{}, through(p))
				cfg.Session.Expiry, cfg.Receiving.ReceiveMaximum = time.Hour, 1
				c := mustStart(t, cfg)
				v := must1(c.MirrorRetained(t.Context(), "d/+", client.RetainedOptions{}))
				must1(v.Synced(t.Context()))
				changes := v.Changes()
				p.Refuse(true)
				p.Cut()
				time.Sleep(time.Second)
				for i := range 10 {
					wantState(t, must1(devices.SetRetained(t.Context(), "d/0", []byte{'0' + byte(i)})), client.Acked)
				}
				p.Delay(20*time.Millisecond, 0) // one of them for each turn
				p.Refuse(false)
				connect(t, c)
				time.Sleep(10 * time.Second)
				v.Close()
				told := ""
				for change := range changes {
					if change.Kind == client.RetainedSet {
						told += string(change.Message.Payload)
					}
				}
				if told != "9" {
					t.Errorf("told were %s, and only 9 is retained", told)
				}
			})
		})
	}
}
