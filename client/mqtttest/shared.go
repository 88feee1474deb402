package mqtttest

// next returns the next member of a Shared Subscription. Connected members with space in their
// queue take turns. If there is no such member, next selects another member, which receives the
// message after it has connected.
func (g *subscribers) next(m *message) *subscription {
	var second *subscription
	for i := range g.list {
		at := (g.turn + i) % len(g.list)
		sub := g.list[at]
		switch {
		case sub.session.conn != nil && sub.session.room(m):
			g.turn = at + 1
			return sub
		case second == nil:
			second = sub
		}
	}
	g.turn++
	return second
}

func (b *Broker) share(g *subscribers, m *message, retain bool) {
	sub := g.next(m)
	if sub == nil {
		return
	}
	sub.session.enqueue(entry{msg: m, qos: min(m.qos, sub.qos), retain: retain && sub.asPublished, subIDs: sub.ids, share: sub.filter})
}

// redistribute gives a message to another member of the group. It is called if the session of the
// first member ended before the message was completely acknowledged.
func (b *Broker) redistribute(e *entry) {
	if g := b.tree.filters.Get(e.share); g != nil && !e.msg.expired() {
		b.stats.Redistributed++
		b.share(g.Value, e.msg, e.retain)
	}
}
