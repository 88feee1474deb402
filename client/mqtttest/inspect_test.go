package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestPublish_ReachesSubscribersAndRetainedMessages(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, d := fresh(t, b, "c"), fresh(t, b, "d")
		c.subscribe(2, "a/+")
		d.subscribe(1, "$share/g/a/b")
		m := Message{Topic: "a/b", Payload: []byte("x"), QoS: 2, Retain: true, Expiry: 90 * time.Second, ContentType: "text",
			ResponseTopic: "r", CorrelationData: []byte{1}, User: []UserProperty{{"k", "v"}, {"k", "w"}}}
		if n, err := b.Publish(m); n != 2 || err != nil {
			t.Errorf("Publish returned %d, %v", n, err)
		}
		got := c.receive()
		want := wire.Publish{Topic: "a/b", Payload: []byte("x"), QoS: 2, PacketID: got.PacketID, HasExpiry: true, MessageExpiry: 90, ContentType: "text",
			ResponseTopic: "r", CorrelationData: []byte{1}, User: []wire.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if got := d.receive(); string(got.Payload) != "x" || got.QoS != 1 {
			t.Errorf("got %+v", got)
		}
		if p, ok := b.Retained("a/b"); !ok || string(p) != "x" {
			t.Errorf("retained is %q, %v", p, ok)
		}
		if n, err := b.Publish(Message{Topic: "nobody"}); n != 0 || err != nil {
			t.Errorf("Publish returned %d, %v", n, err)
		}
	})
}

func TestPublish_RefusesInvalidMessages(t *testing.T) {
	inBubble(t, Options{MaximumQoS: 1, MaxRetained: 1}, func(t *testing.T, b *Broker) {
		if _, err := b.Publish(Message{Topic: "t", Payload: []byte("x"), Retain: true}); err != nil {
			t.Error(err)
		}
		for _, tt := range []struct {
			m    Message
			want string
		}{
			{Message{}, "Topic Name"},
			{Message{Topic: "a/#"}, "Topic Name"},
			{Message{Topic: "t", QoS: 3}, "QoS"},
			{Message{Topic: "t", QoS: 2}, "Maximum QoS"},
			{Message{Topic: "t", User: []UserProperty{{"\xff", ""}}}, "User Property"},
			{Message{Topic: "u", Payload: []byte("x"), Retain: true}, "MaxRetained"},
		} {
			if _, err := b.Publish(tt.m); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "mqtttest: Publish: ") {
				t.Errorf("%+v: %v, want one about %s", tt.m, err, tt.want)
			}
		}
		_ = b.Close()
		if _, err := b.Publish(Message{Topic: "t"}); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
	inBubble(t, Options{DisableRetain: true}, func(t *testing.T, b *Broker) {
		if _, err := b.Publish(Message{Topic: "t", Retain: true}); err == nil || !strings.Contains(err.Error(), "DisableRetain") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWait_ReturnsWhenConnected(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		fresh(t, b, "other").subscribe(0, "x")
		var at []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := b.WaitConnected(t.Context(), "c"); err != nil {
				t.Error(err)
			}
			at = append(at, "connected", fmt.Sprint(b.Connected("c")))
			if err := b.WaitSubscribed(t.Context(), "c", "a/+"); err != nil {
				t.Error(err)
			}
			at = append(at, "subscribed")
		}()
		synctest.Wait()
		if len(at) != 0 {
			t.Errorf("too early: %q", at)
		}
		c := fresh(t, b, "c")
		c.subscribe(0, "a/b")
		synctest.Wait()
		if want := []string{"connected", "true"}; !reflect.DeepEqual(at, want) {
			t.Errorf("got %q", at)
		}
		c.subscribe(0, "a/+")
		<-done
		if err := b.WaitSubscribed(t.Context(), "c", "a/b"); err != nil {
			t.Error(err)
		}
	})
}

func TestWait_ErrorListsPresentState(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		want := func(err error, text string) {
			t.Helper()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want %q in it", err, text)
			}
		}
		want(b.WaitConnected(ctx, "c"), `client "c" is not connected (connected: none)`)
		for i := range 12 {
			fresh(t, b, fmt.Sprintf("c%02d", i)).subscribe(0, "f/+")
		}
		want(b.WaitConnected(ctx, "c"), `"c09"] and 2 more`)
		want(b.WaitSubscribed(ctx, "c00", "f/#"), `client "c00" has not subscribed to "f/#" (subscriptions: ["f/+"])`)
		_ = b.Close()
		if err := b.WaitConnected(t.Context(), "c"); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestSubscriptions_ListsAll(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		if got := b.Subscriptions("c"); got != nil {
			t.Errorf("without a session: %+v", got)
		}
		c := fresh(t, b, "c")
		c.subscribeWith(control.Subscribe{SubscriptionID: 9, Subscriptions: []control.Subscription{{Filter: "b", QoS: 2, NoLocal: true}, {Filter: "$share/g/a", QoS: 1}}})
		c.subscribeWith(control.Subscribe{Subscriptions: []control.Subscription{{Filter: "a", RetainAsPublished: true}}})
		c.cut()
		want := []Subscription{{Filter: "$share/g/a", QoS: 1, ID: 9}, {Filter: "a", RetainAsPublished: true}, {Filter: "b", QoS: 2, NoLocal: true, ID: 9}}
		if got := b.Subscriptions("c"); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestQueue_ListsInFlightAndWaiting(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		if got := b.Queue("c"); got != nil {
			t.Errorf("without a session: %+v", got)
		}
		c := join(t, b, control.Connect{ClientID: "c", CleanStart: true, SessionExpiry: 60, ReceiveMaximum: 2})
		c.subscribe(2, "t")
		for _, m := range []Message{{QoS: 2}, {QoS: 1, Expiry: time.Minute, User: []UserProperty{{"k", "v"}}}, {QoS: 2, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{1}}, {QoS: 1}} {
			m.Topic, m.Payload = "t", fmt.Append(nil, m.QoS)
			if _, err := b.Publish(m); err != nil {
				t.Fatal(err)
			}
		}
		first := c.message()
		second := c.message()
		c.say(wire.PUBREC, first.PacketID, 0)
		c.next(wire.PUBREL)
		time.Sleep(10 * time.Second)
		want := []Queued{
			{Message{Topic: "t", Payload: []byte("2"), QoS: 2}, first.PacketID, true},
			{Message{Topic: "t", Payload: []byte("1"), QoS: 1, Expiry: 50 * time.Second, User: []UserProperty{{"k", "v"}}}, second.PacketID, false},
			{Message{Topic: "t", Payload: []byte("2"), QoS: 2, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{1}}, 0, false},
			{Message{Topic: "t", Payload: []byte("1"), QoS: 1}, 0, false},
		}
		got := b.Queue("c")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		got[0].Payload[0] = 'z' // a copy
		if !reflect.DeepEqual(b.Queue("c"), want) {
			t.Error("the broker's own message was changed")
		}
	})
}
