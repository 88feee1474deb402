package mqtttest

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestPublish_ForwardsUnchanged(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribe(2, "a/b")
		for qos := byte(0); qos <= 2; qos++ {
			want := wire.Publish{Topic: "a/b", QoS: qos, Payload: []byte{0, 1, 2}, PayloadFormat: 0, ContentType: "x/y",
				ResponseTopic: "r/s", CorrelationData: []byte{}, HasExpiry: true, MessageExpiry: 9,
				User: []wire.UserProperty{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}, {Key: "", Value: ""}}}
			if qos > 0 {
				want.PacketID = 77
			}
			p.put(want)
			p.finished(qos, 77)
			got := c.receive()
			got.PacketID = want.PacketID
			if !reflect.DeepEqual(got, want) {
				t.Errorf("QoS %d: got  %+v\nwant %+v", qos, got, want)
			}
		}
	})
}

func TestPublish_CountsExpiryDown(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribe(1, "t")
		c.cut()
		put := func(payload string, expiry uint32) {
			p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 1, Payload: []byte(payload), HasExpiry: true, MessageExpiry: expiry})
			p.finished(1, 1)
		}
		put("over", 5)
		put("left", 15)
		put("over at once", 0)
		time.Sleep(5500 * time.Millisecond)
		c = back(t, b, "c")
		if m := c.receive(); string(m.Payload) != "left" || m.MessageExpiry != 10 {
			t.Errorf("got %q with %d s", m.Payload, m.MessageExpiry)
		}
		c.quiet()
		if s := b.Stats(); s.DroppedExpired != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPublish_ReportsMissingSubscribers(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		p.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
		p.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 2})
		p.expect(wire.PUBREC, 2, wire.ReasonNoMatchingSubscribers)
		p.say(wire.PUBREL, 2, 0)
		p.expect(wire.PUBCOMP, 2, 0)
		p.subscribe(0, "t")
		p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		p.expect(wire.PUBACK, 1, 0)
	})
}

func TestAuthorize_RefusesWithReason(t *testing.T) {
	deny := func(_ context.Context, _, topic string, write bool) byte {
		if write && topic == "secret" || !write && topic == "secret/#" {
			return wire.ReasonNotAuthorized
		}
		return 0
	}
	inBubble(t, Options{Authorize: deny}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribe(2, "+")
		got := c.subscribeWith(control.Subscribe{Subscriptions: []control.Subscription{{Filter: "secret/#"}, {Filter: "x", QoS: 1}}})
		if !reflect.DeepEqual(got, []byte{wire.ReasonNotAuthorized, 1}) {
			t.Errorf("SUBACK has % x", got)
		}
		p.put(wire.Publish{Topic: "secret"})
		p.put(wire.Publish{Topic: "secret", QoS: 1, PacketID: 1})
		p.expect(wire.PUBACK, 1, wire.ReasonNotAuthorized)
		p.put(wire.Publish{Topic: "secret", QoS: 2, PacketID: 2})
		p.expect(wire.PUBREC, 2, wire.ReasonNotAuthorized)
		p.say(wire.PUBREL, 2, 0) // the exchange has ended
		p.expect(wire.PUBCOMP, 2, wire.ReasonPacketIDNotFound)
		p.put(wire.Publish{Topic: "open", QoS: 2, PacketID: 2, Payload: []byte("open")})
		p.finished(2, 2)
		c.wantMessages("open")
		if s := b.Stats(); s.Unauthorized != 3 {
			t.Errorf("%+v", s)
		}
		w := open(t, b.Dial())
		w.connect(control.Connect{ClientID: "w", Will: &control.Will{Topic: "secret"}})
		if w.ack.Reason != wire.ReasonNotAuthorized {
			t.Errorf("CONNACK has 0x%02X", w.ack.Reason)
		}
	})
}

func TestTopicAlias_PerConnection(t *testing.T) {
	inBubble(t, Options{TopicAliasMaximum: 2}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		if p.ack.TopicAliasMaximum != 2 {
			t.Errorf("CONNACK says %d", p.ack.TopicAliasMaximum)
		}
		c.subscribe(0, "#")
		for _, m := range []wire.Publish{{Topic: "a", TopicAlias: 2}, {TopicAlias: 2}, {Topic: "b", TopicAlias: 2}, {TopicAlias: 2}} {
			p.put(m)
		}
		for _, want := range []string{"a", "a", "b", "b"} {
			if m := c.message(); m.Topic != want || m.TopicAlias != 0 {
				t.Errorf("got %+v, want topic %s", m, want)
			}
		}
		p.put(wire.Publish{Topic: "a", TopicAlias: 3})
		p.over(wire.ReasonTopicAliasInvalid)
		p = back(t, b, "p")
		p.put(wire.Publish{TopicAlias: 2})
		p.over(wire.ReasonTopicAliasInvalid)
	})
}

func TestMaximumPacketSize_OfSubscriber(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, MaximumPacketSize: 50})
		c.subscribe(2, "t")
		big := string(make([]byte, 50))
		for qos := byte(0); qos <= 2; qos++ {
			p.publish("t", big, qos)
			p.publish("t", "fits", qos)
		}
		c.wantMessages("fits", "fits", "fits")
		if s := b.Stats(); s.DroppedTooLarge != 3 {
			t.Errorf("%+v", s)
		}

		// A message that was sent when the client still took it.
		c = join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60})
		p.publish("t", big, 1)
		c.message()
		c.cut()
		p.publish("t", "fits", 1)
		join(t, b, control.Connect{ClientID: "c", MaximumPacketSize: 50}).wantMessages("fits")
	})
}
