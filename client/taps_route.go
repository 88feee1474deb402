package client

import (
	"bytes"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// tapped gives a received message to the taps that it is for. It reports whether
// that is all: no handler has asked for it.
func (c *Client) tapped(m *Message) (only bool) {
	ts := &c.taps
	var room [4]uint32
	ours := room[:0] // the identifiers that are ours; the program does not see them
	m.SubscriptionIDs = slices.DeleteFunc(m.SubscriptionIDs, func(id uint32) bool {
		if isTapID(id) {
			ours = append(ours, id)
		}
		return isTapID(id)
	})
	if !ts.used.Load() { // those are of an earlier process
		return len(ours) > 0 && !c.handles(m.Topic)
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
	for _, to := range ts.matched {
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
}

// match finds the taps that a message is for, with ts.mu held.
func (ts *taps) match(m *Message, ours []uint32) (by cause) {
	clear(ts.matched)
	ts.matched = ts.matched[:0]
	for _, s := range ts.sources {
		if !wire.Match(s.filter, m.Topic) {
			continue
		}
		from := s.brought(ours)
		by.matched = true
		if from != fromPast {
			by.shared = by.shared || s.shared
			by.flag = by.flag || from == fromLive && s.rap()
			if s.theirs != 0 {
				by.theirs = append(by.theirs, s.theirs)
			}
		}
		switch {
		case s.phase == ending || s.phase == denied:
			continue
		case s.phase == due:
			from = fromPast
		case ts.subIDs:
			if from == fromPast && s.phase == standing {
				continue // another copy, or one that the retained message has overtaken
			}
		case s.phase == standing:
			from = fromLive
		case s.shared || m.Retain || m.QoS == 0:
			from = fromFill // for a moment we ask for QoS 0; what a session has kept has a higher one
		}
		if s.phase == filling {
			s.moved = time.Now()
		}
		for _, t := range s.taps {
			ts.matched = append(ts.matched, match{t, from})
		}
	}
	return by
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
	case m.Retain && len(ours) == 1 && fetches(ours[0]) && !c.retainAsPublished.Load():
		// It answers our SUBSCRIBE: what answers theirs has not our identifier, and what
		// is published has no flag, or that of another subscription of ours as well.
		return true
	}
	return !by.shared && ts.copies == manyCopies // theirs is another copy
}

// taken acknowledges a message that no handler gets.
func (c *Client) taken(in *session.Inbound) {
	if in == nil {
		return
	}
	if err := c.session.Complete(in, wire.ReasonSuccess, ""); err != nil {
		c.storeFailed(err)
	}
}

// handles reports whether any handler is declared for a topic.
func (c *Client) handles(topic string) bool {
	return slices.ContainsFunc(c.router.list(), func(r *route) bool { return wire.Match(r.filter, topic) })
}

// clone copies a message and all that it refers to and that may be changed.
func (m *Message) clone() *Message {
	twin := *m
	twin.Payload, twin.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
	twin.UserProperties, twin.SubscriptionIDs = slices.Clone(m.UserProperties), slices.Clone(m.SubscriptionIDs)
	return &twin
}
