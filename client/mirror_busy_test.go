package client_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// TestMirrorRetained_BusyTopics: what is published without the flag is not in it, however
// much of it comes while all is fetched, and what has the flag is.
func TestMirrorRetained_BusyTopics(t *testing.T) {
	for _, without := range []bool{false, true} {
		inRetaining(t, mqtttest.Options{DisableSubID: without}, nil, func(r *retaining) {
			r.set("a/1", "retained")
			r.p.Delay(20*time.Millisecond, 0)
			over, stop := context.WithCancel(r.t.Context())
			var busy sync.WaitGroup
			busy.Go(func() {
				for n := 0; over.Err() == nil; n++ {
					publish(r.t, r.other, "a/1", "passing", client.QoS(n%2))
					publish(r.t, r.other, "a/2", "passing", client.QoS(n%2))
					time.Sleep(3 * time.Millisecond)
				}
			})
			v := must1(r.c.MirrorRetained(r.t.Context(), "a/#", client.RetainedOptions{}))
			changes := v.Changes()
			for range 5 {
				must1(v.Synced(r.t.Context()))
				if got := told(slices.Collect(v.All())); len(got) != 1 || got[0] != "a/1=retained" {
					r.t.Errorf("without identifiers %v: it has %q", without, got)
				}
				r.p.Cut()
				time.Sleep(2 * time.Second)
			}
			stop()
			busy.Wait()
			v.Close()
			for c := range changes {
				if c.Message != nil && string(c.Message.Payload) != "retained" {
					r.t.Errorf("without identifiers %v: told %v %s=%s", without, c.Kind, c.Message.Topic, c.Message.Payload)
				}
			}
		})
	}
}
