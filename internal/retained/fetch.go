package retained

import (
	"slices"
	"strconv"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// advance starts the next fetch if no SUBSCRIBE is unanswered.
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

// begin sends the SUBSCRIBE that fetches. Retain As Published would hide whether a message is an
// answer to the fetch. So begin sets it only if no handler can want the message.
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
		if v.filled { // its content may be outdated while it is unknown which messages are new
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

// Subscribed handles that the server has granted the SUBSCRIBE with this identifier.
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

// Denied handles that the server has refused the SUBSCRIBE with this identifier.
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

// MarkerSubscribed records whether the server has granted the subscription to the marker's topic.
func (m *Machine) MarkerSubscribed(granted bool) { m.marker = granted }

// NoMarker records that the marker of a fetch will not arrive.
func (m *Machine) NoMarker(now time.Time, filter string, fetch uint64) {
	if s := m.filters.Value(filter); s != nil && s.fetch == fetch && s.owed {
		s.owed, s.moved = false, now
	}
}

func (m *Machine) payload(s *subscription) string {
	return m.nonce + "/" + strconv.FormatUint(s.fetch, 10)
}

// Marked handles a message on the marker's topic.
func (m *Machine) Marked(payload []byte) []Action {
	for _, s := range m.waiting {
		if m.payload(s) == string(payload) {
			m.complete(s, ByMarker)
			break
		}
	}
	return m.advance()
}

// Tick ends the fetches that have received nothing for long enough.
func (m *Machine) Tick(now time.Time) []Action {
	for _, s := range slices.Clone(m.waiting) {
		if !now.Before(s.deadline()) {
			m.complete(s, BySilence)
		}
	}
	return m.advance()
}

// Deadline returns when Tick must be called next, if no messages arrive before. The zero time means
// never.
func (m *Machine) Deadline() (next time.Time) {
	for _, s := range m.waiting {
		if at := s.deadline(); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// markerFactor multiplies the required silence while the marker is on its way.
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

// complete ends a fetch. By then, messages that the session kept from before have arrived as well.
// If a message could have been either kept or new, another fetch decides.
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
		default: // it was published after the SUBSCRIBE
			m.enqueue(s)
		}
	}
}

// Again makes a view that was just filled be filled once more.
func (m *Machine) Again(v *View) []Action {
	if s := m.filters.Value(v.Filter); s != nil && slices.Contains(s.views, v) && (s.phase == following || s.phase == due) {
		s.again = s.again || s.phase == following
		v.filled = false
		m.enqueue(s)
	}
	return m.advance()
}

// A fetch has four identifiers: one for the SUBSCRIBE that fetches, one for the SUBSCRIBE that
// stays, and two more for both if the application has also subscribed to the filter. So the client
// recognizes the sharing in messages that the session has kept from an earlier process.
const (
	perFetch = 4
	shares   = 2
)

// newID returns a free Subscription Identifier, which replaces an old one. The next higher one is
// for the SUBSCRIBE that stays.
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

// fetches reports whether an identifier belongs to a SUBSCRIBE that fetches.
func fetches(id uint32) bool { return id%2 == 0 }

// Shares reports whether an identifier of a view also belongs to a subscription of the application.
func Shares(id uint32) bool { return id&shares != 0 }

// qos returns the highest QoS that a view wants.
func (s *subscription) qos() (q byte) {
	for _, v := range s.views {
		q = max(q, v.QoS)
	}
	return q
}

func (s *subscription) retainAsPublished() bool {
	return slices.ContainsFunc(s.views, func(v *View) bool { return v.RetainAsPublished })
}
