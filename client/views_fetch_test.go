package client_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// TestFetchRetained_AfterSubscribeOfAnother of another has missed what came before it, so
// the end of that one is not its own.
func TestFetchRetained_AfterSubscribeOfAnother(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{})
		fetched := make(chan []string, 2)
		fetch := func() {
			found, err := c.FetchRetained(t.Context(), "a/+", client.RetainedOptions{})
			if err != nil {
				t.Error(err)
				found = &client.Retained{}
			}
			fetched <- told(found.Messages)
		}
		answer := func(payload string, meanwhile func()) {
			sub := p.grantSubscribe()
			marker := p.nextPublish()
			p.publish(wire.Publish{Topic: "a/1", Payload: []byte(payload), Retain: true, SubscriptionIDs: []uint32{sub.SubscriptionID}})
			synctest.Wait()
			meanwhile()
			p.publish(wire.Publish{Topic: marker.Topic, Payload: marker.Payload, SubscriptionIDs: []uint32{subs.MarkerID}})
			if got := <-fetched; len(got) != 1 || got[0] != "a/1="+payload {
				t.Errorf("got %q", got)
			}
		}
		go fetch()
		p.grantSubscribe() // to the marker
		answer("x", func() {
			go fetch()
			synctest.Wait()
		})
		answer("y", func() {})
	})
}

// TestMarker_FollowsFetchedMessages: in the same queue as that, at QoS 0, or at
// QoS 1 behind what the session has kept where identifiers do not tell it apart.
func TestMarker_FollowsFetchedMessages(t *testing.T) {
	for _, tt := range []struct {
		connack control.Connack
		qos     byte
		id      uint32
	}{{control.Connack{}, 0, subs.MarkerID}, {control.Connack{SubIDUnavailable: true}, 1, 0}} {
		withScript(t, func(t *testing.T, s *script) {
			c := mustStart(t, testConfig("c", &recorder{}, s.dial))
			p := s.accept(tt.connack)
			must1(c.MirrorRetained(t.Context(), "a/+", client.RetainedOptions{}))
			if sub := p.grantSubscribe(); sub.Subscriptions[0].QoS != tt.qos || sub.SubscriptionID != tt.id {
				t.Errorf("%+v, want QoS %d and identifier %d", sub, tt.qos, tt.id)
			}
		})
	}
}

// TestMirrorRetained_OfSubscribedFilter leaves the subscription as it is; and ends in
// silence.
func TestMirrorRetained_OfSubscribedFilter(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		in := newInbox()
		must1(r.c.Subscribe(t.Context(), "a/+", client.ExactlyOnce, in))
		view := must1(r.c.MirrorRetained(t.Context(), "a/+", client.RetainedOptions{}))
		must1(view.Synced(t.Context()))
		hear := func(payload string) {
			t.Helper()
			wantState(t, publish(t, r.other, "a/1", payload, client.ExactlyOnce), client.Acked)
			time.Sleep(time.Second)
			got := in.messages()
			if last := got[len(got)-1]; string(last.Payload) != payload || last.QoS != client.ExactlyOnce {
				t.Errorf("%q came at QoS %d", last.Payload, last.QoS)
			}
		}
		hear("mirrored")
		view.Close()
		time.Sleep(time.Second)
		hear("alone")
		other := must1(r.c.MirrorRetained(t.Context(), "b/+", client.RetainedOptions{}))
		must1(other.Synced(t.Context()))
		other.Close()
		time.Sleep(time.Second)
		if failed := eventsOf[client.SubscriptionFailed](&r.events); len(failed) != 0 {
			t.Errorf("%v", failed)
		}
	})
}

// TestViews_ManyEndWithClient: each of their subscriptions is ended first, as the
// session is kept.
func TestViews_ManyEndWithClient(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for _, filter := range []string{"a", "b", "c"} {
			view := must1(r.c.MirrorRetained(t.Context(), filter, client.RetainedOptions{}))
			must1(view.Synced(t.Context()))
		}
		began := time.Now()
		must(t, r.c.Close())
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if n := r.b.Stats().Subscriptions; n != 1 { // to the marker
			t.Errorf("%d filters are still subscribed to", n-1)
		}
	})
}

// TestViews_RefusedUnsubscribe: the refusal is reported, and the client forgets the filter.
func TestViews_RefusedUnsubscribe(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustStart(t, testConfig("c", &events, s.dial))
		p := s.accept(control.Connack{SubIDUnavailable: true})
		view := must1(c.MirrorRetained(t.Context(), "a/+", client.RetainedOptions{}))
		for range 3 { // the marker, what is retained, and what stays
			p.grantSubscribe()
		}
		marker := p.nextPublish()
		p.ack(wire.PUBACK, marker.PacketID, 0, "")
		view.Close()
		id := p.next(wire.UNSUBSCRIBE).Body[:2]
		p.send([]byte{byte(wire.UNSUBACK) << 4, 4, id[0], id[1], 0, wire.ReasonNotAuthorized})
		synctest.Wait()
		if failed := eventsOf[client.SubscriptionFailed](&events); len(failed) != 1 || failed[0].Filter != "a/+" {
			t.Errorf("%v", failed)
		}
		p.quiet()
	})
}

// TestClose_EndsSynced of a view.
func TestClose_EndsSynced(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial)) // and no connection
		view := must1(c.MirrorRetained(t.Context(), "a/+", client.RetainedOptions{}))
		done := make(chan error)
		go func() {
			_, err := view.Synced(t.Context())
			done <- err
		}()
		synctest.Wait()
		began := time.Now()
		view.Close()
		if err := <-done; !errors.Is(err, client.ErrClosed) || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
