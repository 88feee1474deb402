package mqtttest

// shareGroup is a Shared Subscription: the sessions that share a ShareName and
// a Topic Filter. Each message goes to one of them.
type shareGroup struct {
	name    string
	members []*subscription
	turn    int
}

// next is the member whose turn it is: in a circle among the connected ones
// with room in their queue, or, if there is none, among the others, which
// then find it when they come back.
func (g *shareGroup) next(m *message) *subscription {
	var second *subscription
	for i := range g.members {
		at := (g.turn + i) % len(g.members)
		sub := g.members[at]
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

func (b *Broker) share(g *shareGroup, m *message, retain bool) {
	sub := g.next(m)
	if sub == nil {
		return
	}
	sub.session.enqueue(entry{msg: m, qos: min(m.qos, sub.qos), retain: retain && sub.asPublished, subIDs: sub.ids, share: sub.filter})
}

// redistribute gives a message that a member's session has ended without
// finishing to another member.
func (b *Broker) redistribute(e *entry) {
	if g := b.tree.groups[e.share]; g != nil && !e.msg.expired() {
		b.stats.Redistributed++
		b.share(g, e.msg, e.retain)
	}
}
