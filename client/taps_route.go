package client

import (
	"bytes"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// tapped gives a received message to the taps that it is for. It reports whether
// that is all: no handler has asked for it.
func (c *Client) tapped(m *Message) (only bool) {
	ts := &c.taps
	var room [4]uint32
	ours := room[:0] // the identifiers that are ours; the program does not see them
	ts.own = false
	m.SubscriptionIDs = slices.DeleteFunc(m.SubscriptionIDs, func(id uint32) bool {
		switch {
		case id == ownID:
			ts.own = true
		case isTapID(id):
			ours = append(ours, id)
		}
		return isTapID(id)
	})
	if !ts.used.Load() { // those are of an earlier process
		return (ts.own || len(ours) > 0) && !c.handles(m.Topic)
	}
	ts.turn.Lock()
	defer ts.turn.Unlock()
	ts.mu.Lock()
	if ts.marker.topic != "" && ts.marker.topic == m.Topic {
		done := ts.marked(m, ours)
		ts.mu.Unlock()
		ts.tellFilled(done, ByMarker)
		return true
	}
	by := ts.match(m, ours)
	only = c.ours(m, ours, by)
	ts.mu.Unlock()
	if len(ts.matched) == 0 {
		return only
	}
	taken := m
	if !only {
		taken = m.clone() // handlers may do with theirs what they like
		if by.flag && !c.retainAsPublished.Load() {
			m.Retain = false // it is we who asked for the flag
		}
		m.SubscriptionIDs = append(m.SubscriptionIDs, by.theirs...)
	}
	for i, to := range ts.matched {
		if i > 0 {
			taken = taken.clone() // what one gives to the program is nobody else's
		}
		to.t.user.take(taken, to.from)
	}
	return only
}

// cause is what of ours a message came for.
type cause struct {
	matched bool     // a filter of ours matches it
	shared  bool     // it came for a subscription that is the program's as well
	theirs  []uint32 // the identifiers that the program gave those
	flag    bool     // it came for one with Retain As Published
	flagged bool     // it came for one that fetches, and has that too
}

// match finds the taps that a message is for, with ts.mu held.
func (ts *taps) match(m *Message, ours []uint32) (by cause) {
	clear(ts.matched)
	ts.matched = ts.matched[:0]
	for _, s := range ts.sources {
		if !wire.Match(s.filter, m.Topic) {
			continue
		}
		brought := s.brought(ours)
		by.matched = true
		if brought != fromPast {
			by.shared = by.shared || s.shared
			by.flag = by.flag || brought == fromLive && s.rap()
			by.flagged = by.flagged || brought == fromFill && s.flagged
			if s.theirs != 0 {
				by.theirs = append(by.theirs, s.theirs)
			}
		}
		if s.phase == ending || s.phase == denied {
			continue
		}
		if s.phase == filling {
			s.moved = time.Now()
		}
		for _, t := range s.taps {
			if from, takes := s.origin(t, m, brought, ts.subIDs); takes {
				ts.matched = append(ts.matched, match{t, from})
			}
		}
	}
	return by
}

// origin says what a message is to one of the taps, and whether it takes it.
func (s *source) origin(t *tap, m *Message, brought origin, subIDs bool) (from origin, takes bool) {
	switch stands := s.phase == standing || s.phase == due && t.filled; {
	case stands && subIDs:
		return brought, brought != fromPast // that is another copy, or one that the retained message has overtaken
	case stands:
		return fromLive, true
	case s.phase == due:
		return fromPast, true
	case t.fill != s.fill:
		return fromPast, false // its SUBSCRIBE is still to come
	case s.flagged && !m.Retain && (brought == fromFill || !subIDs && (m.QoS == 0 || !s.kept)):
		return fromLive, true
	case subIDs:
		return brought, true
	case m.Retain && !s.flagged && !s.rap() || m.QoS == 0 || !s.kept: // with Retain As Published what was kept has the flag too
		return fromFill, true
	}
	s.doubt = true // what a session has kept has a higher QoS, and so has what is new
	return fromPast, true
}

// brought says which of our SUBSCRIBEs brought a message, if identifiers tell.
func (s *source) brought(ours []uint32) origin {
	switch {
	case slices.Contains(ours, s.id):
		return fromFill
	case s.live != 0 && slices.Contains(ours, s.live):
		return fromLive
	}
	return fromPast
}

// ours reports whether a message came for taps alone, with taps.mu held.
func (c *Client) ours(m *Message, ours []uint32, by cause) bool {
	ts := &c.taps
	switch {
	case len(m.SubscriptionIDs) > 0:
		return false // it came for the program's subscription
	case len(ours) == 0 && (!by.matched || ts.subIDs):
		return false
	case !c.handles(m.Topic):
		return true
	case len(ours) == 0:
		return false // nothing tells whose it is
	case !c.handlesAlone(m.Topic):
		return true // a Shared Subscription has a copy of its own
	case m.Retain && len(ours) == 1 && fetches(ours[0]) && !by.flagged && !c.retainAsPublished.Load():
		// It answers our SUBSCRIBE: what answers theirs has not our identifier, and what
		// is published has no flag, or that of another subscription of ours as well.
		return true
	}
	return !by.shared && ts.copies == manyCopies // theirs is another copy
}

// handles reports whether any handler is declared for a topic.
func (c *Client) handles(topic string) bool {
	var room [4]*route
	return len(c.router.match(topic, room[:0])) > 0
}

// handlesAlone reports whether a handler is declared for a topic that is not that of
// a Shared Subscription.
func (c *Client) handlesAlone(topic string) bool {
	var room [4]*route
	return slices.ContainsFunc(c.router.match(topic, room[:0]), func(r *route) bool { return !r.Shared })
}

// clone copies a message and all that it refers to and that may be changed.
func (m *Message) clone() *Message {
	twin := *m
	twin.Payload, twin.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
	twin.UserProperties, twin.SubscriptionIDs = slices.Clone(m.UserProperties), slices.Clone(m.SubscriptionIDs)
	return &twin
}
