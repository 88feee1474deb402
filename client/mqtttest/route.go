package mqtttest

import "github.com/mooring-mqtt/mooring/internal/wire"

// publish passes a message to all subscribers and to the retained messages. It returns the reason
// code for the publisher: success, 0x10 or 0x97. from is the publisher's Client Identifier,
// or empty for a message of Broker.Publish.
func (b *Broker) publish(m *message, from string) (reason byte) {
	b.messageID++
	m.id = b.messageID
	if m.retain && !b.retain(m) {
		b.stats.DroppedRetained++
		return wire.ReasonQuotaExceeded
	}
	if from != "" {
		b.published.add(m, b.opts.MaxPublishedBytes)
	}
	reason = wire.ReasonNoMatchingSubscribers
	r := b.tree.find(m.topic)
	for i := range r.targets {
		t := &r.targets[i]
		d := &t.delivery
		if t.noLocal && t.session.clientID == from {
			if d = t.foreign(); d == nil {
				continue
			}
		}
		reason = wire.ReasonSuccess
		t.session.enqueue(entry{msg: m, qos: min(m.qos, d.qos), retain: m.retain && d.asPublished, subIDs: d.ids})
	}
	for _, g := range r.shared {
		reason = wire.ReasonSuccess
		b.share(g, m, m.retain)
	}
	return reason
}

// foreign returns the delivery for a target's subscriptions without No Local, or nil
// [MQTT-3.8.3-3].
func (t *target) foreign() (d *delivery) {
	for _, sub := range t.subs {
		if !sub.noLocal {
			if d == nil {
				d = new(delivery)
			}
			d.merge(sub)
		}
	}
	return d
}
