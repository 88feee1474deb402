package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// receiving runs a test with a connected client that has h for every topic.
func receiving(t *testing.T, change func(*client.Config), h client.Handler, test func(t *testing.T, c *client.Client, p *peer, events *recorder)) {
	t.Helper()
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		if change != nil {
			change(&cfg)
		}
		c := mustNew(t, cfg)
		if h != nil {
			must(t, c.Handle("#", h))
		}
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		test(t, c, p, &events)
	})
}

func TestConcurrency_SerialPerKeyParallelAcrossKeys(t *testing.T) {
	var mu sync.Mutex
	running, most := map[string]int{}, 0
	release := make(chan struct{})
	h := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		key := m.Topic[:1]
		mu.Lock()
		running[key]++
		if running[key] > 1 {
			t.Errorf("two messages of key %s are handled at once", key)
		}
		most = max(most, len(running))
		mu.Unlock()
		<-release
		mu.Lock()
		defer mu.Unlock()
		if running[key]--; running[key] == 0 {
			delete(running, key)
		}
		return nil
	})
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Concurrency = 64
		cfg.Receiving.OrderingKey = func(m *client.Message) string { return m.Topic[:1] }
	}, h, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		release = make(chan struct{}) // of this bubble
		const messages = 40
		for i := range messages {
			p.publish(wire.Publish{Topic: fmt.Sprintf("%c%d", 'a'+i%8, i), QoS: 1, PacketID: uint16(i + 1)})
		}
		synctest.Wait()
		if most < 2 {
			t.Errorf("%d keys were handled in parallel", most)
		}
		close(release)
		for i := range messages {
			if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) {
				t.Fatalf("PUBACK %d came, want %d: they leave in the order of receipt [MQTT-4.6.0-2]", a.PacketID, i+1)
			}
		}
		if n := c.Stats().Handled; n != messages {
			t.Errorf("%d handled", n)
		}
	})
}

func TestReceiveQoS0_DropsWhenQueueIsFull(t *testing.T) {
	var release chan struct{}
	var handled atomic.Int32
	h := client.HandlerFunc(func(context.Context, *client.Message) error { <-release; handled.Add(1); return nil })
	receiving(t, func(cfg *client.Config) { cfg.Receiving.QoS0QueueSize = 3 }, h, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		release = make(chan struct{})
		p.publish(wire.Publish{Topic: "t"})
		synctest.Wait() // the handler has it
		for range 10 {
			p.publish(wire.Publish{Topic: "t"})
		}
		p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 1}) // never dropped
		synctest.Wait()
		if n := c.Stats().DroppedQoS0; n != 7 {
			t.Errorf("%d were dropped, want 7", n)
		}
		close(release)
		p.nextAck(wire.PUBACK)
		if n := handled.Load(); n != 5 {
			t.Errorf("%d were handled, want 1+3 at QoS 0 and 1 at QoS 1", n)
		}
		synctest.Wait()
		if n := c.Stats().InboundBytes; n != 0 {
			t.Errorf("%d bytes are taken, and nothing is left to be handled", n)
		}
	})
}

func TestHandler_ErrorIsRetriedThenRefused(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			var times []time.Time
			h := client.HandlerFunc(func(context.Context, *client.Message) error {
				times = append(times, time.Now())
				return errors.New("no")
			})
			receiving(t, func(cfg *client.Config) {
				cfg.Receiving.HandlerAttempts = 3
				cfg.Receiving.HandlerBackoff = reliability.Backoff{Min: time.Second, Max: time.Second}
			}, h, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
				p.publish(appMessage(1, qos, "x"))
				kind := wire.PUBACK
				if qos == 2 {
					kind = wire.PUBREC
				}
				if a := p.nextAck(kind); a.Reason != wire.ReasonUnspecifiedError || string(a.ReasonString) != "handler failed" {
					t.Errorf("got 0x%02X %q", a.Reason, a.ReasonString)
				}
				if len(times) != 3 || times[2].Sub(times[0]) != 2*time.Second {
					t.Errorf("the attempts came at %v, want 3, a second apart", times)
				}
				if s := c.Stats(); s.Failed != 3 || s.Refused != 1 || s.Handled != 0 {
					t.Errorf("the counters are %+v", s)
				}
				if got := eventsOf[client.HandlerFailed](events); len(got) != 3 || got[1].Refused || !got[2].Refused {
					t.Errorf("HandlerFailed events are %v", got)
				}
				// The identifier is free: this is a new message.
				p.publish(appMessage(1, qos, "x"))
				p.nextAck(kind)
				if len(times) != 6 {
					t.Errorf("%d attempts, want 3 more", len(times)-3)
				}
			})
		})
	}
}

func TestRefusal_OnTheWire(t *testing.T) {
	const maxReason = 1024
	long := strings.Repeat("ä", 100_000)
	for _, tt := range []struct {
		code byte
		text string
		want byte
		sent string
	}{
		{0x80, "", 0x80, ""},
		{0x83, "later", 0x83, "later"},
		{0x87, "not you", 0x87, "not you"},
		{0x90, "x", 0x90, "x"},
		{0x91, "x", 0x91, "x"},
		{0x97, "x", 0x97, "x"},
		{0x99, "x", 0x99, "x"},
		{0x00, "not a refusal", 0x80, "not a refusal"},
		{0x9C, "unknown to PUBACK", 0x80, "unknown to PUBACK"},
		{0x87, "bad \xff and \x00", 0x87, "bad \uFFFD and "},
		{0x87, long, 0x87, long[:maxReason]},
		{0x87, "x" + long, 0x87, "x" + long[:maxReason-2]},
	} {
		h := client.HandlerFunc(func(context.Context, *client.Message) error {
			return fmt.Errorf("wrapped: %w", client.Refuse(tt.code, tt.text))
		})
		receiving(t, nil, h, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			for i, kind := range []wire.Type{wire.PUBACK, wire.PUBREC} {
				p.publish(appMessage(uint16(i+1), byte(i+1), "x"))
				if a := p.nextAck(kind); a.Reason != tt.want || string(a.ReasonString) != tt.sent {
					t.Errorf("0x%02X %.20q was sent as 0x%02X %.20q", tt.code, tt.text, a.Reason, a.ReasonString)
				}
			}
			p.publish(appMessage(0, 0, "x")) // at QoS 0 there is no answer
			p.quiet()
			if s := c.Stats(); s.Failed != 3 || s.Refused != 3 {
				t.Errorf("a refusal was retried: %+v", s)
			}
		})
	}
}

func TestUnhandled_IsRefusedAndReported(t *testing.T) {
	noGrace := func(cfg *client.Config) { cfg.Receiving.UnhandledGrace = client.NoGrace }
	receiving(t, noGrace, nil, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		time.Sleep(time.Second)
		p.publish(appMessage(1, 1, "x"))
		if a := p.nextAck(wire.PUBACK); a.Reason != wire.ReasonImplementationSpecific {
			t.Errorf("PUBACK says 0x%02X", a.Reason)
		}
		p.publish(appMessage(2, 2, "y"))
		if a := p.nextAck(wire.PUBREC); a.Reason != wire.ReasonImplementationSpecific {
			t.Errorf("PUBREC says 0x%02X", a.Reason)
		}
		p.publish(wire.Publish{Topic: "t", Payload: []byte("z")})
		p.quiet()
		got := eventsOf[client.Unhandled](events)
		if len(got) != 3 || string(got[0].Message.Payload) != "x" || c.Stats().Unhandled != 3 {
			t.Errorf("Unhandled events are %v", got)
		}
	})
}

func TestReceive_RedeliveryDuringHandler(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			var handled atomic.Int32
			withScript(t, func(t *testing.T, s *script) {
				c := mustNew(t, testConfig("c", &recorder{}, s.dial))
				must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error {
					handled.Add(1)
					time.Sleep(time.Minute)
					return nil
				})))
				start(t, c)
				p := s.accept(control.Connack{})
				p.publish(appMessage(1, qos, "x"))
				synctest.Wait()
				p.close()
				p = s.accept(control.Connack{SessionPresent: true})
				again := appMessage(1, qos, "x")
				again.Dup = true
				p.publish(again)
				kind := wire.PUBACK
				if qos == 2 {
					kind = wire.PUBREC
				}
				if a := p.nextAck(kind); a.Reason != 0 {
					t.Errorf("the answer is 0x%02X", a.Reason)
				}
				if n := handled.Load(); n != 1 {
					t.Errorf("the handler ran %d times", n)
				}
				if n := c.Stats().Redelivered; n != 1 {
					t.Errorf("%d counted as redelivered", n)
				}
			})
		})
	}
}

func TestHandle_BeforeStartReceivesResumedSession(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = usedStore(t)
		c := mustNew(t, cfg)
		in := newInbox()
		must(t, c.Handle("t", in))
		start(t, c)
		p := s.open()
		// CONNACK and the first message come in one piece.
		m := appMessage(1, 2, "first")
		p.send(wire.AppendImage(control.AppendConnack(nil, &control.Connack{SessionPresent: true}), wire.AppendPublish(nil, &m), 1, true, 0))
		if a := p.nextAck(wire.PUBREC); a.Reason != 0 {
			t.Errorf("PUBREC says 0x%02X", a.Reason)
		}
		if got := in.messages(); len(got) != 1 || !got[0].Duplicate {
			t.Errorf("the handler got %v", got)
		}
	})
}

func TestHandler_SeveralHandlersReceiveOnce(t *testing.T) {
	var order []string
	note := func(name string, fail int) client.Handler {
		return client.HandlerFunc(func(context.Context, *client.Message) error {
			order = append(order, name)
			if fail--; fail >= 0 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	receiving(t, nil, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		must(t, c.Handle("a/b", note("replaced", 0)))
		must(t, c.Handle("a/+", note("plus", 0)))
		must(t, c.Handle("b/#", note("other", 0)))
		must(t, c.Handle("a/b", note("exact", 2)))
		must(t, c.Handle("#", note("all", 0)))
		p.publish(wire.Publish{Topic: "a/b", QoS: 2, PacketID: 1})
		if a := p.nextAck(wire.PUBREC); a.Reason != 0 {
			t.Errorf("PUBREC says 0x%02X", a.Reason)
		}
		if got := fmt.Sprint(order); got != "[plus exact exact exact all]" {
			t.Errorf("the handlers ran as %v: one that accepted the message must not get it again", got)
		}
	})
}

func TestMiddleware_Order(t *testing.T) {
	var order []string
	wrap := func(name string) client.Middleware {
		return func(next client.Handler) client.Handler {
			return client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
				order = append(order, name)
				return next.Handle(ctx, m)
			})
		}
	}
	h := client.HandlerFunc(func(context.Context, *client.Message) error { order = append(order, "handler"); return nil })
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Middleware = []client.Middleware{wrap("first"), wrap("second")}
	}, h,
		func(t *testing.T, _ *client.Client, p *peer, _ *recorder) {
			p.publish(appMessage(1, 1, "x"))
			p.nextAck(wire.PUBACK)
			if got := fmt.Sprint(order); got != "[first second handler]" {
				t.Errorf("the order was %v", got)
			}
		})
}

func TestReceive_AllProperties(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) { cfg.Receiving.TopicAliasMaximum = 1 }, in, func(t *testing.T, _ *client.Client, p *peer, _ *recorder) {
		id := client.NewMessageID()
		p.publish(wire.Publish{
			Topic: "t", QoS: 1, PacketID: 9, Retain: true, Payload: []byte("text"), PayloadFormat: 1, HasExpiry: true, MessageExpiry: 90,
			ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{1, 2}, SubscriptionIDs: []uint32{3, 4},
			User: []wire.UserProperty{{Key: "a", Value: "1"}, {Key: client.PropID, Value: id.String()}, {Key: "a", Value: "2"},
				{Key: client.PropPublisher, Value: "p"}, {Key: client.PropEpoch, Value: "5"}, {Key: client.PropSeq, Value: "6"}},
		})
		p.nextAck(wire.PUBACK)
		m := in.await(t, 1)[0]
		if m.ReceivedAt.IsZero() || m.ExpiresAt() != m.ReceivedAt.Add(90*time.Second) {
			t.Errorf("received at %v, expires at %v", m.ReceivedAt, m.ExpiresAt())
		}
		m.ReceivedAt = time.Time{}
		want := client.Message{
			Topic: "t", QoS: 1, Retain: true, Payload: []byte("text"), PayloadIsUTF8: true, Expiry: 90 * time.Second, ID: id,
			ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{1, 2}, SubscriptionIDs: []uint32{3, 4},
			UserProperties: []client.UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}},
			Origin:         client.Origin{Publisher: "p", Epoch: 5, Seq: 6},
		}
		if got := fmt.Sprintf("%+v", *m); got != fmt.Sprintf("%+v", want) {
			t.Errorf("got  %v\nwant %+v", got, want)
		}
	})
}
