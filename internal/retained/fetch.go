package retained

import (
	"slices"
	"strconv"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// advance begins the next fetch if no SUBSCRIBE is out.
func (m *Machine) advance() []Action {
	for m.conn != nil && m.asking == nil && len(m.queue) > 0 {
		s := m.queue[0]
		if m.queue = m.queue[1:]; s.phase != due {
			continue
		}
		if err := m.conn.Unavailable; err != nil {
			m.deny(s, err)
			continue
		}
		m.begin(s)
	}
	return m.take()
}

// begin sends the SUBSCRIBE that fetches. Retain As Published would hide whether a
// message is an answer. So it asks for that only where no handler may want the message.
func (m *Machine) begin(s *subscription) {
	app, shared := m.handlers.Application(s.filter)
	m.Fetches++
	s.phase, s.fetch, s.doubt = filling, m.Fetches, false
	s.before, s.beforeTheirs = s.id, s.theirs
	if s.theirs = 0; shared {
		s.theirs = app.ID
	}
	s.id, s.live = m.newID(s.id, shared), 0
	rap := s.retainAsPublished()
	first := rap && !m.handlers.Overlap(s.filter)
	s.flagged = first || shared && app.RetainAsPublished
	if rap && !s.flagged || !shared && s.qos() > 0 {
		s.live = s.id + 1
	}
	asked := s.again
	s.again = false
	for _, v := range s.views {
		if v.filled { // what it has may go while nothing tells which messages are new
			m.do(Action{Do: Refill, View: v, Again: asked})
		}
		v.filled, v.fetch = false, s.fetch
	}
	m.ask(s, subs.Want{Filter: s.filter, RetainAsPublished: first, ID: s.id})
}

func (m *Machine) ask(s *subscription, w subs.Want) {
	m.asking, m.asked = s, w.ID
	m.do(Action{Do: Subscribe, Want: w})
}

// Subscribed takes that the server has granted the SUBSCRIBE with an identifier.
func (m *Machine) Subscribed(now time.Time, filter string, id uint32) []Action {
	s := m.asking
	if s == nil || s.filter != filter || m.asked != id {
		return nil
	}
	m.settle(s)
	if id == s.id && s.live != 0 {
		m.ask(s, subs.Want{Filter: filter, QoS: s.qos(), RetainAsPublished: s.retainAsPublished(), RetainHandling: 2, ID: s.live})
		return m.take()
	}
	s.moved = now
	m.waiting = append(m.waiting, s)
	if m.conn.Marker != "" && m.marker {
		s.owed = true
		m.do(Action{Do: PublishMarker, Want: subs.Want{Filter: filter}, Fetch: s.fetch, Payload: m.payload(s)})
	}
	return m.advance()
}

// Denied takes that the server has refused the SUBSCRIBE with an identifier.
func (m *Machine) Denied(filter string, id uint32, err error) []Action {
	if s := m.asking; s != nil && s.filter == filter && m.asked == id {
		m.settle(s)
		m.deny(s, err)
	}
	return m.advance()
}

func (m *Machine) deny(s *subscription, err error) {
	m.do(Action{Do: Failed, Want: subs.Want{Filter: s.filter}, Err: err})
	s.phase = denied
	for _, v := range s.views {
		m.do(Action{Do: Refused, View: v, Err: err})
	}
}

// MarkerSubscribed takes whether the server has granted the marker's topic.
func (m *Machine) MarkerSubscribed(granted bool) { m.marker = granted }

// NoMarker takes that the marker of a fetch will not come back.
func (m *Machine) NoMarker(now time.Time, filter string, fetch uint64) {
	if s := m.filters.Value(filter); s != nil && s.fetch == fetch && s.owed {
		s.owed, s.moved = false, now
	}
}

func (m *Machine) payload(s *subscription) string {
	return m.nonce + "/" + strconv.FormatUint(s.fetch, 10)
}

// Marked takes a message on the marker's topic.
func (m *Machine) Marked(payload []byte) []Action {
	for _, s := range m.waiting {
		if m.payload(s) == string(payload) {
			m.complete(s, ByMarker)
			break
		}
	}
	return m.advance()
}

// Tick ends the fetches of which nothing came for long enough.
func (m *Machine) Tick(now time.Time) []Action {
	for _, s := range slices.Clone(m.waiting) {
		if !now.Before(s.deadline()) {
			m.complete(s, BySilence)
		}
	}
	return m.advance()
}

// Deadline is when Tick has something to do next, unless messages come until then; zero: never.
func (m *Machine) Deadline() (next time.Time) {
	for _, s := range m.waiting {
		if at := s.deadline(); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// markerFactor is how many times longer the silence must be while the marker is on its way.
const markerFactor = 10

func (s *subscription) deadline() time.Time {
	longest := time.Duration(0)
	for _, v := range s.views {
		longest = max(longest, v.Silence)
	}
	if s.owed {
		longest *= markerFactor
	}
	return s.moved.Add(longest)
}

// complete ends a fetch. By then what a session has kept from before has come too. So
// where something could have been either that or new, another fetch tells.
func (m *Machine) complete(s *subscription, end End) {
	m.settle(s)
	s.again = s.doubt && s.kept
	if s.phase, s.kept = following, false; s.again {
		m.enqueue(s)
	}
	for _, v := range s.views {
		switch {
		case s.again:
			v.filled = v.fetch == s.fetch
		case v.filled:
		case v.fetch == s.fetch:
			v.filled = true
			m.do(Action{Do: Filled, View: v, End: end})
		default: // it came after the SUBSCRIBE
			m.enqueue(s)
		}
	}
}

// Again has a view that was just filled filled once more.
func (m *Machine) Again(v *View) []Action {
	if s := m.filters.Value(v.Filter); s != nil && slices.Contains(s.views, v) && (s.phase == following || s.phase == due) {
		s.again = s.again || s.phase == following
		v.filled = false
		m.enqueue(s)
	}
	return m.advance()
}

// A fetch has four identifiers: one for the SUBSCRIBE that fetches, the next for the one that stays,
// and two for both where the application has subscribed to the filter too, so that this is known of
// what the session has kept from an earlier process.
const (
	perFetch = 4
	shares   = 2
)

// newID returns a free Subscription Identifier, in place of an old one. The next higher
// one is for the SUBSCRIBE that stays.
func (m *Machine) newID(old uint32, shared bool) uint32 {
	delete(m.ids, old&^shares)
	for {
		if m.lastID += perFetch; m.lastID+perFetch > subs.LastView {
			m.lastID = subs.ViewID
		}
		if m.ids[m.lastID] {
			continue
		}
		m.ids[m.lastID] = true
		if shared {
			return m.lastID + shares
		}
		return m.lastID
	}
}

// fetches reports whether an identifier is that of a SUBSCRIBE that fetches.
func fetches(id uint32) bool { return id%2 == 0 }

// Shares reports whether an identifier of a view is that of a subscription of the application as well.
func Shares(id uint32) bool { return id&shares != 0 }

// qos is the highest that a view wants.
func (s *subscription) qos() (q byte) {
	for _, v := range s.views {
		q = max(q, v.QoS)
	}
	return q
}

func (s *subscription) retainAsPublished() bool {
	return slices.ContainsFunc(s.views, func(v *View) bool { return v.RetainAsPublished })
}
