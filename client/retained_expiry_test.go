package client

import (
	"fmt"
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
		next := func(want time.Duration) {
			t.Helper()
			view.held.Lock()
			defer view.held.Unlock()
			if got := view.expiry.next.Sub(began).Round(time.Second); got != want {
				t.Errorf("looks again after %v, want %v", got, want)
			}
		}
		next(time.Hour)
		for i, sec := range []time.Duration{50, 20, 60, 10, 40, 30} {
			set(fmt.Sprint("a/", i), sec*time.Second)
		}
		next(10 * time.Second)
		time.Sleep(500 * time.Millisecond)
		set("a/soon", 10*time.Second)
		for at := 10; at <= 60; at += 10 {
			time.Sleep(time.Until(began.Add(time.Duration(at)*time.Second + 2*time.Second)))
			if n, want := view.Len(), 20+6-at/10; n != want {
				t.Errorf("after %d s: %d messages, want %d", at+2, n, want)
			}
		}
		next(time.Hour)
	})
}

// TestAFetchTakesTheLastOfATopic, and counts it once.
func TestAFetchTakesTheLastOfATopic(t *testing.T) {
	f := &fetch{o: RetainedOptions{MaxMessages: 1, MaxBytes: 10}, done: make(chan struct{})}
	for _, payload := range []string{"12345678", "x", "12345678"} {
		f.take(&Message{Topic: "a", Payload: []byte(payload), Retain: true}, retained.Fill)
	}
	if f.ended || len(f.found.Messages) != 1 || string(f.found.Messages[0].Payload) != "12345678" || f.bytes != 9 {
		t.Errorf("%+v, %d bytes, ended: %v", told(f.found.Messages), f.bytes, f.err)
	}
}
