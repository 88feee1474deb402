package interop

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

var aliasRows = []row{
	{"Topic Alias from client to server", aliasToServer},
	{"Topic Alias from server to client", aliasToClient},
}

// aliasToServer sets an alias, uses it, sets it to another topic and uses it again, at each QoS.
// The subscriber must see the topics. mooring's client chooses its alias itself and has only one,
// so it does the same when it gets the topics.
func aliasToServer(c *cell) {
	publisher := c.publisher
	if c.pub.name == mooring.name {
		link := c.proxy()
		var set, used atomic.Int64
		link.OnPacket(func(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
			if dir == mqtttest.ToServer && mqtttest.PacketType(header>>4) == mqtttest.PUBLISH {
				v, err := wire.ParsePublish(wire.Frame{Header: header, Body: body})
				switch {
				case err != nil:
					c.Error(err)
				case v.TopicAlias == 0:
				case len(v.Topic) > 0:
					set.Add(1)
				default:
					used.Add(1)
				}
			}
			return mqtttest.ActionPass
		})
		publisher = c.dial(c.pub, "aliasing", dialing{url: link.URL(), topicAliases: 1})
		defer func() {
			if set.Load() != 6 || used.Load() != 9 {
				c.Errorf("an alias was set %d times and used %d times without its topic, want 6 and 9", set.Load(), used.Load())
			}
		}()
	}
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2})
	for qos := range byte(3) {
		alias, a, b := uint16(qos)+1, c.topic(fmt.Sprintf("%d/a", qos)), c.topic(fmt.Sprintf("%d/b", qos))
		steps := []struct{ says, means string }{{a, a}, {"", a}, {b, b}, {"", b}, {"", b}}
		var sent []packet
		for i, s := range steps {
			p := packet{Topic: s.says, QoS: qos, Size: i, Alias: alias, Retain: i == len(steps)-1, properties: allProperties}
			if c.pub.name == mooring.name {
				p.Topic, p.Alias = s.means, 0
			}
			// One at a time, because a client may not keep the order otherwise.
			if err := publisher.Publish(c.ctx, p); err != nil {
				c.Fatalf("%s publishes: %v", c.pub.name, err)
			}
			p.Topic = s.means
			sent = append(sent, p)
		}
		got := c.arrived((int(qos) + 1) * len(steps))[int(qos)*len(steps):]
		slices.SortFunc(got, func(a, b received) int { return a.Size - b.Size }) // one topic may overtake another
		for i, p := range sent {
			if got[i].Topic != p.Topic {
				c.Errorf("QoS %d, message %d has the topic %q, want %q", qos, i, got[i].Topic, p.Topic)
			}
			c.expect(got[i], p, false)
		}
	}
	c.arrived(15)
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2})
	all := c.arrived(18)
	for _, got := range all[15:] {
		if !got.Retain || got.Topic[len(got.Topic)-1] != 'b' || got.Size != 4 {
			c.Errorf("retained under an alias: %+v", got)
		}
	}
	c.expects(all...)
}

// aliasToClient sends more topics than the client's Topic Alias Maximum, each three times. All
// messages except the first omit the topic while its alias represents it.
func aliasToClient(c *cell) {
	const maximum, topics, times = 3, 5, 3
	r := startRelay(c.T, c.broker.URL(), maximum)
	sub := c.dial(c.sub, "alias", dialing{url: r.URL(), topicAliasMaximum: maximum})
	if err := sub.Subscribe(c.ctx, subscribing{filter: c.topic("#"), qos: 2}); err != nil {
		c.Fatal(err)
	}
	var want []string
	for i := range topics {
		for n := range times {
			p := packet{Topic: c.topic(fmt.Sprint(i)), QoS: byte(n), Size: len(want), properties: allProperties}
			c.publish(p)
			want = append(want, p.Topic)
		}
	}
	// Do not select by topic, which may be missing.
	all := sub.Received().awaitN(c.run, "messages under aliases", len(want))
	got := make([]string, len(want))
	for _, m := range all {
		got[m.Size] = m.Topic
	}
	if own, bare := r.counts(); own+bare < topics*(times-1) {
		c.Errorf("%d messages came with an alias and no topic: this row shows nothing", own+bare)
	} else if own > 0 {
		c.Logf("the broker sent %d aliases by itself", own)
	}
	lost := 0 // MQTT.js: those at QoS 2; paho-python: all that it had to look up
	for _, topic := range got {
		if topic == "" {
			lost++
		}
	}
	switch {
	case slices.Equal(got, want):
	case c.sub.name == mqttjsName && lost == topics:
		c.departs("MQTT.js passes a QoS 2 message to the application without a topic if the message has a Topic Alias")
	case c.sub.name == pahoName && lost == topics*(times-1):
		c.departs("paho-python passes messages to the application without a topic if it is configured to announce a Topic Alias Maximum. By default it announces none")
	default:
		c.Errorf("the topics are %q, want %q", got, want)
	}
}
