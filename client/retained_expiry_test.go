package client

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/retained"
)

// TestEachGoesWhenItsTimeIsOver: within a second, in whatever order they came, and
// also where the next one is due in less than that.
func TestEachGoesWhenItsTimeIsOver(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", RetainedOptions{}))
		must1(view.Synced(t.Context()))
		began := time.Now()
		set := func(topic string, expiry time.Duration) {
			d, err := r.other.Publish(t.Context(), Message{Topic: topic, Payload: []byte("x"), QoS: AtLeastOnce, Retain: true, Expiry: expiry})
			must(t, err)
			wantState(t, d, Acked)
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

// TestAFetchTakesTheLastOfATopic, and counts it once.
func TestAFetchTakesTheLastOfATopic(t *testing.T) {
	f := newRetainedView(RetainedOptions{MaxMessages: 1, MaxBytes: 10})
	f.once = true
	for _, payload := range []string{"12345678", "x", "12345678"} {
		(*mirror)(f).take(&Message{Topic: "a", Payload: []byte(payload), Retain: true}, retained.Fill)
	}
	if got := slices.Collect(f.All()); len(got) != 1 || string(got[0].Payload) != "12345678" || f.bytes != 9 || f.Refused() != 0 {
		t.Errorf("%+v, %d bytes, %d refused", told(got), f.bytes, f.Refused())
	}
}
