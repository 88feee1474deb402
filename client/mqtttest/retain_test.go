package mqtttest

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func (c *rawClient) retain(topic, payload string, qos byte) {
	c.t.Helper()
	c.put(wire.Publish{Topic: topic, Payload: []byte(payload), Retain: true, QoS: qos, PacketID: 3})
	c.finished(qos, 3)
}

func (c *rawClient) subscribeRetain(s control.Subscription) {
	c.t.Helper()
	if got := c.subscribeWith(control.Subscribe{Subscriptions: []control.Subscription{s}}); got[0] >= 0x80 {
		c.t.Fatalf("SUBACK has % x", got)
	}
}

func TestRetain_SentOnSubscribe(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		p.retain("s/1", "old", 1)
		p.retain("s/2", "two", 2)
		p.retain("s/1", "one", 1)
		p.retain("s/3", "three", 0)
		p.retain("s/3", "", 1) // clears
		p.retain("$s/4", "hidden", 1)
		c.subscribe(1, "s/1")
		if m := c.receive(); string(m.Payload) != "one" || !m.Retain || m.QoS != 1 {
			t.Errorf("got %+v", m)
		}
		c.quiet()
		c.subscribe(2, "#")
		for _, want := range []string{"two", "one"} { // as they were published
			if m := c.receive(); string(m.Payload) != want || !m.Retain {
				t.Errorf("got %+v, want %s", m, want)
			}
		}
		c.quiet()
		if _, ok := b.Retained("s/3"); ok {
			t.Error("an empty payload did not clear the topic")
		}
	})
}

func TestRetainHandling(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		p.retain("t", "r", 1)
		for _, tt := range []struct {
			handling byte
			again    bool
			want     bool
		}{{0, false, true}, {0, true, true}, {1, true, false}, {1, false, true}, {2, true, false}, {2, false, false}} {
			if !tt.again {
				c = fresh(t, b, "c")
			}
			c.subscribeRetain(control.Subscription{Filter: "t", QoS: 1, RetainHandling: tt.handling})
			if tt.want {
				c.receive()
			}
			c.quiet()
		}
		c.subscribeRetain(control.Subscription{Filter: "$share/g/t", QoS: 1})
		c.quiet() // never for Shared Subscriptions
	})
}

func TestRetainAsPublished(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c, d := fresh(t, b, "p"), fresh(t, b, "c"), fresh(t, b, "d")
		c.subscribeRetain(control.Subscription{Filter: "t", RetainAsPublished: true})
		d.subscribeRetain(control.Subscription{Filter: "t"})
		p.retain("t", "x", 1)
		p.publish("t", "y", 1)
		p.retain("t", "", 1)
		for i, want := range []bool{true, false, true} {
			if m := c.message(); m.Retain != want {
				t.Errorf("message %d with Retain As Published has %v", i, m.Retain)
			}
			if m := d.message(); m.Retain {
				t.Errorf("message %d without it has Retain set", i)
			}
		}
	})
}

func TestRetain_Expires(t *testing.T) {
	inBubble(t, Options{MaxRetained: 1}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		p.put(wire.Publish{Topic: "t", Retain: true, QoS: 1, PacketID: 1, Payload: []byte("x"), HasExpiry: true, MessageExpiry: 10})
		p.finished(1, 1)
		time.Sleep(4 * time.Second)
		c.subscribe(1, "t")
		if m := c.receive(); m.MessageExpiry != 6 {
			t.Errorf("%d s are left", m.MessageExpiry)
		}
		p.put(wire.Publish{Topic: "u", Retain: true, QoS: 1, PacketID: 1, Payload: []byte("x")})
		p.expect(wire.PUBACK, 1, wire.ReasonQuotaExceeded)
		time.Sleep(6 * time.Second)
		if _, ok := b.Retained("t"); ok {
			t.Error("it is still there")
		}
		c.subscribe(1, "t", "+")
		c.quiet()
		p.retain("u", "has room now", 1)
	})
}
