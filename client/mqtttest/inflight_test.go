package mqtttest

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestResend_KeepsOrderAndIdentifiers(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(2, "t")
		var ids []uint16
		for i, payload := range seq(1, 6) {
			p.publish("t", payload, byte(1+i%2))
			m := c.message()
			if m.Dup {
				t.Errorf("message %s has DUP the first time", payload)
			}
			ids = append(ids, m.PacketID)
		}
		c.say(wire.PUBACK, ids[2], 0) // message 3
		c.say(wire.PUBREC, ids[3], 0) // message 4
		c.expect(wire.PUBREL, ids[3], 0)
		c.cut()

		c = back(t, b, "c")
		for _, i := range []int{0, 1, 3, 4, 5} {
			if i == 3 { // has been received: PUBREL only
				c.expect(wire.PUBREL, ids[3], 0)
				c.say(wire.PUBCOMP, ids[3], 0)
				continue
			}
			m := c.receive2()
			if !m.Dup || m.PacketID != ids[i] || string(m.Payload) != seq(1, 6)[i] {
				t.Errorf("got %q as %d with DUP %v, want message %d as %d", m.Payload, m.PacketID, m.Dup, i+1, ids[i])
			}
		}
		for _, id := range []uint16{ids[1], ids[5]} {
			c.expect(wire.PUBREL, id, 0)
			c.say(wire.PUBCOMP, id, 0)
		}
		c.quiet()
		if s := b.Stats(); s.InFlight != 0 {
			t.Errorf("%d messages are still in flight", s.InFlight)
		}
	})
}

// receive2 takes a message and acknowledges it without waiting for PUBREL.
func (c *rawClient) receive2() wire.Publish {
	c.t.Helper()
	p := c.message()
	c.say(map[byte]wire.Type{1: wire.PUBACK, 2: wire.PUBREC}[p.QoS], p.PacketID, 0)
	return p
}

func TestReceiveMaximum_OfSubscriber(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, ReceiveMaximum: 2})
		c.subscribe(2, "t")
		for i, payload := range seq(1, 8) {
			p.publish("t", payload, byte(1+i%2))
		}
		first, second := c.message(), c.message()
		c.quiet()
		c.say(wire.PUBREC, second.PacketID, 0) // frees nothing yet
		c.expect(wire.PUBREL, second.PacketID, 0)
		c.quiet()
		c.say(wire.PUBACK, first.PacketID, 0)
		third := c.message()
		c.quiet()
		c.say(wire.PUBCOMP, second.PacketID, 0)
		fourth := c.message()
		c.quiet()

		// Resends count too, also when the new maximum is smaller.
		c.cut()
		c = join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, ReceiveMaximum: 1})
		if m := c.message(); m.PacketID != third.PacketID || !m.Dup {
			t.Errorf("got %+v", m)
		}
		c.quiet()
		c.say(wire.PUBACK, third.PacketID, 0)
		if m := c.receive(); m.PacketID != fourth.PacketID || !m.Dup {
			t.Errorf("got %+v", m)
		}
		c.wantMessages(seq(5, 8)...)
	})
}

func TestReceiveMaximum_FullWindowBlocksNothingElse(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		c := join(t, b, control.Connect{ClientID: "c", ReceiveMaximum: 1})
		c.subscribe(1, "t")
		p.publish("t", "1", 1)
		p.publish("t", "2", 1)
		c.message()
		c.send(control.AppendPingreq(nil))
		c.next(wire.PINGRESP)
		c.publish("elsewhere", "x", 2)
		c.subscribe(0, "u")
	})
}

func TestReceiveMaximum_OfBroker(t *testing.T) {
	inBubble(t, Options{ReceiveMaximum: 2}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		if c.ack.ReceiveMaximum != 2 {
			t.Errorf("CONNACK says %d", c.ack.ReceiveMaximum)
		}
		for id := uint16(1); id <= 2; id++ {
			c.put(wire.Publish{Topic: "t", QoS: 2, PacketID: id})
			c.expect(wire.PUBREC, id, wire.ReasonNoMatchingSubscribers)
		}
		c.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 2, Dup: true}) // one of the two again
		c.expect(wire.PUBREC, 2, 0)
		c.say(wire.PUBREL, 1, 0)
		c.expect(wire.PUBCOMP, 1, 0)
		c.publish("t", "the place is free again", 1)
		c.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 3})
		c.expect(wire.PUBREC, 3, wire.ReasonNoMatchingSubscribers)
		c.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 4})
		c.over(wire.ReasonReceiveMaximumExceeded)
	})
}

func TestQoS2_ReachesSubscribersOnce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribe(2, "t")
		m := wire.Publish{Topic: "t", QoS: 2, PacketID: 7, Payload: []byte("once")}
		p.put(m)
		p.expect(wire.PUBREC, 7, 0)
		m.Dup = true
		p.put(m)
		p.expect(wire.PUBREC, 7, 0)
		p.cut()

		p = back(t, b, "p") // PUBREC after a cut, and no second delivery
		p.put(m)
		p.expect(wire.PUBREC, 7, 0)
		p.say(wire.PUBREL, 7, 0)
		p.expect(wire.PUBCOMP, 7, 0)
		p.say(wire.PUBREL, 7, 0)
		p.expect(wire.PUBCOMP, 7, wire.ReasonPacketIDNotFound)
		c.wantMessages("once")

		p.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 7, Payload: []byte("another")})
		p.expect(wire.PUBREC, 7, 0)
		c.wantMessages("another")
		p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 7})
		p.expect(wire.PUBACK, 7, wire.ReasonPacketIDInUse)
	})
}

func TestPacketIdentifiers_PerDirection(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.subscribe(2, "t")
		p.publish("t", "to c", 2)
		m := c.message()
		c.put(wire.Publish{Topic: "u", QoS: 2, PacketID: m.PacketID})
		c.expect(wire.PUBREC, m.PacketID, wire.ReasonNoMatchingSubscribers)
		c.say(wire.PUBREC, m.PacketID, 0)
		c.expect(wire.PUBREL, m.PacketID, 0)
		c.say(wire.PUBREL, m.PacketID, 0)
		c.expect(wire.PUBCOMP, m.PacketID, 0)
		c.say(wire.PUBCOMP, m.PacketID, 0)
		p.publish("t", "next", 1)
		c.wantMessages("next")
	})
}

func TestAcknowledgements_Unexpected(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, p := fresh(t, b, "c"), fresh(t, b, "p")
		c.say(wire.PUBREC, 99, 0)
		c.expect(wire.PUBREL, 99, wire.ReasonPacketIDNotFound)
		c.say(wire.PUBACK, 99, 0)
		c.say(wire.PUBCOMP, 99, 0)
		c.quiet()
		c.subscribe(2, "t")
		p.publish("t", "refused", 2)
		c.say(wire.PUBREC, c.message().PacketID, wire.ReasonQuotaExceeded) // ends the exchange
		c.quiet()
		if s := b.Stats(); s.InFlight != 0 {
			t.Errorf("%d in flight", s.InFlight)
		}
		p.publish("t", "x", 2)
		c.say(wire.PUBACK, c.message().PacketID, 0)
		c.over(wire.ReasonProtocolError)
	})
}

func TestAcknowledgements_OvertakeResend(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		var ids []uint16
		for _, payload := range seq(1, 4) {
			p.publish("t", payload, 1)
			ids = append(ids, c.message().PacketID)
		}
		c.cut()
		c = join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, ReceiveMaximum: 1})
		c.message()
		c.say(wire.PUBACK, ids[1], 0) // was received before the cut
		c.say(wire.PUBACK, ids[0], 0)
		c.wantMessages("3", "4")
	})
}

func TestReceiveMaximum_RefusesPipelinedBurst(t *testing.T) {
	inBubble(t, Options{ReceiveMaximum: 2}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		burst := func(n uint16) (buf []byte) {
			for id := uint16(1); id <= n; id++ {
				buf = wire.AppendPublish(buf, &wire.Publish{Topic: "t", QoS: 1, PacketID: id})
			}
			return buf
		}
		for range 3 { // what is allowed stays allowed
			c.send(burst(2))
			c.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
			c.expect(wire.PUBACK, 2, wire.ReasonNoMatchingSubscribers)
		}
		c.send(burst(3))
		c.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
		c.expect(wire.PUBACK, 2, wire.ReasonNoMatchingSubscribers)
		c.over(wire.ReasonReceiveMaximumExceeded)
	})
}

func TestPacketIdentifiers_SkipsUsed(t *testing.T) {
	var w inflight
	w.lastID = 65533
	for _, want := range []uint16{65534, 65535, 1, 2} {
		id := w.nextID()
		if id != want {
			t.Errorf("got %d, want %d", id, want)
		}
		w.add(&flight{id: id})
	}
	w.lastID = 65533
	if id := w.nextID(); id != 3 {
		t.Errorf("got %d, want 3", id)
	}
}
