package client_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestOnEvent_MayPublishIntoAFullStore publishes from MessageDropped while the store stays full, which
// drops a further message each time. No call nests, and Close ends it.
func TestOnEvent_MayPublishIntoAFullStore(t *testing.T) {
	for _, policy := range []client.FullPolicy{client.Reject, client.DropOldest, client.DropNewest, client.Block} {
		for qos := client.AtMostOnce; qos <= client.ExactlyOnce; qos++ {
			t.Run(fmt.Sprintf("policy %d, QoS %d", policy, qos), func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					var c *client.Client
					var depth, calls atomic.Int64
					goroutines := 0
					cfg := small(s, &recorder{}, policy)
					cfg.OnEvent = func(e client.Event) {
						if depth.Add(1) > 1 {
							t.Error("a call of OnEvent is nested, or beside another")
						}
						defer depth.Add(-1)
						goroutines = max(goroutines, runtime.NumGoroutine())
						if n := calls.Add(1); n > 10_000 {
							_ = c.Close() // returns at once here
							return
						}
						ctx, cancel := context.WithTimeout(context.Background(), time.Second)
						defer cancel()
						_, _ = c.Publish(ctx, client.Message{Topic: "t", QoS: qos})
					}
					before := runtime.NumGoroutine()
					c = mustNew(t, cfg)
					for range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						_, err := c.Publish(ctx, client.Message{Topic: "t", QoS: client.AtLeastOnce})
						cancel()
						if err != nil && !errors.Is(err, persistence.ErrFull) && !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
					}
					endless := qos > 0 && (policy == client.DropOldest || policy == client.DropNewest)
					if endless {
						<-c.Done()
					} else {
						must(t, c.Close())
					}
					if goroutines > before+20 || endless != (calls.Load() > 10_000) {
						t.Errorf("%d calls, %d goroutines, %d before", calls.Load(), goroutines, before)
					}
				})
			})
		}
	}
}

// TestOnEvent_MayCallAnyMethod calls the methods that wait for the server from the event of a connection.
func TestOnEvent_MayCallAnyMethod(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var c *client.Client
		var events recorder
		received, done := newInbox(), make(chan error, 2)
		cfg := testConfig("c", &events, through(p))
		cfg.Store.WhenFull, cfg.Store.Options.Limits.MaxMessages = client.Block, 1
		cfg.OnEvent = func(e client.Event) {
			events.add(e)
			if _, ok := e.(client.Connected); !ok {
				return
			}
			_, err := c.Subscribe(t.Context(), "t", client.AtLeastOnce, received)
			for range 10 { // each waits until the message before it is acknowledged
				var d *client.Delivery
				if err == nil {
					d, err = c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce})
				}
				if err == nil {
					_, err = d.Wait(t.Context())
				}
			}
			received.await(t, 10)
			done <- errors.Join(err, c.Drain(t.Context()), c.Close())
		}
		c = mustNew(t, cfg)
		start(t, c)
		must(t, <-done)
		<-c.Done()
		if n := c.Stats().Handled; n != 10 || len(eventsOf[client.Stopped](&events)) != 1 {
			t.Errorf("%d messages handled; %d times Stopped", n, len(eventsOf[client.Stopped](&events)))
		}
	})
}

// TestOnEvent_HoldsUpNothing blocks OnEvent: messages go on, and Close returns in its time.
func TestOnEvent_HoldsUpNothing(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		release := make(chan struct{})
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.CloseTimeout = time.Second
		cfg.OnEvent = func(client.Event) { <-release }
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		p.close()
		s.accept(control.Connack{SessionPresent: true})
		synctest.Wait()
		begin := time.Now()
		var late *client.CloseTimeoutError
		if err := c.Close(); !errors.As(err, &late) || time.Since(begin) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		close(release)
		<-c.Done()
	})
}

// TestOnEvent_HasReturnedWhenNewReturns opens a damaged store. The handler uses the variable that New is
// assigned to, as programs do; the race detector reports it if New returns too early.
func TestOnEvent_HasReturnedWhenNewReturns(t *testing.T) {
	dir := t.TempDir()
	cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Dir: dir}
	c := mustNew(t, cfg)
	for i := range 3 {
		publish(t, c, "t", fmt.Sprintf("message %d", i), client.AtLeastOnce)
	}
	must(t, c.Close())
	damage(t, dir, []byte("message 1"))
	damaged := 0
	cfg.OnEvent = func(e client.Event) {
		if _, ok := e.(client.StoreDamaged); ok {
			time.Sleep(10 * time.Millisecond)
			damaged++
		}
		_ = c.State()
	}
	c, err := client.New(cfg)
	must(t, err)
	if damaged == 0 {
		t.Error("New returned before the event was delivered")
	}
	must(t, c.Close())
}

// TestOnEvent_OwnsItsMessage changes a message in its handler while OnEvent reads it; the race detector
// reports memory that both use.
func TestOnEvent_OwnsItsMessage(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		var got []string
		cfg := testConfig("c", &recorder{}, b.Dial)
		cfg.Receiving.HandlerAttempts = 3
		cfg.OnEvent = func(e client.Event) {
			if e, ok := e.(client.HandlerFailed); ok {
				got = append(got, fmt.Sprint(string(e.Message.Payload), string(e.Message.CorrelationData), e.Message.UserProperties, e.Message.OutOfOrder))
			}
		}
		c := mustStart(t, cfg)
		connect(t, c) // otherwise Subscribe does not wait for the server
		_, err := c.Subscribe(t.Context(), "t", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
			m.Payload[0]++
			m.CorrelationData[0]++
			m.UserProperties[0].Value += "x"
			m.OutOfOrder = !m.OutOfOrder
			return errors.New("not now")
		}))
		must(t, err)
		must1(c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce, Payload: []byte("a"), CorrelationData: []byte("k"),
			UserProperties: []client.UserProperty{{Key: "p", Value: ""}}}))
		time.Sleep(time.Hour)
		must(t, c.Close())
		if len(got) != 3 || got[0] == got[1] || got[1] == got[2] {
			t.Errorf("the events had %v", got)
		}
	})
}
