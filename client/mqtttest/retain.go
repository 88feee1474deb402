package mqtttest

import (
	"cmp"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// retain stores m as the retained message of its topic, or clears it if the payload is empty
// [MQTT-3.3.1-5] [MQTT-3.3.1-6]. It returns false if a limit of topics or bytes is reached.
func (b *Broker) retain(m *message) bool {
	old := b.retained.get(m.topic)
	if len(m.payload) == 0 {
		if old != nil {
			b.unretain(old)
		}
		return true
	}
	more := m.size()
	if old != nil {
		more -= old.size()
	}
	full := func() bool {
		return old == nil && len(b.retained.byTopic) >= b.opts.MaxRetained || b.retained.bytes+more > b.opts.MaxRetainedBytes
	}
	for first := b.retained.first(); full(); first = b.retained.first() {
		if first == nil || !first.expired() {
			return false
		}
		if first == old {
			old, more = nil, m.size()
		}
		b.unretain(first)
	}
	b.retained.set(m)
	b.log.retained(m)
	return true
}

func (b *Broker) unretain(m *message) {
	b.retained.remove(m.topic)
	b.log.unretained(m.topic)
}

// sendRetained sends the matching retained messages to a new subscription, in the order of
// publication.
func (b *Broker) sendRetained(sub *subscription, handling byte, isNew bool) {
	_, _, shared := wire.SplitShare(sub.filter)
	if shared || handling == retainNever || handling == retainIfNew && !isNew {
		return
	}
	var found []*message
	if m := b.retained.get(sub.filter); m != nil {
		found = append(found, m)
	}
	if wildcard(sub.filter) {
		for topic, r := range b.retained.byTopic {
			if wire.Match(sub.filter, topic) {
				found = append(found, r.message)
			}
		}
		slices.SortFunc(found, func(a, b *message) int { return cmp.Compare(a.id, b.id) })
	}
	for _, m := range found {
		if m.expired() {
			b.unretain(m)
			continue
		}
		sub.session.enqueue(entry{msg: m, qos: min(m.qos, sub.qos), retain: true, subIDs: sub.ids})
	}
}

// Retain Handling, section 3.8.3.1.
const (
	retainIfNew = 1
	retainNever = 2
)

func wildcard(filter string) bool {
	for i := range len(filter) {
		if filter[i] == '+' || filter[i] == '#' {
			return true
		}
	}
	return false
}

// subscribe adds one subscription of a SUBSCRIBE.
func (b *Broker) subscribe(s *session, in control.Subscription, qos byte, ids []uint32) {
	old := s.subs[in.Filter]
	sub := &subscription{session: s, filter: in.Filter, qos: qos, noLocal: in.NoLocal, asPublished: in.RetainAsPublished, ids: ids}
	b.tree.add(sub, old)
	s.subs[in.Filter] = sub
	if old == nil {
		b.stats.Subscriptions++
	}
	b.log.subscribed(sub)
	b.sendRetained(sub, in.RetainHandling, old == nil)
}

// unsubscribe removes a subscription and reports whether it existed. Messages that are already
// queued are still delivered [MQTT-3.10.4-3].
func (b *Broker) unsubscribe(s *session, filter string) bool {
	sub := s.subs[filter]
	if sub == nil {
		return false
	}
	b.tree.remove(sub)
	delete(s.subs, filter)
	b.stats.Subscriptions--
	b.log.unsubscribed(s, filter)
	return true
}
