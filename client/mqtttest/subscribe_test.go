package mqtttest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestSubscribe_OverlappingFiltersSendOneCopy(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		for i, s := range []control.Subscription{{Filter: "a/b", QoS: 0}, {Filter: "a/+", QoS: 2}, {Filter: "a/#", QoS: 1}, {Filter: "b", QoS: 2}} {
			c.subscribeWith(control.Subscribe{SubscriptionID: uint32(i + 1), Subscriptions: []control.Subscription{s}})
		}
		c.subscribe(0, "#")
		p.publish("a/b", "x", 2)
		m := c.receive()
		slices.Sort(m.SubscriptionIDs)
		if m.QoS != 2 || !reflect.DeepEqual(m.SubscriptionIDs, []uint32{1, 2, 3}) {
			t.Errorf("got %+v", m)
		}
		c.quiet()

		// A new subscription to the same filter replaces the old one.
		c.subscribeWith(control.Subscribe{SubscriptionID: 9, Subscriptions: []control.Subscription{{Filter: "a/+"}}})
		p.publish("a/c", "x", 2)
		m = c.receive()
		slices.Sort(m.SubscriptionIDs)
		if m.QoS != 1 || !reflect.DeepEqual(m.SubscriptionIDs, []uint32{3, 9}) {
			t.Errorf("got %+v", m)
		}
	})
}

func TestNoLocal(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribeWith(control.Subscribe{SubscriptionID: 1, Subscriptions: []control.Subscription{{Filter: "t", QoS: 2, NoLocal: true}}})
		c.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		c.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
		p.publish("t", "from p", 1)
		c.wantMessages("from p")
		c.subscribeWith(control.Subscribe{SubscriptionID: 2, Subscriptions: []control.Subscription{{Filter: "+", QoS: 1}}})
		c.publish("t", "own", 0)
		if m := c.receive(); !reflect.DeepEqual(m.SubscriptionIDs, []uint32{2}) {
			t.Errorf("got %+v", m)
		}
	})
}

func TestUnsubscribe_ReasonCodes(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribe(1, "a", "b")
		c.send(control.AppendUnsubscribe(nil, &control.Unsubscribe{PacketID: 4, Filters: []string{"a", "c", "x/#/y"}}))
		ack, err := control.ParseUnsuback(c.next(wire.UNSUBACK))
		if err != nil || ack.PacketID != 4 || !slices.Equal(ack.Reasons, []byte{0, 0x11, 0x8F}) {
			t.Errorf("got %+v, %v", ack, err)
		}
		p.publish("a", "1", 1)
		p.publish("b", "2", 1)
		c.wantMessages("2")
	})
}

func TestSubscribe_RefusedFilters(t *testing.T) {
	inBubble(t, Options{MaxSubscriptions: 1}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		got := c.subscribeWith(control.Subscribe{Subscriptions: []control.Subscription{
			{Filter: "a/#/b"}, {Filter: "$share//x"}, {Filter: "ok", QoS: 1}, {Filter: "too many"}, {Filter: "ok", QoS: 2}}})
		if !slices.Equal(got, []byte{0x8F, 0x8F, 1, 0x97, 2}) {
			t.Errorf("SUBACK has % x", got)
		}
	})
}

func TestShared_RoundRobinAmongConnected(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		members := []*rawClient{fresh(t, b, "m0"), fresh(t, b, "m1"), fresh(t, b, "m2")}
		all := fresh(t, b, "all")
		all.subscribe(0, "t")
		for _, m := range members {
			m.subscribe(1, "$share/g/t")
		}
		for _, payload := range seq(0, 5) {
			p.publish("t", payload, 1)
		}
		for i, m := range members {
			m.wantMessages(fmt.Sprint(i), fmt.Sprint(i+3))
		}
		all.wantMessages(seq(0, 5)...)
		members[1].cut()
		for _, payload := range seq(6, 9) {
			p.publish("t", payload, 1)
		}
		members[0].wantMessages("6", "8")
		members[2].wantMessages("7", "9")
		for _, i := range []int{0, 2} {
			members[i].cut()
		}
		for _, payload := range seq(10, 12) {
			p.publish("t", payload, 1)
		}
		var kept []string // with nobody connected, members keep what is theirs
		for i := range members {
			kept = append(kept, back(t, b, fmt.Sprint("m", i)).take()...)
		}
		if slices.Sort(kept); !slices.Equal(kept, seq(10, 12)) {
			t.Errorf("after all were away they got %v", kept)
		}
	})
}

func TestShared_QoS2StaysWithMember(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, first, second := fresh(t, b, "p"), fresh(t, b, "m0"), fresh(t, b, "m1")
		first.subscribe(2, "$share/g/t")
		p.publish("t", "begun", 2)
		id := first.message().PacketID
		second.subscribe(2, "$share/g/t")
		first.cut()
		second.quiet()
		first = back(t, b, "m0")
		if m := first.receive(); m.PacketID != id || !m.Dup {
			t.Errorf("got %+v", m)
		}

		// Not even the end of the session moves it [MQTT-4.8.2-5].
		second.cut()
		p.publish("t", "begun again", 2)
		first.message()
		second = back(t, b, "m1")
		first.leave(control.Disconnect{HasSessionExpiry: true})
		second.quiet()
	})
}

func TestShared_RedistributesAfterSessionEnd(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, other := fresh(t, b, "p"), fresh(t, b, "m1")
		c := join(t, b, control.Connect{ClientID: "m0", SessionExpiry: 60, ReceiveMaximum: 2})
		c.subscribe(2, "$share/g/t", "own")
		p.publish("t", "sent at QoS 1", 1)
		p.publish("t", "sent at QoS 2", 2)
		p.publish("t", "queued at QoS 2", 2)
		p.publish("t", "queued at QoS 1", 1)
		p.publish("own", "not shared", 1)
		other.subscribe(2, "$share/g/t")
		c.message()
		c.message()
		c.leave(control.Disconnect{HasSessionExpiry: true})
		other.wantMessages("sent at QoS 1", "queued at QoS 2", "queued at QoS 1")
		if s := b.Stats(); s.Redistributed != 3 {
			t.Errorf("%+v", s)
		}
	})
}

func TestShared_SkipsMemberWithFullQueue(t *testing.T) {
	inBubble(t, Options{MaxQueuedMessages: 1}, func(t *testing.T, b *Broker) {
		p, free := fresh(t, b, "p"), fresh(t, b, "m1")
		slow := join(t, b, control.Connect{ClientID: "m0", ReceiveMaximum: 1})
		slow.subscribe(1, "$share/g/t")
		free.subscribe(1, "$share/g/t")
		for _, payload := range seq(1, 8) {
			p.publish("t", payload, 1)
			free.take()
		}
		if s := b.Stats(); s.DroppedQueueFull != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// take receives what has come, however much that is.
func (c *rawClient) take() (payloads []string) {
	c.t.Helper()
	for synctest.Wait(); len(c.held)+len(c.got) > 0; synctest.Wait() {
		payloads = append(payloads, string(c.receive().Payload))
	}
	return payloads
}
