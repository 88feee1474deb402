package mqtttest

import (
	"cmp"
	"maps"
	"slices"
)

// snapshot records the whole state in many transactions. They become valid together, when the file
// is renamed.
func (b *Broker) snapshot() {
	j := b.log
	for _, r := range b.retained.byTopic {
		j.retained(r.message)
		j.emit()
	}
	byID := func(x, y *session) int { return cmp.Compare(x.id, y.id) }
	for _, s := range slices.SortedFunc(maps.Values(b.sessions), byID) {
		j.session(s)
		for _, sub := range s.subs {
			j.subscribed(sub)
		}
		if !s.keeps {
			j.emit()
			continue
		}
		for id := range s.inbound {
			j.inbound(s, id)
		}
		for f := s.flights.first; f != nil; f = f.next {
			j.flight(s, f)
			j.emit()
		}
		for i := range s.queue.n {
			if e := s.queue.at(i); s.durable(e) {
				j.queued(s, e)
				j.emit()
			}
		}
		j.emit()
	}
}
