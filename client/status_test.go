package client_test

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// withStatus is a client with a status topic that it does not listen to.
func withStatus(cfg *client.Config) {
	cfg.Presence.Status = &client.Status{Topic: "status/c", Delay: 5 * time.Second, NoCorrection: true}
}

func TestStatus_OnTheWire(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		withStatus(&cfg)
		c := mustStart(t, cfg)
		for life := range 3 { // the birth comes after each CONNACK
			p := s.accept(control.Connack{SessionPresent: life > 0})
			w := p.connect.Will
			if w == nil || w.Topic != "status/c" || string(w.Payload) != "offline" || w.QoS != 1 || !w.Retain || w.Delay != 5 {
				t.Fatalf("the will is %+v", w)
			}
			m := p.nextPublish()
			if m.Topic != "status/c" || string(m.Payload) != "online" || m.QoS != 1 || !m.Retain || m.PacketID > 1024 {
				t.Errorf("the birth is %+v", m)
			}
			p.ack(wire.PUBACK, m.PacketID, 0, "")
			p.quiet()
			if life < 2 {
				p.close()
				continue
			}
			done := make(chan error, 1)
			go func() { done <- c.Close() }()
			m = p.nextPublish()
			if string(m.Payload) != "offline" || m.QoS != 1 || !m.Retain {
				t.Errorf("the offline status is %+v", m)
			}
			p.quiet() // DISCONNECT waits for its acknowledgement
			p.ack(wire.PUBACK, m.PacketID, 0, "")
			if d, err := control.ParseDisconnect(p.next(wire.DISCONNECT)); err != nil || d.Reason != 0 {
				t.Errorf("DISCONNECT says 0x%02X, %v", d.Reason, err)
			}
			must(t, <-done)
		}
	})
}

func TestStatus_RefusedOfflineIsLeftToTheWill(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(p *peer, id uint16)
		wait   time.Duration
	}{
		"silence": {func(*peer, uint16) {}, 3 * time.Second},
		"refusal": {func(p *peer, id uint16) { p.ack(wire.PUBACK, id, wire.ReasonQuotaExceeded, "") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			publishing(t, func(cfg *client.Config) { withStatus(cfg); cfg.Connection.CloseTimeout = 3 * time.Second }, control.Connack{},
				func(t *testing.T, c *client.Client, p *peer, events *recorder) {
					p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
					began := time.Now()
					done := make(chan error, 1)
					go func() { done <- c.Close() }()
					tt.answer(p, p.nextPublish().PacketID)
					if d, err := control.ParseDisconnect(p.next(wire.DISCONNECT)); err != nil || d.Reason != wire.ReasonDisconnectWithWill {
						t.Errorf("DISCONNECT says 0x%02X, %v, want 0x04", d.Reason, err)
					}
					must(t, <-done)
					if took := time.Since(began); took != tt.wait {
						t.Errorf("Close took %v, want %v", took, tt.wait)
					}
					if n := len(eventsOf[client.StatusFailed](events)); (n == 1) != (name == "refusal") {
						t.Errorf("%d StatusFailed events", n)
					}
				})
		})
	}
}

func TestStatus_ReportsRefusedBirth(t *testing.T) {
	publishing(t, withStatus, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonNotAuthorized, "")
		p.quiet()
		if n := len(eventsOf[client.StatusFailed](events)); n != 1 {
			t.Errorf("%d StatusFailed events, want 1", n)
		}
	})
	publishing(t, withStatus, control.Connack{RetainUnavailable: true}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		p.quiet()
		if n := len(eventsOf[client.StatusFailed](events)); n != 1 {
			t.Errorf("%d StatusFailed events, want 1", n)
		}
	})
}

// TestStatus_IsOfflineAfterEveryEnd ends clients at every moment of connecting: the
// retained status must never stay at online.
func TestStatus_IsOfflineAfterEveryEnd(t *testing.T) {
	for after := range 40 {
		synctest.Test(t, func(t *testing.T) {
			b := mqtttest.Start(t, mqtttest.With(mqtttest.Options{NoTCP: true}))
			p := mqtttest.NewPipeProxy(pipeTo(b))
			t.Cleanup(func() { _ = p.Close() })
			p.Delay(time.Millisecond, 3*time.Millisecond)
			p.Seed(uint64(after))
			cfg := testConfig("c", &recorder{}, through(p))
			withStatus(&cfg)
			c := mustStart(t, cfg)
			time.Sleep(time.Duration(after) * time.Millisecond / 4)
			must(t, c.Close())
			time.Sleep(10 * time.Second) // will delay and all
			synctest.Wait()
			if got, ok := b.Retained("status/c"); ok && string(got) != "offline" {
				t.Errorf("closed after %d quarters of a ms, the status stays %q", after, got)
			}
		})
	}
}

// TestStatus_NoBirthAfterOffline holds a connection up between its CONNACK
// and its birth, and closes the client meanwhile.
func TestStatus_NoBirthAfterOffline(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		goOn := make(chan struct{})
		cfg := testConfig("c", &recorder{}, s.dial)
		withStatus(&cfg)
		defaultLog(t).also = func(r slog.Record) {
			if r.Message == "connected" {
				<-goOn
			}
		}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		done := make(chan error, 1)
		go func() { done <- c.Close() }()
		m := p.nextPublish()
		if string(m.Payload) != "offline" {
			t.Errorf("%q came", m.Payload)
		}
		close(goOn)
		p.quiet()
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		p.next(wire.DISCONNECT)
		must(t, <-done)
	})
}

func TestStatus_FollowsConnection(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var seen []string
		watcher := mustStart(t, testConfig("w", &recorder{}, b.Dial))
		connect(t, watcher)
		in := newInbox()
		must1(watcher.Subscribe(t.Context(), "status/+", client.AtLeastOnce, in))
		cfg := testConfig("c", &recorder{}, through(p))
		withStatus(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		synctest.Wait()
		p.Cut() // back within the delay: no offline
		time.Sleep(2 * time.Second)
		p.Refuse(true)
		p.Cut() // away for longer
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if got, _ := b.Retained("status/c"); string(got) != "offline" {
			t.Errorf("while away the status is %q", got)
		}
		p.Refuse(false)
		connect(t, c)
		synctest.Wait()
		if got, _ := b.Retained("status/c"); string(got) != "online" {
			t.Errorf("back again the status is %q", got)
		}
		must(t, c.Close())
		synctest.Wait()
		seen = in.payloads()
		if got := fmt.Sprint(seen); got != "[online online offline online offline]" {
			t.Errorf("the status was %v", got)
		}
	})
}

// With Receive Maximum 1 and a backlog, the client sends status messages before the backlog.
func TestStatus_ReceiveMaximumOne(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Presence.Status = &client.Status{Topic: "s"}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 1})
		birth := p.nextPublish()
		connect(t, c)
		for range 10 {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		p.ack(wire.PUBACK, birth.PacketID, 0, "")
		var next wire.Publish
		for range 2 { // the backlog and the subscription to one's own status
			select {
			case f := <-p.got:
				if f.Type() == wire.SUBSCRIBE {
					sub, err := control.ParseSubscribe(f)
					must(t, err)
					p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{1}}))
					continue
				}
				v, err := wire.ParsePublish(f)
				must(t, err)
				next = v.Decode(string(v.Topic))
			case <-time.After(time.Hour):
				t.Fatal("nothing comes")
			}
		}
		p.publish(wire.Publish{Topic: "s", Payload: []byte("offline")})
		time.Sleep(time.Second)
		p.ack(wire.PUBACK, next.PacketID, 0, "")
		if m := p.nextPublish(); m.Topic != "s" || m.Dup {
			t.Errorf("behind one of the backlog came %+v, want the correction", m)
		}
		if n := len(eventsOf[client.StatusFailed](&events)); n > 0 {
			t.Errorf("%d words failed", n)
		}
	})
}
