package interop

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// serverMaximum is the Maximum Packet Size of the matrix's brokers. It exceeds the size at which
// Remaining Length needs a fourth byte.
const serverMaximum = 2<<20 + 50

// sizeRows are tested at QoS 0, 1 and 2.
var sizeRows = []row{
	{"payloads of 0 and 1 bytes", payloads(properties{}, 0, 1)},
	{"payloads of 127 and 128 bytes", payloads(properties{}, 127, 128)},
	{"Remaining Length 127 and 128", lengths(127, 128)},
	{"Remaining Length 16,383 and 16,384", lengths(16_383, 16_384)},
	{"payload of 64 KiB", payloads(allProperties, 64<<10)},
	{"payload of 1 MiB with all properties", payloads(allProperties, 1<<20)},
	{"Remaining Length 2,097,151 and 2,097,152", lengths(2_097_151, 2_097_152)},
	{"packet of exactly the server's Maximum Packet Size", lengths(serverMaximum - 5)},
	{"packet above the server's Maximum Packet Size is not sent", aboveMaximum},
	{"server obeys the client's Maximum Packet Size", clientMaximum},
}

func payloads(p properties, sizes ...int) func(*cell) {
	return func(c *cell) {
		var list []packet
		for _, size := range sizes {
			for _, s := range each(packet{Size: size, properties: p}) {
				s.Topic += fmt.Sprintf("/%d", size)
				list = append(list, s)
			}
		}
		c.roundTrip(list...)
	}
}

// lengths returns a row with messages of these Remaining Lengths, as the publisher sends them.
func lengths(remaining ...int) func(*cell) {
	return func(c *cell) {
		var list []packet
		for _, n := range remaining {
			for qos := range byte(3) {
				p := packet{Topic: fmt.Sprintf("%d/%d", n, qos), QoS: qos, Retain: qos == 1}
				p.Size = c.sizeFor(n, c.topic(p.Topic), qos)
				list = append(list, p)
			}
		}
		c.roundTrip(list...)
	}
}

// sizeFor returns the payload size for a Remaining Length, without properties of the test.
func (c *cell) sizeFor(remaining int, topic string, qos byte) int {
	size := remaining - 2 - len(topic) - 1 - c.pub.overhead(qos)
	if qos > 0 {
		size -= 2
	}
	if size < 0 {
		c.Fatalf("no message on %s is as short as %d bytes", topic, remaining)
	}
	return size
}

// tooLarge returns a message that exceeds the broker's maximum by excess bytes.
func (c *cell) tooLarge(qos byte, excess int) packet {
	p := packet{Topic: c.topic(fmt.Sprint(qos)), QoS: qos}
	p.Size = c.sizeFor(serverMaximum-5, p.Topic, qos) + excess
	return p
}

// aboveMaximum checks that a client does not send a packet that the server does not accept
// [MQTT-3.2.2-15]. It uses a separate connection, through a proxy that sees what is sent.
func aboveMaximum(c *cell) {
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2})
	link := c.proxy()
	var publishes atomic.Int64 // counted before they are forwarded
	link.OnPacket(func(dir mqtttest.Direction, header byte, _ []byte) mqtttest.Action {
		if dir == mqtttest.ToServer && mqtttest.PacketType(header>>4) == mqtttest.PUBLISH {
			publishes.Add(1)
		}
		return mqtttest.ActionPass
	})
	pub := c.dial(c.pub, "over", dialing{url: link.URL()})
	fence := packet{Topic: c.topic("fence"), QoS: 0}
	if c.pub.name == mooring.name {
		for qos := range byte(3) {
			err := pub.Publish(c.ctx, c.tooLarge(qos, 1))
			var refused *client.RefusedError
			if !errors.As(err, &refused) || refused.Code != wire.ReasonPacketTooLarge {
				c.Errorf("QoS %d: %v, want a *RefusedError with 0x95", qos, err)
			}
		}
		// The same connection accepts a smaller packet, and carried nothing else.
		if err := pub.Publish(c.ctx, fence); err != nil {
			c.Fatal(err)
		}
		all := c.arrived(1)
		c.expects(all...)
		if n := publishes.Load(); all[0].Topic != fence.Topic || n != 1 {
			c.Errorf("%s came and %d messages were sent, want the fence only", all[0].Topic, n)
		}
		return
	}
	excess := 1
	if c.broker.Traits().miscountsPackets {
		excess = 5
	}
	err := pub.Publish(c.ctx, c.tooLarge(1, excess))
	switch {
	case err == nil:
		c.Error("the server took more than its Maximum Packet Size")
	case publishes.Load() == 0:
		c.Logf("%s says: %v", c.pub.name, err)
	default:
		c.departs("%s sends packets above the server's Maximum Packet Size, and the server ends the connection [MQTT-3.2.2-15]", c.pub.name)
		if o, ok := c.broker.(*inProcess); ok {
			o.tolerated++
		}
	}
	c.publish(fence)
	all := c.arrived(1)
	c.expects(all...)
	if all[0].Topic != fence.Topic {
		c.Errorf("%s of %d bytes came", all[0].Topic, all[0].Size)
	}
}

// clientMaximum checks that a server does not send a packet that the client does not accept, and
// continues as if it had been delivered [MQTT-3.1.2-24] [MQTT-3.1.2-25].
func clientMaximum(c *cell) {
	const maximum = 5000
	link := c.proxy()
	var sizes record[int]
	link.OnPacket(func(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
		if dir == mqtttest.ToClient && mqtttest.PacketType(header>>4) == mqtttest.PUBLISH {
			sizes.add(len(body))
		}
		return mqtttest.ActionPass
	})
	sub := c.dial(c.sub, "small", dialing{url: link.URL(), maximumPacketSize: maximum})
	if err := sub.Subscribe(c.ctx, subscribing{filter: c.topic("#"), qos: 2}); err != nil {
		c.Fatal(err)
	}
	excess := 1
	if c.broker.Traits().miscountsPackets {
		excess = 2
		// One byte more would end the connections of clients that check the size, repeatedly.
		c.departs("mosquitto does not count the first byte of a packet. It therefore sends a packet that is one byte larger than the client's Maximum Packet Size [MQTT-3.1.2-24]. It correctly does not send larger packets")
	}
	identifier := 0
	if c.sub.name == mooring.name {
		identifier = 5 // mooring gives each filter a Subscription Identifier, which the server adds
	}
	var want, got []string
	for qos := range byte(3) {
		for _, above := range []int{0, excess, 0} {
			p := packet{Topic: c.topic(fmt.Sprintf("%d/%d", qos, above)), QoS: qos}
			p.Size = c.sizeFor(maximum-3, p.Topic, qos) - identifier + above
			c.publish(p)
			if above == 0 {
				want = append(want, p.Topic)
			}
		}
	}
	for _, r := range c.arrivedAt(sub, len(want)) {
		got = append(got, r.Topic)
	}
	slices.Sort(got) // one topic may overtake another
	if !slices.Equal(got, want) {
		c.Errorf("came %q, want %q", got, want)
	}
	on, _ := sizes.snapshot()
	if largest := slices.Max(on); largest != maximum-3 {
		c.Errorf("the largest message that the server sent has a Remaining Length of %d, want %d", largest, maximum-3)
	}
	if excess > 1 && c.sub.name == pahoName { // which does not check the size
		p := packet{Topic: c.topic("excess"), QoS: 1}
		p.Size = c.sizeFor(maximum-3, p.Topic, p.QoS) + 1
		c.publish(p, packet{Topic: c.topic("fence"), QoS: 1})
		if got := c.arrivedAt(sub, len(want)+1)[len(want)]; got.Topic != p.Topic {
			c.departs("")
			c.Log("it does count the first byte of a packet: take the trait out")
		}
	}
}
