package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestPitfall05_PoisonMessageIsNotSentForever(t *testing.T) {
	t.Run("larger than its Maximum Packet Size", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			c := mustStart(t, testConfig("c", &recorder{}, s.dial))
			p := s.accept(control.Connack{MaximumPacketSize: 200})
			large, small := publish(t, c, "t", strings.Repeat("x", 200), client.AtLeastOnce), publish(t, c, "t", "x", client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
			wantState(t, small, client.Acked)
			if o := wantState(t, large, client.Refused); o.Reason != wire.ReasonPacketTooLarge {
				t.Errorf("refused with 0x%02X, want 0x95", o.Reason)
			}
			p.quiet()
		})
	})
	t.Run("ends every connection", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Publishing.PoisonAttempts = 3
			c := mustStart(t, cfg)
			poison, behind := publish(t, c, "t", "poison", client.AtLeastOnce), publish(t, c, "t", "good", client.AtLeastOnce)
			for i := range 3 {
				p := s.accept(control.Connack{SessionPresent: i > 0})
				if m := p.nextPublish(); string(m.Payload) != "poison" {
					t.Fatalf("got %q first", m.Payload)
				}
				p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonPacketTooLarge}))
				p.ended()
			}
			p := s.accept(control.Connack{SessionPresent: true})
			m := p.nextPublish()
			if string(m.Payload) != "good" {
				t.Fatalf("got %q, want the message after the poisonous one", m.Payload)
			}
			p.ack(wire.PUBACK, m.PacketID, 0, "")
			wantState(t, behind, client.Acked)
			o := wantState(t, poison, client.Refused)
			var e *client.PoisonError
			if !errors.As(o.Err, &e) || e.ID != poison.ID || e.Attempts != 3 || o.Reason != wire.ReasonPacketTooLarge {
				t.Errorf("the outcome is %+v, want a *PoisonError after 3 attempts", o)
			}
			if got := eventsOf[client.MessageRefused](&events); len(got) != 1 || got[0].ID != poison.ID || !errors.As(got[0].Err, &e) {
				t.Errorf("MessageRefused events are %v, want one with the *PoisonError", got)
			}
			wantAccounts(t, c)
		})
	})
	// The server's own troubles, and links that break, are no evidence against
	// a message: giving up a good one is worse than sending it again.
	refuse := func(p *peer, code byte) {
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: code}))
		p.ended()
	}
	for name, connection := range map[string]func(*peer){
		"server shutting down": func(p *peer) { refuse(p, 0x8B) },
		"server out of order":  func(p *peer) { refuse(p, wire.ReasonImplementationSpecific) },
		"link cut":             (*peer).close,
		"after its PUBREC": func(p *peer) {
			p.ack(wire.PUBREC, p.nextPublish().PacketID, 0, "")
			p.nextPublish()
			p.nextAck(wire.PUBREL)
			refuse(p, wire.ReasonPacketTooLarge)
		},
		"after the acknowledgement of another": func(p *peer) {
			p.nextPublish()
			p.ack(wire.PUBREC, p.nextPublish().PacketID, wire.ReasonQuotaExceeded, "")
			synctest.Wait()
			refuse(p, wire.ReasonPacketTooLarge)
		},
	} {
		t.Run("not blamed: "+name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Publishing.PoisonAttempts = 1
				c := mustNew(t, cfg)
				d := publish(t, c, "t", "x", client.ExactlyOnce)
				publish(t, c, "t", "y", client.ExactlyOnce)
				start(t, c)
				connection(s.accept(control.Connack{}))
				s.accept(control.Connack{SessionPresent: true})
				synctest.Wait()
				if o := d.Outcome(); o.State != client.Pending {
					t.Errorf("the message ended as %v (%v)", o.State, o.Err)
				}
			})
		})
	}
}

// A birth message that ends every connection is deferred, and does not count against the message after
// it. If the birth does not end connections, the message after it is the poison candidate.
func TestStatus_BirthThatEndsConnections(t *testing.T) {
	for _, birth := range []bool{true, false} {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Publishing.PoisonAttempts = 3
			cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			c := mustStart(t, cfg)
			d := publish(t, c, "t", "x", client.AtLeastOnce)
			rounds := 8
			if birth {
				rounds = cfg.Publishing.PoisonAttempts
			}
			for i := range rounds {
				p := s.accept(control.Connack{SessionPresent: i > 0})
				first := p.nextPublish()
				if string(first.Payload) != "online" {
					t.Fatalf("got %q first", first.Payload)
				}
				if i == 1 {
					p.quiet() // the message waits for the answer
				}
				synctest.Wait()
				if !birth && i > 0 { // the server is slow only the first time
					p.ack(wire.PUBACK, first.PacketID, 0, "")
					synctest.Wait()
				}
				p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonPayloadFormatInvalid}))
				p.ended()
			}
			if !birth {
				wantState(t, d, client.Refused)
				return
			}
			p := s.accept(control.Connack{SessionPresent: true})
			first := p.nextPublish()
			if string(first.Payload) != "x" {
				t.Fatalf("got %q first", first.Payload)
			}
			p.ack(wire.PUBACK, first.PacketID, 0, "")
			wantState(t, d, client.Acked)
		})
	}
}
