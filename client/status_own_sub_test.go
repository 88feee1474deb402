package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// TestStatusSubscription_IsInvisibleToHandlers: handlers do not receive its messages.
func TestStatusSubscription_IsInvisibleToHandlers(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		events := &recorder{}
		cfg := testConfig("c", events, through(p))
		listening(&cfg)
		all := newInbox()
		c := mustNew(t, cfg)
		must(t, c.Handle("#", all))
		must1(c.Subscribe(t.Context(), "commands/#", client.AtLeastOnce, newInbox()))
		start(t, c)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Second)
		say("offline")
		time.Sleep(time.Second)
		p.Cut()
		connect(t, c)
		time.Sleep(time.Minute)
		if got := all.payloads(); len(got) != 0 || len(eventsOf[client.Unhandled](events)) != 0 {
			t.Errorf("a handler got %q; %d unhandled", got, len(eventsOf[client.Unhandled](events)))
		}

		// A subscription of the application that covers the topic receives each message once.
		own := newInbox()
		must1(c.Subscribe(t.Context(), "status/+", client.AtLeastOnce, own, client.RetainHandling(client.SendRetainedNever)))
		time.Sleep(time.Second) // it replaces the client's own subscription
		say("offline")
		time.Sleep(time.Second)
		if got := own.messages(); len(got) != 2 || string(got[0].Payload) != "offline" || parse(t, got[1].Payload).Reason != "correction" {
			t.Errorf("the application got %q, want each status once", own.payloads())
		}
		must(t, c.Unsubscribe(t.Context(), "status/+"))
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction") // and the client's own subscription is restored

		// So does one for just this topic.
		own = newInbox()
		must1(c.Subscribe(t.Context(), "status/c", client.AtLeastOnce, own, client.RetainHandling(client.SendRetainedNever)))
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		if got := own.payloads(); len(got) != 2 {
			t.Errorf("the application got %q, want each status once", got)
		}
		must(t, c.Unsubscribe(t.Context(), "status/c"))
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
		if n := c.Stats().Status.Corrections; n != 5 {
			t.Errorf("%d corrections, want 5", n)
		}
	})
}

// TestStatusSubscription_SurvivesOfflineUnsubscribe.
func TestStatusSubscription_SurvivesOfflineUnsubscribe(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, through(p))
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		must1(c.Subscribe(t.Context(), "status/c", client.AtLeastOnce, newInbox()))
		synctest.Wait()
		p.Refuse(true)
		p.Cut()
		synctest.Wait()
		must(t, c.Unsubscribe(t.Context(), "status/c"))
		p.Refuse(false)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
	})
}

// TestStatusSubscription_ForbiddenByACL: the refusal is reported once, and everything else continues.
func TestStatusSubscription_ForbiddenByACL(t *testing.T) {
	forbid := func(_ context.Context, _, topic string, write bool) byte {
		if topic == "status/c" && !write {
			return wire.ReasonNotAuthorized
		}
		return 0
	}
	inBubble(t, mqtttest.Options{Authorize: forbid}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		events := &recorder{}
		cfg := testConfig("c", events, through(p))
		listening(&cfg)
		c := mustStart(t, cfg)
		for range 5 {
			connect(t, c)
			time.Sleep(time.Minute)
			said(t, b, c, "online birth")
			p.Cut()
			time.Sleep(time.Second)
		}
		failed := eventsOf[client.StatusFailed](events)
		var own *client.StatusSubscriptionError
		var refused *client.RefusedError
		if len(failed) != 1 || !errors.As(failed[0].Err, &own) || !errors.As(failed[0].Err, &refused) || refused.Code != wire.ReasonNotAuthorized {
			t.Errorf("told %v, want one refusal", failed)
		}
		wantState(t, publish(t, c, "t", "x", client.AtLeastOnce), client.Acked)
	})
}

// TestStatusSubscription_OnTheWire: the client subscribes with QoS 1 and without No Local, once per
// session, and after the subscriptions of the application.
func TestStatusSubscription_OnTheWire(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		listening(&cfg)
		c := mustNew(t, cfg)
		must1(c.Subscribe(t.Context(), "commands", client.AtLeastOnce, newInbox()))
		start(t, c)
		for life, present := range []bool{false, true, false} {
			p := s.accept(control.Connack{SessionPresent: present})
			m, _ := p.nextWord("birth")
			p.accepts(m)
			var filters []string
			if !present {
				filters = append(filters, p.grantSubscribe().Subscriptions[0].Filter)
				own := p.grantSubscribe().Subscriptions[0]
				filters = append(filters, own.Filter)
				if own.QoS != 1 || own.NoLocal {
					t.Errorf("it asks for %+v", own)
				}
			}
			p.quiet()
			if want := []string{"commands", "status/c"}; !present && !slices.Equal(filters, want) {
				t.Errorf("connection %d asks for %q, want %q", life, filters, want)
			}
			p.close()
		}
	})
}

// TestStatusSubscription_IsReplacedByApplications: the client's own subscription ends when the
// application subscribes to the topic. A refused subscription is repeated, and reported once.
func TestStatusSubscription_IsReplacedByApplications(t *testing.T) {
	publishing(t, listening, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		m, _ := p.nextWord("birth")
		p.accepts(m)
		p.grantSubscribe()
		done := make(chan error, 1)
		go func() { done <- errOf(c.Subscribe(t.Context(), "status/#", client.AtLeastOnce, newInbox())) }()
		p.grantSubscribe()
		must(t, <-done)
		u, err := control.ParseUnsubscribe(p.next(wire.UNSUBSCRIBE))
		if err != nil || len(u.Filters) != 1 || u.Filters[0] != "status/c" {
			t.Errorf("UNSUBSCRIBE %+v, %v", u, err)
		}
		p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: u.PacketID, Reasons: []byte{0}}))
		p.quiet()
	})
	publishing(t, listening, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		m, _ := p.nextWord("birth")
		sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
		must(t, err)
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{wire.ReasonNotAuthorized}}))
		p.accepts(m)
		p.publish(wire.Publish{Topic: "status/c", Payload: m.Payload})
		for range 20 { // with delays up to a minute
			sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
			must(t, err)
			p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{wire.ReasonNotAuthorized}}))
		}
		p.grantSubscribe()
		time.Sleep(time.Hour)
		p.quiet()
		if n := len(eventsOf[client.StatusFailed](events)); n != 1 {
			t.Errorf("%d StatusFailed events, want 1", n)
		}
	})
}

// TestStatusSubscription_SurvivesFetch: it has the same filter, of which the
// server has but one.
func TestStatusSubscription_SurvivesFetch(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, b.Dial)
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Second)
		got, err := c.FetchRetained(t.Context(), "status/c", client.RetainedOptions{})
		if err != nil || len(got.Messages) != 1 || parse(t, got.Messages[0].Payload).Boot != c.BootID() {
			t.Errorf("fetched %+v, %v", got, err)
		}
		time.Sleep(time.Second)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
		w, err := c.WatchStatus(t.Context(), "status/c", client.WatchOptions{})
		must(t, err)
		for range 3 { // the watch's subscription serves, and is left alone
			time.Sleep(2 * time.Minute)
			began := time.Now()
			say("offline")
			time.Sleep(time.Second)
			said(t, b, c, "online correction")
			if d, ok := w.Get("status/c"); !ok || d.State != presence.Online || d.Since.Before(began) {
				t.Errorf("it sees itself as %+v", d)
			}
		}
		w.Close()
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
	})
}

// TestStatusSubscription_WithoutIdentifiers: a server that has none is not sent one.
func TestStatusSubscription_WithoutIdentifiers(t *testing.T) {
	inBubble(t, mqtttest.Options{DisableSubID: true}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		events := &recorder{}
		cfg := testConfig("c", events, through(p))
		listening(&cfg)
		c := mustNew(t, cfg)
		start(t, c)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Second)
		before := c.Stats().Received
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
		if ends := eventsOf[client.Disconnected](events); len(ends) != 0 {
			t.Errorf("%v", ends)
		}
		if n := c.Stats().Received - before; n != 2 {
			t.Errorf("%d messages are counted as received, want the status of the other process and the client's own", n)
		}
	})
}
