package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// listed returns the payloads in the list of set-aside messages.
func listed(t *testing.T, c *client.Client) (list []string) {
	t.Helper()
	for m, err := range c.SetAside().All() {
		must(t, err)
		list = append(list, string(m.Message.Payload))
	}
	return list
}

func wantListed(t *testing.T, c *client.Client, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := listed(t, c); !slices.Equal(got, want) {
		t.Errorf("set aside are %v, want %v", got, want)
	}
	if n := c.Stats().SetAsideNow; n != len(want) {
		t.Errorf("Stats.SetAsideNow is %d, want %d", n, len(want))
	}
}

// What gives a message up sets it aside, and the list survives the process.
func TestSetAside_StoresFailedMessages(t *testing.T) {
	no := errors.New("no")
	for name, tt := range map[string]struct {
		change   func(*client.Config)
		handler  client.HandlerFunc
		attempts int
	}{
		"permanent": {nil, func(context.Context, *client.Message) error { return fmt.Errorf("wrapped: %w", client.Permanent(no)) }, 1},
		"panics":    {nil, func(context.Context, *client.Message) error { panic("no") }, 10},
		"attempts":  {func(cfg *client.Config) { cfg.Receiving.HandlerAttempts = 4 }, func(context.Context, *client.Message) error { return no }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				if tt.change != nil {
					tt.change(&cfg)
				}
				disk := faultfs.New()
				cfg.Dir, cfg.Store.Options.FS = "log", disk
				c := mustNew(t, cfg)
				must(t, c.Handle("t", tt.handler))
				start(t, c)
				p := s.accept(control.Connack{})
				p.publish(wire.Publish{Topic: "t", QoS: 2, PacketID: 1, Payload: []byte("x"), ContentType: "text/plain", CorrelationData: []byte{0}, HasExpiry: true, MessageExpiry: 3600,
					User: []wire.UserProperty{{Key: "a", Value: "b"}, {Key: client.PropID, Value: "0195d6f0-0000-7000-8000-000000000001"}}})
				if a := p.nextAck(wire.PUBREC); a.Reason != 0 {
					t.Errorf("PUBREC has 0x%02X", a.Reason)
				}
				wantListed(t, c, "x")
				if e := eventsOf[client.MessageSetAside](&events); len(e) != 1 || e[0].Attempts != tt.attempts || e[0].Filter != "t" || e[0].Err == nil {
					t.Errorf("reported %+v", e)
				}
				must(t, c.Close())

				cfg.Connection.Dial = testConfig("c", &events, s.dial).Connection.Dial
				c = mustNew(t, cfg)
				in := newInbox()
				must(t, c.Handle("#", newInbox())) // another handler does not get it
				must(t, c.Handle("t", in))
				start(t, c)
				s.accept(control.Connack{SessionPresent: true})
				wantListed(t, c, "x")
				var id uint64
				for m, err := range c.SetAside().All() {
					must(t, err)
					id = m.ID
					if m.Attempts != tt.attempts || m.Filter != "t" || m.Err == "" || m.Message.Expiry != time.Hour || m.Message.ContentType != "text/plain" ||
						m.Message.UserProperties[0].Value != "b" || m.Message.ID.IsZero() || m.Message.ReceivedAt.IsZero() || m.Message.CorrelationData == nil {
						t.Errorf("listed %+v %+v", m, m.Message)
					}
				}
				must(t, c.SetAside().Redeliver(id))
				wantHandled(t, in, "x")
				wantListed(t, c)
				if err := c.SetAside().Redeliver(id); !errors.Is(err, client.ErrNotSetAside) {
					t.Errorf("Redeliver again: %v", err)
				}
				must(t, c.SetAside().Discard(id))
				must(t, c.Close())
			})
		})
	}
}

// Without Dir, or with the list disabled, the message is refused.
func TestSetAside_RequiresDir(t *testing.T) {
	receiving(t, nil, client.HandlerFunc(func(context.Context, *client.Message) error { return client.Permanent(errors.New("no")) }),
		func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			p.publish(appMessage(1, 1, "x"))
			if a := p.nextAck(wire.PUBACK); a.Reason != wire.ReasonUnspecifiedError {
				t.Errorf("PUBACK has 0x%02X", a.Reason)
			}
			for _, err := range c.SetAside().All() {
				if !errors.Is(err, client.ErrNoSetAside) {
					t.Errorf("All: %v", err)
				}
			}
			if err := errors.Join(c.SetAside().Redeliver(1), c.SetAside().Discard(1)); !errors.Is(err, client.ErrNoSetAside) {
				t.Error(err)
			}
		})
}

// A full list keeps the message unacknowledged until there is room.
func TestSetAside_FullListHoldsMessageBack(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		withAside(&cfg)
		cfg.Receiving.SetAside.MaxMessages = 1
		c := mustNew(t, cfg)
		must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error { return client.Permanent(errors.New("no")) })))
		start(t, c)
		p := s.accept(control.Connack{})
		p.publish(appMessage(1, 1, "x"))
		p.nextAck(wire.PUBACK)
		p.publish(appMessage(2, 1, "y"))
		p.publish(wire.Publish{Topic: "unknown", QoS: 1, PacketID: 3})
		time.Sleep(time.Minute)
		p.quiet()
		if e := eventsOf[client.StoreFailed](&events); len(e) == 0 || !errors.Is(e[0].Err, client.ErrSetAsideFull) {
			t.Errorf("reported %+v", e)
		}
		must(t, c.SetAside().Discard(1))
		if a := p.nextAck(wire.PUBACK); a.PacketID != 2 || a.Reason != 0 {
			t.Errorf("%+v", a)
		}
		if a := p.nextAck(wire.PUBACK); a.PacketID != 3 || a.Reason != wire.ReasonImplementationSpecific { // it cannot hold up all others
			t.Errorf("%+v", a)
		}
		must(t, c.Close())
	})
}

// Messages without a handler wait, are set aside, and reach a handler that is declared later: within
// the grace period, after it, and in a later process; in order, before newer ones.
func TestUnhandled_WaitsForAHandler(t *testing.T) {
	for _, when := range []string{"within", "after", "later process"} {
		t.Run(when, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				withAside(&cfg)
				c := mustNew(t, cfg)
				start(t, c)
				p := s.accept(control.Connack{})
				connect(t, c)
				p.publish(appMessage(1, 2, "1"))
				p.publish(appMessage(2, 1, "2"))
				time.Sleep(20 * time.Second)
				p.quiet()
				if when != "within" {
					time.Sleep(20 * time.Second)
					p.nextAck(wire.PUBREC)
					p.nextAck(wire.PUBACK)
					wantListed(t, c, "1", "2")
					p.publish(appMessage(3, 1, "3")) // there is no grace any more
					p.nextAck(wire.PUBACK)
				}
				if when == "later process" {
					must(t, c.Close())
					cfg.Connection.Dial = testConfig("c", &events, s.dial).Connection.Dial
					c = mustNew(t, cfg)
					start(t, c)
					p = s.accept(control.Connack{SessionPresent: true})
					wantListed(t, c, "1", "2", "3")
				}
				in := newInbox()
				must(t, c.Handle("+", in))
				p.publish(appMessage(4, 1, "4"))
				if when == "within" {
					p.nextAck(wire.PUBREC)
					p.nextAck(wire.PUBACK)
					p.nextAck(wire.PUBACK)
					wantHandled(t, in, "1", "2", "4")
				} else {
					p.nextAck(wire.PUBACK)
					wantHandled(t, in, "1", "2", "3", "4")
				}
				wantListed(t, c)
				if len(eventsOf[client.Unhandled](&events)) != 2 || !eventsOf[client.Unhandled](&events)[0].Waiting {
					t.Errorf("reported %+v", eventsOf[client.Unhandled](&events))
				}
				must(t, c.Close())
			})
		})
	}
}

// The grace period ends early when half of the receive window waits.
func TestUnhandled_GraceEndsWhenWindowFills(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		withAside(&cfg)
		cfg.Receiving.ReceiveMaximum = 10
		c := mustNew(t, cfg)
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		for i := range uint16(5) {
			p.publish(appMessage(i+1, 1, fmt.Sprint(i)))
		}
		for range 5 {
			p.nextAck(wire.PUBACK)
		}
		wantListed(t, c, "0", "1", "2", "3", "4")
		must(t, c.Close())
	})
}

// A fallback handler gets what no filter matches.
func TestHandleUnmatched(t *testing.T) {
	in, rest := newInbox(), newInbox()
	receiving(t, nil, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		must(t, c.Handle("a/#", in))
		p.publish(wire.Publish{Topic: "b", QoS: 1, PacketID: 1, Payload: []byte("1")}) // before it is declared
		synctest.Wait()
		must(t, c.HandleUnmatched(rest))
		p.nextAck(wire.PUBACK)
		p.publish(wire.Publish{Topic: "a/b", QoS: 1, PacketID: 2, Payload: []byte("2")})
		p.nextAck(wire.PUBACK)
		p.publish(wire.Publish{Topic: "c", Payload: []byte("3")})
		wantHandled(t, in, "2")
		wantHandled(t, rest, "1", "3")
		if err := c.HandleUnmatched(nil); err == nil {
			t.Error("a nil Handler is accepted")
		}
	})
}

// An expired message is not handled, unless that is wanted.
func TestReceivedExpired(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		in := newInbox()
		receiving(t, func(cfg *client.Config) { cfg.Receiving.HandleExpired, cfg.Receiving.Concurrency = wanted, 1 }, nil, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
			must(t, c.Handle("slow", client.HandlerFunc(func(context.Context, *client.Message) error { time.Sleep(10 * time.Second); return nil })))
			must(t, c.Handle("t", in))
			p.publish(wire.Publish{Topic: "slow", QoS: 1, PacketID: 1})
			p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 2, Payload: []byte("old"), HasExpiry: true, MessageExpiry: 5})
			p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 3, Payload: []byte("young"), HasExpiry: true, MessageExpiry: 15})
			for range 3 {
				if a := p.nextAck(wire.PUBACK); a.Reason != 0 {
					t.Errorf("%+v", a)
				}
			}
			want, expired := []string{"young"}, 1
			if wanted {
				want, expired = []string{"old", "young"}, 0
			}
			if wantHandled(t, in, want...); len(eventsOf[client.ReceivedExpired](events)) != expired || c.Stats().ReceivedExpired != uint64(expired) {
				t.Errorf("%d are reported as expired", len(eventsOf[client.ReceivedExpired](events)))
			}
		})
	}
}

// A payload that is not the UTF-8 that it announces is refused with 0x99.
func TestPayloadFormat(t *testing.T) {
	in := newInbox()
	receiving(t, nil, in, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		for i, payload := range []string{"\xff", "a\xc0\x80", "ü\x00"} {
			for _, qos := range []byte{0, 1, 2} {
				p.publish(wire.Publish{Topic: "t", QoS: qos, PacketID: uint16(min(qos, 1)) * uint16(10*i+int(qos)), Payload: []byte(payload), PayloadFormat: 1})
				if kind := map[byte]wire.Type{1: wire.PUBACK, 2: wire.PUBREC}[qos]; qos > 0 {
					if a, want := p.nextAck(kind), byte(wire.ReasonPayloadFormatInvalid); (a.Reason == want) != (i < 2) {
						t.Errorf("%q at QoS %d has 0x%02X", payload, qos, a.Reason)
					}
				}
			}
		}
		if wantHandled(t, in, "ü\x00", "ü\x00", "ü\x00"); len(eventsOf[client.PayloadInvalid](events)) != 6 || c.Stats().PayloadsInvalid != 6 {
			t.Errorf("%d are reported", c.Stats().PayloadsInvalid)
		}
	})
}

// A handler that holds up the receive window is reported, with how many wait, and again as it lasts.
func TestReceiveBlocked(t *testing.T) {
	for name, h := range map[string]client.HandlerFunc{"fails": func(context.Context, *client.Message) error { return errors.New("no") }, "hangs": blocking} {
		t.Run(name, func(t *testing.T) {
			receiving(t, func(cfg *client.Config) { cfg.Receiving.ReceiveMaximum, cfg.Receiving.Concurrency = 4, 4096 }, nil, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
				must(t, c.Handle("bad", h))
				must(t, c.Handle("good/+", newInbox()))
				p.publish(wire.Publish{Topic: "bad", QoS: 1, PacketID: 1})
				for i := range uint16(3) {
					p.publish(wire.Publish{Topic: fmt.Sprint("good/", i), QoS: 1, PacketID: i + 2})
				}
				time.Sleep(time.Minute)
				got := eventsOf[client.ReceiveBlocked](events)
				if len(got) != 2 || got[0].Topic != "bad" || got[0].Waiting != 3 || (got[0].Attempts > 0) != (name == "fails") || time.Since(got[0].Since) < 59*time.Second {
					t.Errorf("reported %+v", got)
				}
				if failed := eventsOf[client.HandlerFailed](events); name == "fails" && (failed[0].Attempt != 1 || failed[len(failed)-1].Waiting != 3 || failed[0].Refused) {
					t.Errorf("reported %+v", failed)
				}
				if n := c.Stats().Handled; n != 3 {
					t.Errorf("%d of the others were handled", n)
				}
			})
		})
	}
}

// Start before Subscribe: messages that wait in the session are neither refused nor lost.
func TestStart_BeforeSubscribe(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, broker *mqtttest.Broker, _ *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, broker.Dial)
		withAside(&cfg)
		c := mustStart(t, cfg)
		must1(c.Subscribe(t.Context(), "t/#", client.ExactlyOnce, newInbox()))
		connect(t, c)
		time.Sleep(time.Second)
		must(t, c.Close())
		publisher := mustStart(t, testConfig("publisher", &recorder{}, broker.Dial))
		var want []string
		for i := range 100 {
			publish(t, publisher, "t/x", fmt.Sprint(i), client.QoS(1+i%2))
			want = append(want, fmt.Sprint(i))
		}
		must(t, publisher.Drain(t.Context()))
		cfg.Connection.Dial = testConfig("c", &recorder{}, broker.Dial).Connection.Dial
		c = mustStart(t, cfg)
		connect(t, c)
		time.Sleep(10 * time.Second)
		in := newInbox()
		must1(c.Subscribe(t.Context(), "t/#", client.ExactlyOnce, in))
		wantHandled(t, in, want...)
		must(t, c.Close())
	})
}
