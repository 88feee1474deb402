package client_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Each of these was a fault once.

func TestDrain_BeforeStartDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustNew(t, testConfig("c", &recorder{}, func() net.Conn { return nil }))
		publish(t, c, "t", "x", client.AtLeastOnce)
		var left *client.DrainError
		if err := c.Drain(context.Background()); !errors.As(err, &left) || left.Pending != 1 {
			t.Errorf("Drain: %v, want a *DrainError with 1 pending", err)
		}
	})
}

func TestUnsubscribe_MissingAnswerDoesNotBlockMessages(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		p.close()
		synctest.Wait()
		must(t, c.Unsubscribe(t.Context(), "gone")) // owed to the next connection
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		p = s.accept(control.Connack{SessionPresent: true})
		var asked bool
		for {
			f, ok := <-p.got
			if !ok {
				t.Fatal("the connection ended before the message came")
			}
			if asked = asked || f.Type() == wire.UNSUBSCRIBE; f.Type() == wire.PUBLISH {
				v, err := wire.ParsePublish(f)
				must(t, err)
				p.ack(wire.PUBACK, v.PacketID, 0, "")
				break
			}
		}
		if _, err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if !asked && p.next(wire.UNSUBSCRIBE).Raw == nil {
			t.Error("nothing was unsubscribed")
		}
	})
}

func TestUnsubscribe_KeepsLaterSubscription(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		in := newInbox()
		must1(c.Subscribe(t.Context(), "f", client.AtLeastOnce, newInbox()))
		start(t, c)
		p := s.accept(control.Connack{})
		p.grantSubscribe()
		synctest.Wait()
		ended, made := make(chan error, 1), make(chan error, 1)
		go func() { ended <- c.Unsubscribe(t.Context(), "f") }()
		un := p.next(wire.UNSUBSCRIBE)
		go func() { made <- errOf(c.Subscribe(t.Context(), "f", client.AtLeastOnce, in)) }()
		synctest.Wait()
		p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: uint16(un.Body[0])<<8 | uint16(un.Body[1]), Reasons: []byte{0}}))
		p.grantSubscribe()
		must(t, <-ended)
		must(t, <-made)
		p.publish(wire.Publish{Topic: "f", QoS: 1, PacketID: 9, Payload: []byte("x")})
		if a := p.nextAck(wire.PUBACK); a.Reason != 0 || len(in.messages()) != 1 {
			t.Errorf("PUBACK 0x%02X, %d handled", a.Reason, len(in.messages()))
		}
	})
}

func TestBreaker_IgnoresMessagesOfLostSession(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Session.OnLost = client.FailInFlight
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		for range 50 {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		synctest.Wait()
		p.close()
		p = s.accept(control.Connack{})
		synctest.Wait()
		begin := time.Now()
		publish(t, c, "t", "new", client.AtLeastOnce)
		p.nextPublish()
		if took := time.Since(begin); took > time.Second || len(eventsOf[client.BreakerChanged](&events)) > 0 {
			t.Errorf("the next message left after %v, breaker %v", took, eventsOf[client.BreakerChanged](&events))
		}
	})
}

func TestDedupe_PassesRetainedMessages(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		cache := dedupe.NewMemory(dedupe.Options{})
		pub := mustStart(t, testConfig("p", &recorder{}, through(p)))
		d, err := pub.Publish(t.Context(), client.Message{Topic: "config", QoS: client.AtLeastOnce, Retain: true, Payload: []byte("v1")})
		must(t, err)
		_, err = d.Wait(t.Context())
		must(t, err)
		for range 2 { // the backend, restarted in a new session
			cfg := testConfig("backend", &recorder{}, through(p))
			cfg.Receiving.Dedupe, cfg.Session.CleanStart, cfg.Receiving.Ordering = cache, true, &client.Ordering{}
			c := mustNew(t, cfg)
			in := newInbox()
			must1(c.Subscribe(t.Context(), "config", client.AtLeastOnce, in))
			start(t, c)
			in.await(t, 1)
			must(t, c.Close())
		}
	})
}

// Another client used the same ClientID and session. The session no longer matches the client's state.
func TestTakeover_DiscardsSession(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{})
		publish(t, c, "t", "x", client.ExactlyOnce)
		p.nextPublish()
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonSessionTakenOver}))
		p.ended()
		p = s.accept(control.Connack{})
		if !p.connect.CleanStart {
			t.Error("Clean Start is 0 for a session that others have used")
		}
		if m := p.nextPublish(); m.Dup {
			t.Error("DUP is set in a new session")
		}
	})
}

// The client subscribes on each server, even if the server still has a session of the client.
func TestSubscribe_OnEachServer(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Servers = []string{"mqtt://a", "mqtt://b"}
		c := mustStart(t, cfg)
		a := s.accept(control.Connack{})
		connect(t, c)
		a.close() // at once, so b comes next
		b := s.accept(control.Connack{})
		connect(t, c)
		go func() { _, _ = c.Subscribe(t.Context(), "x", client.AtLeastOnce, newInbox()) }()
		if sub := b.grantSubscribe(); len(sub.Subscriptions) != 1 {
			t.Fatalf("subscribed to %v", sub.Subscriptions)
		}
		synctest.Wait()
		b.close()
		a = s.accept(control.Connack{SessionPresent: true})
		if sub := a.grantSubscribe(); len(sub.Subscriptions) != 1 || sub.Subscriptions[0].Filter != "x" {
			t.Errorf("subscribed to %v", sub.Subscriptions)
		}
	})
}
