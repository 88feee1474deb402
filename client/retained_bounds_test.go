package client_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// TestMirrorRetained_ExpiryFreesSpace: a mirror loses what has expired without being told by the
// server, so that it does not fill up with it.
func TestMirrorRetained_ExpiryFreesSpace(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", client.RetainedOptions{MaxMessages: 3}))
		must1(view.Synced(t.Context()))
		changes := view.Changes()
		set := func(topic string, expiry time.Duration) {
			d, err := r.other.Publish(t.Context(), client.Message{Topic: topic, Payload: []byte("x"), QoS: client.AtLeastOnce, Retain: true, Expiry: expiry})
			must(t, err)
			wantState(t, d, client.Acked)
			synctest.Wait()
		}
		set("a/long", time.Hour)
		for i := range 5 {
			set(fmt.Sprint("a/", i), 10*time.Second)
			if i == 2 {
				set("a/2", 20*time.Second) // longer
			}
			if _, ok := view.Get(fmt.Sprint("a/", i)); !ok || view.Refused() != 0 {
				t.Fatalf("a/%d is not in the view; %d were refused", i, view.Refused())
			}
			time.Sleep(12 * time.Second)
		}
		if got := told(slices.Collect(view.All())); !slices.Equal(got, []string{"a/long=x"}) || view.Len() != 1 {
			t.Errorf("%q, %d", got, view.Len())
		}
		view.Close()
		time.Sleep(2 * time.Hour)
		cleared := 0
		for c := range changes {
			if c.Kind == client.RetainedCleared {
				cleared++
			}
		}
		if cleared != 5 {
			t.Errorf("told %d times that one is gone, want 5", cleared)
		}
	})
}

// TestFetchRetained_ReturnsCopies: what the program does with them, nobody else sees.
func TestFetchRetained_ReturnsCopies(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		r.set("a/1", "x")
		view := must1(r.c.MirrorRetained(r.t.Context(), "a/+", client.RetainedOptions{}))
		must1(view.Synced(r.t.Context()))
		r.fetch("a/+", "a/1=x").Messages[0].Payload[0] = 'y'
		if m, _ := view.Get("a/1"); string(m.Payload) != "x" {
			r.t.Errorf("the mirror has %q", m.Payload)
		}
	})
}
