package mqtttest

// next returns the member of a Shared Subscription whose turn it is: in a circle
// among the connected members with room in their queue. If there is none, one of the
// others gets the message when its client connects again.
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

// redistribute gives a message that a member did not finish before its session ended
// to another member.
func (b *Broker) redistribute(e *entry) {
	if g := b.tree.filters.Get(e.share); g != nil && !e.msg.expired() {
		b.stats.Redistributed++
		b.share(g.Value, e.msg, e.retain)
	}
}
