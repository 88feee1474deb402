package interop

import "slices"

var retainRows = []row{
	{"Retain As Published", retainAsPublished},
	{"retained message is replaced, then removed", replaced},
}

// retainAsPublished checks that the flag arrives as it was sent [MQTT-3.3.1-13].
func retainAsPublished(c *cell) {
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2, retainAsPublished: true})
	list := each(packet{Size: 4, properties: allProperties})
	sent := map[string]packet{}
	for i := range list {
		list[i].Topic = c.topic(list[i].Topic)
		sent[list[i].Topic] = list[i]
	}
	c.publish(list...)
	all := c.arrived(len(list))
	for _, got := range all {
		want := sent[got.Topic]
		c.expect(got, want, want.Retain)
	}
	c.expects(all...)
}

// replaced checks that the newer of two retained messages is kept, with its own properties only,
// and that a message of 0 bytes removes it [MQTT-3.3.1-6].
func replaced(c *cell) {
	old := packet{Topic: c.topic("kept"), QoS: 1, Retain: true, Size: 30, properties: allProperties}
	last := packet{Topic: old.Topic, QoS: 2, Retain: true, Size: 31, properties: properties{ContentType: "newer"}}
	c.publish(old)
	c.publish(last)
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2})
	c.expect(c.arrived(1)[0], last, true)
	gone := packet{Topic: old.Topic, QoS: 1, Retain: true}
	c.publish(gone)
	c.expect(c.arrived(2)[1], gone, false) // it is forwarded as a message
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2})
	fence := packet{Topic: c.topic("fence"), QoS: 2, Size: 1}
	c.publish(fence)
	all := c.arrived(3)
	c.expect(all[2], fence, false)
	if i := slices.IndexFunc(all, func(r received) bool { return r.Retain }); i != 0 {
		c.Errorf("of %d messages number %d is the retained one, want 0", len(all), i)
	}
	c.expects(all...)
}
