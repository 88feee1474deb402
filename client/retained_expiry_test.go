package client_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// TestMirrorRetained_RemovesExpiredInTime: within a second, in whatever order they came, and
// also where the next one is due in less than that.
func TestMirrorRetained_RemovesExpiredInTime(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", client.RetainedOptions{}))
		must1(view.Synced(t.Context()))
		began := time.Now()
		set := func(topic string, expiry time.Duration) {
			d, err := r.other.Publish(t.Context(), client.Message{Topic: topic, Payload: []byte("x"), QoS: client.AtLeastOnce, Retain: true, Expiry: expiry})
			must(t, err)
			wantState(t, d, client.Acked)
			synctest.Wait()
		}
		for i := range 10 {
			set(fmt.Sprint("a/long/", i), time.Hour)
			set(fmt.Sprint("a/ever/", i), 0)
		}
		for i, sec := range []time.Duration{50, 20, 60, 10, 40, 30} {
			set(fmt.Sprint("a/", i), sec*time.Second)
		}
		time.Sleep(500 * time.Millisecond)
		set("a/soon", 10*time.Second)
		for at := 10; at <= 60; at += 10 {
			time.Sleep(time.Until(began.Add(time.Duration(at)*time.Second + 2*time.Second)))
			if n, want := view.Len(), 20+6-at/10; n != want {
				t.Errorf("after %d s: %d messages, want %d", at+2, n, want)
			}
		}
	})
}
