package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func payloads(list []Message) (all []string) {
	for _, m := range list {
		all = append(all, fmt.Sprintf("%s=%s/%d", m.Topic, m.Payload, m.QoS))
	}
	return all
}

func wantPublished(t *testing.T, b *Broker, filter string, want ...string) {
	t.Helper()
	if got := payloads(b.Messages(filter)); !slices.Equal(got, want) {
		t.Errorf("%s: published are %q, want %q", filter, got, want)
	}
}

func TestMessages_ListsWhatClientsPublished(t *testing.T) {
	o := Options{Authorize: func(_ context.Context, _, topic string, _ bool) byte {
		if topic == "secret" {
			return 0x87
		}
		return 0
	}}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", CleanStart: true, Will: &control.Will{Topic: "c/status", Payload: []byte("offline")}})
		c.publish("c/rpm", "1", 0)
		c.publish("c/rpm", "2", 1)
		c.publish("c/rpm", "3", 2)
		c.put(wire.Publish{Topic: "secret", Payload: []byte("x"), QoS: 1, PacketID: 9})
		c.expect(wire.PUBACK, 9, 0x87)
		if _, err := b.Publish(Message{Topic: "c/set", Payload: []byte("4")}); err != nil {
			t.Fatal(err)
		}
		c.put(wire.Publish{Topic: "c/alarm", Payload: []byte("5"), Retain: true, User: []wire.UserProperty{{Key: "m-id", Value: "id"}}})
		synctest.Wait()
		wantPublished(t, b, "c/rpm", "c/rpm=1/0", "c/rpm=2/1", "c/rpm=3/2")
		wantPublished(t, b, "#", "c/rpm=1/0", "c/rpm=2/1", "c/rpm=3/2", "c/alarm=5/0")
		wantPublished(t, b, "c/+/x")
		if m := b.Messages("c/alarm")[0]; !m.Retain || !slices.Equal(m.User, []UserProperty{{Key: "m-id", Value: "id"}}) {
			t.Errorf("got %+v", m)
		}
		b.Cut("c")
		synctest.Wait()
		wantPublished(t, b, "c/status", "c/status=offline/0")
	})
}

func TestMessages_KeepsTheNewest(t *testing.T) {
	inBubble(t, Options{MaxPublishedBytes: 10 * (publishedOverhead + 1 + 10)}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		for i := range 1000 {
			c.publish("t", fmt.Sprintf("%010d", i), 1)
		}
		list := b.Messages("#")
		if len(list) != 10 || string(list[0].Payload) != "0000000990" {
			t.Errorf("%d messages, the first is %s", len(list), list[0].Payload)
		}
		c.publish("t", strings.Repeat("x", 2000), 1) // larger than the limit
		if n := len(b.Messages("#")); n != 0 || b.published.bytes != 0 {
			t.Errorf("%d messages, %d bytes", n, b.published.bytes)
		}
	})
}

func TestWaitMessage(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.publish("other", "x", 1)
		if _, err := b.WaitMessage(ctx, "c/+"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"other"`) {
			t.Errorf("without a message: %v", err)
		}
		if _, err := b.WaitMessage(t.Context(), "c/#/x"); err == nil {
			t.Error("an invalid filter is accepted")
		}
		got := make(chan Message, 1)
		go func() {
			m, err := b.WaitMessage(t.Context(), "c/+")
			if err != nil {
				t.Error(err)
			}
			got <- m
		}()
		synctest.Wait()
		c.publish("c/a", "1", 1)
		c.publish("c/b", "2", 1)
		if m := <-got; m.Topic != "c/a" || string(m.Payload) != "1" {
			t.Errorf("got %+v, want the first message", m)
		}
	})
}

func TestRefusePublishes(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, other := fresh(t, b, "c"), fresh(t, b, "other")
		b.RefusePublishes("c", 0x97, 2*time.Second)
		for i := range uint16(2) {
			c.put(wire.Publish{Topic: "t", Payload: []byte("1"), QoS: 1, PacketID: 1 + 2*i})
			c.expect(wire.PUBACK, 1+2*i, 0x97)
			c.put(wire.Publish{Topic: "t", Payload: []byte("2"), QoS: 2, PacketID: 2 + 2*i})
			c.expect(wire.PUBREC, 2+2*i, 0x97)
			time.Sleep(time.Second - 1)
		}
		c.publish("t", "lost", 0)
		other.publish("t", "3", 1)
		wantPublished(t, b, "t", "t=3/1")
		time.Sleep(2 * time.Nanosecond)
		c.publish("t", "4", 1)
		b.RefusePublishes("", 0x87, time.Second)
		other.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		other.expect(wire.PUBACK, 1, 0x87)
		b.RefusePublishes("", 0x87, 0) // ends it
		other.publish("t", "5", 1)
		wantPublished(t, b, "t", "t=3/1", "t=4/1", "t=5/1")
	})
}
