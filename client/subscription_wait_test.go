package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// A refusal that passes is repeated on the running connection. It is reported once, and so is its
// end.
func TestSubscribe_RetriesTemporaryRefusal(t *testing.T) {
	for _, code := range []byte{0x80, 0x83, 0x87, 0x91, 0x97} {
		t.Run(fmt.Sprintf("0x%02X", code), func(t *testing.T) {
			var answer atomic.Uint32
			var asked atomic.Int32
			answer.Store(uint32(code))
			o := mqtttest.Options{Authorize: func(context.Context, string, string, bool) byte {
				asked.Add(1)
				return byte(answer.Load())
			}}
			inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
				var events recorder
				c := mustNew(t, testConfig("c", &events, b.Dial))
				got := newInbox()
				sub, err := c.Subscribe(t.Context(), "cmd/+", 1, got)
				must(t, err)
				start(t, c)
				if sub, err = sub.Wait(t.Context()); sub.State != client.SubscriptionRefused {
					t.Errorf("it is %v with the error %v", sub.State, err)
				}
				wantReason(t, err, code, "")
				time.Sleep(time.Hour)
				if n := asked.Load(); n < 60 || n > 240 { // about 30 s each, by the jitter
					t.Errorf("%d requests in an hour", n)
				}
				answer.Store(0)
				time.Sleep(time.Minute + time.Second)
				if sub, err = sub.Wait(t.Context()); err != nil || sub.State != client.SubscriptionActive || sub.Granted != 1 {
					t.Errorf("it is %v with the error %v", sub.State, err)
				}
				_, err = b.Publish(mqtttest.Message{Topic: "cmd/1", QoS: 1})
				must(t, err)
				got.await(t, 1)
				synctest.Wait()
				failed, granted := eventsOf[client.SubscriptionFailed](&events), eventsOf[client.SubscriptionGranted](&events)
				if len(failed) != 1 || len(granted) != 1 || granted[0] != (client.SubscriptionGranted{Filter: "cmd/+", Granted: 1}) {
					t.Errorf("events %+v and %+v, want one of each", failed, granted)
				}
				if n := len(eventsOf[client.Connected](&events)); n != 1 {
					t.Errorf("%d connections, want 1", n)
				}
			})
		})
	}
}

func TestSubscribe_FinalRefusalWaitsForTheNextConnection(t *testing.T) {
	var asked atomic.Int32
	o := mqtttest.Options{Authorize: func(context.Context, string, string, bool) byte {
		asked.Add(1)
		return 0x8F
	}}
	inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		c := mustNew(t, testConfig("c", &recorder{}, b.Dial))
		sub, err := c.Subscribe(t.Context(), "cmd/+", 1, newInbox())
		must(t, err)
		start(t, c)
		_, err = sub.Wait(t.Context())
		wantReason(t, err, 0x8F, "")
		time.Sleep(time.Hour)
		if n := asked.Load(); n != 1 {
			t.Errorf("%d requests on the first connection, want 1", n)
		}
		b.Cut("c")
		time.Sleep(time.Minute)
		if n := asked.Load(); n != 2 {
			t.Errorf("%d requests, want one for each connection", n)
		}
	})
}

// A code that changes is reported again.
func TestSubscribe_ReportsChangedRefusal(t *testing.T) {
	var answer atomic.Uint32
	answer.Store(0x97)
	o := mqtttest.Options{Authorize: func(context.Context, string, string, bool) byte { return byte(answer.Load()) }}
	inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		var events recorder
		c := mustNew(t, testConfig("c", &events, b.Dial))
		for i := range 20 {
			must(t, errOf(c.Subscribe(t.Context(), fmt.Sprint("f", i), 1, newInbox())))
		}
		start(t, c)
		for _, code := range []uint32{0x97, 0x87} {
			answer.Store(code)
			time.Sleep(time.Hour)
		}
		if n := len(eventsOf[client.SubscriptionFailed](&events)); n != 40 {
			t.Errorf("%d events, want 2 for each filter", n)
		}
	})
}

func TestSubscriptionWait_Ends(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		if _, err := (client.Subscription{}).Wait(t.Context()); !errors.Is(err, client.ErrNilClient) {
			t.Errorf("the zero value: %v", err)
		}
		p.Refuse(true)
		c := mustNew(t, testConfig("c", &recorder{}, through(p)))
		sub, err := c.Subscribe(t.Context(), "a", 1, newInbox())
		must(t, err)
		other, err := c.Subscribe(t.Context(), "b", 1, newInbox())
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := sub.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || got.State != client.SubscriptionPending {
			t.Errorf("without a connection: %v, %v", got.State, err)
		}
		p.Refuse(false)
		start(t, c)
		if got, err := sub.Wait(t.Context()); err != nil || got.State != client.SubscriptionActive {
			t.Errorf("with a connection: %v, %v", got.State, err)
		}
		must(t, c.Unsubscribe(t.Context(), "b"))
		if _, err := other.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("after Unsubscribe: %v", err)
		}
		b.Close()
		synctest.Wait()
		waiting := make(chan error, 1)
		third, err := c.Subscribe(t.Context(), "c", 1, newInbox())
		must(t, err)
		go func() { waiting <- errOf(third.Wait(context.Background())) }()
		must(t, c.Close())
		if err := <-waiting; !errors.Is(err, client.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
