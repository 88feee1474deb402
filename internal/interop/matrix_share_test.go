package interop

import (
	"fmt"
	"slices"
	"strings"
)

var shareRows = []row{{"Shared Subscription", shared}}

// team holds the members of a Shared Subscription: two clients of the subscriber's kind, and one of
// each other kind.
type team [4]struct {
	name string
	endpoint
}

// shared checks that each message is handled once over all members, that each member gets some, and
// that an earlier retained message is not sent (section 3.3.1.3).
func shared(c *cell) {
	before := packet{Topic: c.topic("work/before"), QoS: 1, Retain: true, Size: 1}
	c.publish(before)
	var members team
	members[0].name, members[0].endpoint = c.sub.name, c.subscriber
	for i, p := range c.parties {
		if p.missing == nil {
			members[i+1].name, members[i+1].endpoint = p.name, c.dial(p, fmt.Sprintf("member%d", i), dialing{})
		}
	}
	filter := subscribing{filter: "$share/" + c.name + "/" + c.topic("work/#"), qos: 2}
	for _, m := range members {
		if m.endpoint == nil {
			continue
		}
		if err := m.Subscribe(c.ctx, filter); err != nil {
			c.Fatalf("%s: %v", m.name, err)
		}
	}
	const messages = 48
	sent := map[string]packet{}
	var list []packet
	for i := range messages {
		p := packet{Topic: c.topic(fmt.Sprintf("work/%d", i)), QoS: byte(i % 3), Retain: i%4 == 0, Size: i, properties: allProperties}
		if i%16 == 7 {
			p.Size = 100_000
		}
		sent[p.Topic] = p
		list = append(list, p)
	}
	c.publish(list...)
	members.await(c, messages)
	// A duplicate would arrive before this message.
	for _, m := range members {
		if m.endpoint == nil {
			continue
		}
		if err := m.Subscribe(c.ctx, subscribing{filter: c.topic("fence"), qos: 2}); err != nil {
			c.Fatalf("%s: %v", m.name, err)
		}
	}
	fence := c.topic("fence")
	c.publish(packet{Topic: fence, QoS: 2})
	times := map[string]int{}
	for _, m := range members {
		if m.endpoint == nil {
			continue
		}
		own := 0
		m.Received().await(c.run, "the fence at "+m.name, func(all []received) bool {
			return slices.ContainsFunc(all, func(r received) bool { return r.Topic == fence })
		})
		for _, got := range c.arrivedAt(m, 1) {
			if m.endpoint == c.subscriber {
				c.expects(got)
			}
			if got.Topic == fence {
				continue
			}
			if got.Topic == before.Topic && c.broker.Traits().sharesRetained {
				c.departs("mosquitto sends retained messages to each member of a Shared Subscription, although a server must not do this (section 3.3.1.3)")
				continue
			}
			c.expect(got, sent[got.Topic], false)
			times[got.Topic]++
			own++
		}
		if own == 0 {
			c.Errorf("%s was given nothing", m.name)
		}
	}
	for topic := range sent {
		if times[topic] != 1 {
			c.Errorf("%s was handled %d times over all members, want once", topic, times[topic])
		}
	}
}

// await waits until the members together have n messages.
func (t *team) await(c *cell, n int) {
	c.Helper()
	for {
		have := 0
		var grew [len(t)]<-chan struct{}
		for i, m := range t {
			if m.endpoint == nil {
				continue
			}
			list, more := m.Received().snapshot()
			grew[i] = more
			for _, got := range list {
				if strings.HasPrefix(got.Topic, c.topic("work/")) {
					have++
				}
			}
		}
		if have >= n {
			return
		}
		select {
		case <-grew[0]:
		case <-grew[1]:
		case <-grew[2]:
		case <-grew[3]:
		case <-c.ctx.Done():
			c.Fatalf("waited too long for %d shared messages; there are %d", n, have)
		}
	}
}
