package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// refuseAll is a server that refuses each PUBLISH of topic t because of a quota, and does not know any
// packet identifier, until the connection ends or this time has passed. It grants subscriptions.
func (p *peer) refuseAll(most time.Duration) (ended bool) {
	for timeout := time.After(most); ; {
		select {
		case f, ok := <-p.got:
			switch {
			case !ok:
				return true
			case f.Type() == wire.PUBLISH:
				v, err := wire.ParsePublish(f)
				must(p.t, err)
				if string(v.Topic) == "t" {
					p.ack(wire.PUBREC, v.PacketID, wire.ReasonQuotaExceeded, "")
				} else {
					p.ack(wire.PUBACK, v.PacketID, 0, "")
				}
			case f.Type() == wire.PUBREL:
				a, err := wire.ParseAck(f)
				must(p.t, err)
				p.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound, "")
			case f.Type() == wire.SUBSCRIBE:
				sub, err := control.ParseSubscribe(f)
				must(p.t, err)
				p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: make([]byte, len(sub.Subscriptions))}))
			}
		case <-timeout:
			return false
		}
	}
}

// A session in which the server refuses everything, whatever is purged, is given up, unless messages may
// wait in it or the application wants to keep it.
func TestSessionStuck(t *testing.T) {
	for name, c := range map[string]struct {
		policy     client.StuckPolicy
		subscribed bool
		renews     bool
	}{
		"default":             {client.StuckRenewIfUnsubscribed, false, true},
		"default, subscribed": {client.StuckRenewIfUnsubscribed, true, false},
		"renew, subscribed":   {client.StuckRenew, true, true},
		"keep":                {client.StuckKeep, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				cfg.Store.Custom = usedStore(t)
				cfg.Session.OnStuck = c.policy
				b := mustStart(t, cfg)
				p := s.accept(control.Connack{SessionPresent: true})
				connect(t, b)
				if c.subscribed {
					done := make(chan error, 1)
					go func() { done <- errOf(b.Subscribe(t.Context(), "x", client.AtLeastOnce, newInbox())) }()
					p.grantSubscribe()
					must(t, <-done)
				}
				d := publish(t, b, "t", "x", client.ExactlyOnce)
				began := time.Now()
				renewed := p.refuseAll(3 * time.Minute)
				if renewed != c.renews || renewed && time.Since(began) > 2*time.Minute {
					t.Fatalf("begins a new session: %t, after %v", renewed, time.Since(began))
				}
				awaitEvents[client.SessionStuck](t, &events, 1, time.Minute)
				if e := eventsOf[client.SessionStuck](&events); e[0].NewSession != c.renews || b.Stats().SessionsStuck != 1 {
					t.Errorf("reported %+v, counted %d", e, b.Stats().SessionsStuck)
				}
				if renewed {
					p = s.accept(control.Connack{})
					if !p.connect.CleanStart {
						t.Error("Clean Start is 0")
					}
					if c.subscribed {
						p.grantSubscribe()
					}
					id := d.ID
					m := p.nextPublish()
					if m.Dup || userProperty(m, client.PropID) != id.String() {
						t.Errorf("published again as %+v", m)
					}
					p.ack(wire.PUBREC, m.PacketID, 0, "")
					p.ack(wire.PUBCOMP, p.nextAck(wire.PUBREL).PacketID, 0, "")
					delivered(t, d)
				}
				p.close()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_ = b.Drain(ctx)
				_ = b.Close()
			})
		})
	}
}

// lossyStore is a store that has lost messages that were sent.
type lossyStore struct{ persistence.Store }

func (lossyStore) SentLost() bool { return true }

// The client must not mistake a new message for a lost one that the server received under its packet identifier.
func TestSentLost_PurgesBeforeItPublishes(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = lossyStore{usedStore(t)}
		b := mustStart(t, cfg)
		d := publish(t, b, "t", "x", client.ExactlyOnce)
		p := s.accept(control.Connack{SessionPresent: true})
		purged := map[uint16]bool{}
		for {
			synctest.Wait()
			f := <-p.got
			if f.Type() == wire.PUBLISH {
				v, err := wire.ParsePublish(f)
				must(t, err)
				if len(purged) != 65_536-257 || !purged[v.PacketID] {
					t.Errorf("published under %d after %d were purged", v.PacketID, len(purged))
				}
				p.ack(wire.PUBREC, v.PacketID, 0, "")
				break
			}
			a, err := wire.ParseAck(f)
			must(t, err)
			purged[a.PacketID] = true
			p.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound, "")
		}
		p.ack(wire.PUBCOMP, p.nextAck(wire.PUBREL).PacketID, 0, "")
		delivered(t, d)
		must(t, b.Close())
	})
}

func delivered(t *testing.T, d *client.Delivery) {
	t.Helper()
	if o, err := d.Wait(t.Context()); err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
}
