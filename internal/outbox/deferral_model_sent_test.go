package outbox_test

import (
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file checks each PUBLISH that the outbox sends: its packet identifier, its DUP flag, the window
// and the order.

// keep notes whether a message has kept the packet identifier of its number. That happens if an
// earlier process may have sent it and its topic is isolated. From then on it is like a message
// that was sent under that identifier.
func (m *deferModel) keep(one *deferMessage) {
	var e persistence.Entry
	own := session.PacketID(uint8(one.priority), one.number)
	if ok, err := m.store.Get(one.seq, &e); ok && err == nil && one.id == 0 && e.Deferral.Alone && e.Deferral.PacketID == own && m.maybeEarlier(one) {
		one.id, one.kept, m.ids[own] = own, true, one.n
	}
}

// sent checks a PUBLISH while it is sent.
func (m *deferModel) sent(v wire.PublishView) {
	m.look()
	n := indexOf(v)
	one, c := m.list[n-1], m.up
	fail := func(format string, args ...any) {
		m.t.Errorf("message %d (%+v): %s", n, *one, fmt.Sprintf(format, args...))
	}
	m.emptied(one.queueKey())
	e := m.deferral(one)
	own := session.PacketID(uint8(one.priority), one.number)
	deferred := !e.Deferral.Since.IsZero()
	again := one.id != 0 || !deferred && m.maybeEarlier(one)
	switch {
	case one.end != nil:
		fail("sent after its end %+v", *one.end)
	case c.here[n]:
		fail("sent twice on one connection")
	case one.released:
		fail("sent after its PUBREC")
	case m.ids[v.PacketID] != 0 && m.ids[v.PacketID] != n:
		fail("sent under identifier %d of message %d", v.PacketID, m.ids[v.PacketID])
	case one.id != 0 && v.PacketID != one.id:
		fail("resent under identifier %d", v.PacketID)
	case one.last == v.PacketID:
		fail("sent again under identifier %d after 0x91", v.PacketID)
	case v.Dup != again && !one.unsure:
		fail("DUP is %v; the store has %+v", v.Dup, e.Deferral)
	case deferred && e.Deferral.PacketID != v.PacketID || !deferred && (v.PacketID != own || m.store.Sent(one.priority) < one.number):
		fail("sent under identifier %d, the store knows %+v, and the watermark is %d", v.PacketID, e.Deferral, m.store.Sent(one.priority))
	}
	m.inWindow(one, fail)
	m.inOrder(one, again || one.unsure, fail)
	one.unsure = false
	c.here[n], one.id, m.ids[v.PacketID] = true, v.PacketID, n
	c.sent++
	if one.order == 0 {
		m.orders++
		one.order = m.orders
	}
}

// inWindow checks that a message has room, and that a message that must be sent alone is alone.
func (m *deferModel) inWindow(one *deferMessage, fail func(string, ...any)) {
	c := m.up
	window := int(c.limits.ReceiveMaximum)
	if limit := m.o.Window(); limit > 0 {
		window = min(window, limit)
	}
	if len(c.here) >= window {
		fail("%d are in flight, the window is %d", len(c.here), window)
	}
	if one.alone {
		if len(c.here) > 0 {
			fail("sent alone while %d others are in flight", len(c.here))
		}
		if waiting := m.pending(func(o *deferMessage) bool { return o.n != one.n && m.deferral(o).Deferral.Since.IsZero() }); c.acked == 0 && len(waiting) > 0 {
			fail("sent alone before message %d, and nothing was acknowledged", waiting[0].n)
		}
	}
	for n := range c.here {
		if o := m.list[n-1]; o.alone && !o.released {
			fail("sent beside message %d, which is alone", n)
		}
	}
}

// inOrder checks that resends have the order of sending, and other messages the order of each topic
// and priority.
func (m *deferModel) inOrder(one *deferMessage, again bool, fail func(string, ...any)) {
	switch {
	case one.alone || one.kept || one.unplaced:
	case one.order > 0 && again:
		if one.order < m.up.resent {
			fail("resent after one that was sent later")
		}
		m.up.resent = one.order
	case !again:
		if left := m.pending(func(o *deferMessage) bool {
			return o.order > 0 && o.id != 0 && !m.up.here[o.n] && !o.alone && !o.kept && !o.givenUp && !o.released
		}); len(left) > 0 {
			fail("sent before message %d is resent", left[0].n)
		}
		for _, o := range m.pending(func(o *deferMessage) bool {
			return o.n < one.n && o.topic == one.topic && o.priority == one.priority && o.id == 0 && !o.alone && !o.lost && !o.unsure && !o.givenUp && o.n != m.acking
		}) {
			if e := m.deferral(o); !e.Deferral.Since.IsZero() || !m.maybeEarlier(o) {
				fail("sent before message %d (%+v, %+v)", o.n, *o, e.Deferral)
			}
		}
	}
}
