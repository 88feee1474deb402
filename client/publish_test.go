package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// publishing runs a test with a connected client.
func publishing(t *testing.T, change func(*client.Config), ack control.Connack, test func(t *testing.T, c *client.Client, p *peer, events *recorder)) {
	t.Helper()
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		if change != nil {
			change(&cfg)
		}
		c := mustStart(t, cfg)
		p := s.accept(ack)
		connect(t, c)
		test(t, c, p, &events)
	})
}

func TestPublish_RefusesWhatServerDoesNotSupport(t *testing.T) {
	for name, tt := range map[string]struct {
		ack control.Connack
		m   client.Message
		who byte
	}{
		"too large":     {control.Connack{MaximumPacketSize: 100}, client.Message{Payload: make([]byte, 100)}, wire.ReasonPacketTooLarge},
		"QoS 2 above 1": {control.Connack{HasMaximumQoS: true, MaximumQoS: 1}, client.Message{QoS: 2}, wire.ReasonQoSNotSupported},
		"QoS 1 above 0": {control.Connack{HasMaximumQoS: true, MaximumQoS: 0}, client.Message{QoS: 1}, wire.ReasonQoSNotSupported},
		"retain":        {control.Connack{RetainUnavailable: true}, client.Message{Retain: true}, wire.ReasonRetainNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			publishing(t, nil, tt.ack, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
				m := tt.m
				m.Topic = "t"
				if m.QoS != 1 { // at once
					var refused *client.RefusedError
					if _, err := c.Publish(t.Context(), m); !errors.As(err, &refused) || refused.Code != tt.who {
						t.Errorf("QoS %d: Publish returned %v, want 0x%02X", m.QoS, err, tt.who)
					}
					if m.QoS == 2 {
						return
					}
					m.QoS = 1
				}
				d, err := c.Publish(t.Context(), m)
				must(t, err)
				var refused *client.RefusedError
				if o := wantState(t, d, client.Refused); o.Reason != tt.who || !errors.As(o.Err, &refused) {
					t.Errorf("the outcome is %+v, want 0x%02X", o, tt.who)
				}
				p.quiet()
				if n := len(eventsOf[client.MessageRefused](events)); n != 1 {
					t.Errorf("%d MessageRefused events, want 1", n)
				}
				wantAccounts(t, c)
			})
		})
	}
}

func TestPublish_AckWithSuccessCode(t *testing.T) {
	publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonNoMatchingSubscribers, "")
		if o := wantState(t, d, client.Acked); o.Reason != wire.ReasonNoMatchingSubscribers || o.Err != nil {
			t.Errorf("the outcome is %+v", o)
		}
	})
}

func TestPublish_NewIDForEachCall(t *testing.T) {
	publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		m := client.Message{Topic: "t", QoS: 1}
		first, err := c.Publish(t.Context(), m)
		must(t, err)
		second, err := c.Publish(t.Context(), m)
		must(t, err)
		if first.ID == second.ID || first.ID.IsZero() || !m.ID.IsZero() {
			t.Errorf("the IDs are %v and %v", first.ID, second.ID)
		}
		m.ID = client.ParseMessageID("order 17")
		third, err := c.Publish(t.Context(), m)
		must(t, err)
		if third.ID != m.ID {
			t.Errorf("the application's own ID became %v", third.ID)
		}
		for _, want := range []client.MessageID{first.ID, second.ID, m.ID} {
			if got := userProperty(p.nextPublish(), client.PropID); got != want.String() {
				t.Errorf("%s was sent, want %v", got, want)
			}
		}
	})
}

func TestPublish_CopiesItsMessage(t *testing.T) {
	publishing(t, nil, control.Connack{ReceiveMaximum: 1}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		payload, correlation := []byte("payload"), []byte("correlation")
		_, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1, Payload: payload, CorrelationData: correlation})
		must(t, err)
		clear(payload)
		clear(correlation)
		if m := p.nextPublish(); string(m.Payload) != "payload" || string(m.CorrelationData) != "correlation" {
			t.Errorf("%q %q was sent", m.Payload, m.CorrelationData)
		}
	})
}

func TestReceiveMaximum_One(t *testing.T) {
	publishing(t, func(cfg *client.Config) { cfg.Presence.Status = &client.Status{Topic: "status", NoCorrection: true} }, control.Connack{ReceiveMaximum: 1},
		func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			var all []*client.Delivery
			for i := range 10 {
				all = append(all, publish(t, c, "t", fmt.Sprint(i), client.QoS(i%2+1)))
			}
			birth := p.nextPublish()
			if birth.Topic != "status" || string(birth.Payload) != "online" {
				t.Errorf("%s came first", birth.Topic)
			}
			p.quiet()
			p.ack(wire.PUBACK, birth.PacketID, 0, "")
			for i, d := range all {
				m := p.nextPublish()
				p.quiet()
				if string(m.Payload) != fmt.Sprint(i) {
					t.Errorf("%q came, want %d", m.Payload, i)
				}
				if m.QoS == 1 {
					p.ack(wire.PUBACK, m.PacketID, 0, "")
				} else {
					p.ack(wire.PUBREC, m.PacketID, 0, "")
					p.nextAck(wire.PUBREL)
					p.quiet()
					p.ack(wire.PUBCOMP, m.PacketID, 0, "")
				}
				wantState(t, d, client.Acked)
			}
		})
}

// syncStore counts syncs.
type syncStore struct {
	*persistence.Memory
	syncs int
}

func (s *syncStore) Sync() error { s.syncs++; return s.Memory.Sync() }

func TestPublish_DUPOnlyIfMaybeSent(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		for life := range 2 {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Store.Custom = store
			c := mustStart(t, cfg)
			publish(t, c, "t", fmt.Sprint(life), client.AtLeastOnce)
			p := s.accept(control.Connack{SessionPresent: life > 0})
			for i := range life + 1 {
				if m := p.nextPublish(); string(m.Payload) != fmt.Sprint(i) || m.Dup != (i < life) {
					t.Errorf("life %d: message %q came with DUP %v", life, m.Payload, m.Dup)
				}
			}
			store = store.Reopen()
			_ = c.Close()
		}
	})
}

// A message that was sent does not expire [MQTT-4.4.0-1] [MQTT-4.3.3-7]. It is resent with a
// lifetime of 1 s, because some servers never expire a message with 0.
func TestExpiry_SentMessageDoesNotExpire(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.AckTimeout = time.Hour
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 2})
		var all []*client.Delivery
		for _, qos := range []client.QoS{1, 2, 2} { // the third is not sent
			d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: qos, Expiry: 10 * time.Second})
			must(t, err)
			all = append(all, d)
		}
		p.nextPublish()
		p.nextPublish()
		p.quiet()
		time.Sleep(11 * time.Second)
		p.close()
		p = s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: 3})
		m := p.nextPublish()
		if m.QoS != 1 || !m.Dup || m.MessageExpiry != 1 {
			t.Errorf("the resent message is %+v", m)
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		if m = p.nextPublish(); m.QoS != 2 || !m.Dup || m.MessageExpiry != 1 {
			t.Errorf("the resent message is %+v", m)
		}
		p.ack(wire.PUBREC, m.PacketID, 0, "")
		p.nextAck(wire.PUBREL)
		p.ack(wire.PUBCOMP, m.PacketID, 0, "")
		wantState(t, all[0], client.Acked)
		wantState(t, all[1], client.Acked)
		wantState(t, all[2], client.Expired)
		p.quiet()
	})
}

func TestSequenced_ContinuesAfterRestart(t *testing.T) {
	dir := t.TempDir()
	var epoch string
	for life := range 3 {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Dir, cfg.Publishing.Sequenced, cfg.Publishing.Publisher = dir, true, "pump"
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{SessionPresent: life > 0})
			for i := range 3 {
				for _, topic := range []string{"a", "b"} {
					publish(t, c, topic, "x", client.ExactlyOnce)
					m := p.nextPublish()
					p.ack(wire.PUBREC, m.PacketID, 0, "")
					p.ack(wire.PUBCOMP, p.nextAck(wire.PUBREL).PacketID, 0, "")
					if got := userProperty(m, client.PropSeq); got != fmt.Sprint(3*life+i+1) {
						t.Errorf("topic %s has number %s, want %d", topic, got, 3*life+i+1)
					}
					if got := userProperty(m, client.PropPublisher); got != "pump" {
						t.Errorf("the publisher is %q", got)
					}
					if got := userProperty(m, client.PropEpoch); epoch != "" && got != epoch {
						t.Errorf("the epoch is %s, was %s", got, epoch)
					} else {
						epoch = got
					}
				}
			}
			must(t, c.Drain(t.Context()))
		})
	}
}

func TestSequenced_NumbersInOrderOfPublishing(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		in := newInbox()
		receiver := mustStart(t, testConfig("r", &recorder{}, b.Dial))
		connect(t, receiver)
		must1(receiver.Subscribe(t.Context(), "#", client.ExactlyOnce, in))
		cfg := testConfig("c", &recorder{}, through(p))
		cfg.Publishing.Sequenced = true
		c := mustStart(t, cfg)
		var all sync.WaitGroup
		for g := range 16 {
			all.Go(func() {
				for n := range 50 {
					publish(t, c, fmt.Sprint("t", (g+n)%4), "x", client.QoS(n%2+1))
				}
			})
		}
		all.Wait()
		must(t, c.Drain(t.Context()))
		last := map[string]uint64{}
		for _, m := range in.await(t, 800) {
			if m.Origin.Seq != last[m.Topic]+1 || m.Origin.Publisher != "c" {
				t.Fatalf("topic %s: number %d of %q behind %d", m.Topic, m.Origin.Seq, m.Origin.Publisher, last[m.Topic])
			}
			last[m.Topic] = m.Origin.Seq
		}
	})
}

func TestPublish_Errors(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		c := mustNew(t, cfg)
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t"}); !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("QoS 0 without a connection: %v", err)
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if _, err := c.Publish(ctx, client.Message{Topic: "t", QoS: 1}); !errors.Is(err, why) {
			t.Errorf("with an ended context: %v", err)
		}
		var field *client.FieldError
		for _, m := range []client.Message{{Topic: "t", QoS: 3}, {Topic: "t", QoS: 1, Expiry: -1}, {Topic: "t", QoS: 1, PayloadIsUTF8: true, Payload: []byte{0xff}}} {
			if _, err := c.Publish(t.Context(), m); !errors.As(err, &field) {
				t.Errorf("%+v: %v, want a *FieldError", m, err)
			}
		}
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1, Payload: make([]byte, 17<<20)}); !errors.Is(err, persistence.ErrPacketTooLarge) {
			t.Errorf("above MaxPacketBytes: %v", err)
		}
		must(t, c.Close())
		for qos := client.AtMostOnce; qos <= client.ExactlyOnce; qos++ {
			if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: qos}); !errors.Is(err, client.ErrClosed) {
				t.Errorf("QoS %d after Close: %v", qos, err)
			}
		}
		if n := c.Stats().Store.Accepted; n != 0 {
			t.Errorf("%d were accepted", n)
		}
	})
}

// The message ID of a QoS 0 message counts too, where the server has no limit and
// MQTT does.
func TestPublish_LargestPacket(t *testing.T) {
	t.Parallel()
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{})
		connect(t, c)
		var refused *client.RefusedError
		payload := make([]byte, 268_435_455-len("\x00\x01t\x00"))
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t", ID: client.NewMessageID(), Payload: payload}); !errors.As(err, &refused) || refused.Code != wire.ReasonPacketTooLarge {
			t.Errorf("the error is %v", err)
		}
		p.quiet()
	})
}
