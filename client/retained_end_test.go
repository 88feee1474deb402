package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestFetchRetained_WithoutSubscriptionIdentifiers(t *testing.T) {
	inRetaining(t, mqtttest.Options{DisableSubID: true}, nil, func(r *retaining) {
		t := r.t
		in := newInbox()
		must1(r.c.Subscribe(t.Context(), "a/#", client.AtLeastOnce, in))
		r.set("a/1", "x")
		r.set("b/1", "y")
		if f := r.fetch("#", "a/1=x", "b/1=y"); f.End != client.ByMarker {
			t.Error(f.End)
		}
		synctest.Wait()
		if got := in.payloads(); len(got) < 1 || got[0] != "x" {
			t.Errorf("the handler saw %q", got)
		}
		if s := r.c.Stats(); s.Unhandled != 0 {
			t.Errorf("%d messages were refused", s.Unhandled)
		}
	})
}

// TestFetchRetained_EndsBySilenceIfMarkerIsRefused: by each way to refuse it.
func TestFetchRetained_EndsBySilenceIfMarkerIsRefused(t *testing.T) {
	const marker = "mooring/marker/c"
	refuse := func(write bool) func(_ context.Context, _, topic string, w bool) byte {
		return func(_ context.Context, _, topic string, w bool) byte {
			if w == write && (topic == marker) {
				return 0x87
			}
			return 0
		}
	}
	lose := func(_ context.Context, _, topic string, w bool) byte { return 0 }
	for name, c := range map[string]struct {
		o      mqtttest.Options
		change func(*client.Config)
		took   time.Duration
	}{
		"subscribing": {mqtttest.Options{Authorize: refuse(false)}, nil, time.Second},
		"publishing":  {mqtttest.Options{Authorize: refuse(true)}, nil, time.Second},
		"off":         {mqtttest.Options{Authorize: lose}, func(c *client.Config) { c.Presence.MarkerTopic = client.NoMarker }, time.Second},
		"QoS 0 only":  {mqtttest.Options{MaximumQoS: mqtttest.QoS0Only}, nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inRetaining(t, c.o, c.change, func(r *retaining) {
				t := r.t
				if name != "QoS 0 only" {
					r.set("a/1", "x")
				}
				begin := time.Now()
				found, err := r.c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{})
				if err != nil || found.End != client.BySilence || name != "QoS 0 only" && len(found.Messages) != 1 {
					t.Fatalf("%+v, %v", found, err)
				}
				if took := time.Since(begin); took < c.took || took > c.took+time.Second/2 {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestFetchRetained_MarkerIsNotDelivered: the server takes it and delivers nothing, as one that
// looks at rights when it delivers.
func TestFetchRetained_MarkerIsNotDelivered(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustStart(t, testConfig("c", &events, s.dial))
		p := s.accept(control.Connack{})
		begin := time.Now()
		type result struct {
			found *client.Retained
			err   error
		}
		done := make(chan result)
		go func() {
			found, err := c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{Silence: 2 * time.Second})
			done <- result{found, err}
		}()
		if got := p.grantSubscribe().Subscriptions[0].Filter; got != "mooring/marker/c" {
			t.Errorf("first %q", got)
		}
		sub := p.grantSubscribe()
		if o := sub.Subscriptions[0]; o.Filter != "a/#" || o.QoS != 0 || o.RetainHandling != 0 || !subs.Internal(sub.SubscriptionID) {
			t.Errorf("%+v", sub)
		}
		marker := p.nextPublish()
		if marker.Topic != "mooring/marker/c" || marker.Retain || marker.QoS != 1 {
			t.Errorf("%+v", marker)
		}
		p.ack(wire.PUBACK, marker.PacketID, 0, "")
		retained := func(topic string) {
			p.publish(wire.Publish{Topic: topic, Payload: []byte("x"), Retain: true, SubscriptionIDs: []uint32{sub.SubscriptionID}})
		}
		retained("a/1")
		time.Sleep(19 * time.Second) // ten times as patient
		retained("a/2")
		r := <-done
		if r.err != nil || len(r.found.Messages) != 2 || r.found.End != client.BySilence {
			t.Errorf("%+v", r)
		}
		if took := time.Since(begin); took < 39*time.Second || took > 40*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestFetchRetained_ServerWithoutRetainedMessages(t *testing.T) {
	inRetaining(t, mqtttest.Options{DisableRetain: true}, nil, func(r *retaining) {
		t := r.t
		var refused *client.RefusedError
		if _, err := r.c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{}); !errors.As(err, &refused) || refused.Code != 0x9A {
			t.Errorf("%v", err)
		}
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", client.RetainedOptions{}))
		if _, err := view.Synced(t.Context()); !errors.As(err, &refused) || refused.Code != 0x9A {
			t.Errorf("%v", err)
		}
	})
}

// TestFetchRetained_RestartsAfterLostConnection: it begins anew, until its context ends.
func TestFetchRetained_RestartsAfterLostConnection(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for i := range 200 {
			r.set(fmt.Sprintf("a/%d", i), "x")
		}
		r.p.Refuse(true)
		r.p.Cut()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := r.c.FetchRetained(ctx, "a/#", client.RetainedOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("offline: %v", err)
		}
		cancel()
		r.p.Refuse(false)
		r.p.CutAfter(mqtttest.ToClient, 1500) // in the middle
		found, err := r.c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{})
		if err != nil || len(found.Messages) != 200 {
			t.Fatalf("%v, %d messages", err, len(found.Messages))
		}
		if n := r.c.Stats().Connections; n < 3 {
			t.Errorf("%d connections: nothing broke", n)
		}
		go func() { _ = r.c.Close() }()
		if _, err := r.c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{}); err != nil && !errors.Is(err, client.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		<-r.c.Done()
		if _, err := r.c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
