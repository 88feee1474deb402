package retained

import (
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// Message is what the machine needs of a received message.
type Message struct {
	Topic  string
	QoS    byte
	Retain bool
	IDs    IDs
}

// IDs are the Subscription Identifiers of a received message, by owner.
type IDs struct {
	Views       []uint32
	Application bool // it has one of the application's
	Status      bool // it has subs.StatusID
}

// SplitIDs removes the internal identifiers from those of a message and returns them.
// Those of views are appended to room.
func SplitIDs(list, room []uint32) (visible []uint32, ids IDs) {
	ids.Views = room
	visible = slices.DeleteFunc(list, func(id uint32) bool {
		switch {
		case !subs.Internal(id), id == subs.ApplicationID:
			ids.Application = true
		case id == subs.StatusID:
			ids.Status = true
		case id != subs.MarkerID:
			ids.Views = append(ids.Views, id)
		}
		return subs.Internal(id)
	})
	return visible, ids
}

// Origin is what brought a message.
type Origin uint8

const (
	Past Origin = iota // it may be older than the subscription
	Fill               // the SUBSCRIBE that fetches: a retained message, or one published right after it
	Live               // the SUBSCRIBE that stays
)

// Delivery is a view that a message is for.
type Delivery struct {
	View   *View
	Origin Origin
}

// Route is where a message goes.
type Route struct {
	Only        bool // no handler has asked for it
	To          []Delivery
	IDs         []uint32 // to add for handlers: of the application's subscriptions that views share
	ClearRetain bool     // for handlers: only a view has asked for the flag
}

// Message routes a received message that is not a marker. The Route is valid until the next call.
func (m *Machine) Message(now time.Time, msg Message) (r Route) {
	clear(m.deliveries)
	r.To = m.deliveries[:0]
	var live, flagged bool // it came for a SUBSCRIBE that stays, or that fetches, with Retain As Published
	var shared bool        // it came, or may have come, for a subscription that is the application's as well
	known := 0
	m.matched = m.filters.Match(msg.Topic, m.matched[:0])
	for _, e := range m.matched {
		s := e.Value
		brought := Past // unless identifiers tell
		switch {
		case slices.Contains(msg.IDs.Views, s.id):
			brought = Fill
		case s.live != 0 && slices.Contains(msg.IDs.Views, s.live):
			brought = Live
		}
		for _, id := range msg.IDs.Views {
			switch id &^ 1 {
			case s.id:
				known++
				shared = shared || s.shared
			case s.before:
				known++
				shared = shared || s.beforeShared
			}
		}
		if brought != Past {
			live = live || brought == Live && s.retainAsPublished()
			flagged = flagged || brought == Fill && s.flagged
			if s.theirs != 0 {
				r.IDs = append(r.IDs, s.theirs)
			}
		}
		if s.phase == ending || s.phase == denied {
			continue
		}
		if s.phase == filling {
			s.moved = now
		}
		for _, v := range s.views {
			if from, takes := s.origin(v, msg, brought, m.subIDs); takes {
				r.To = append(r.To, Delivery{v, from})
			}
		}
	}
	m.deliveries = r.To
	shared = shared || known < len(msg.IDs.Views) // an earlier process may have shared it
	r.Only = m.only(msg, shared, flagged)
	r.ClearRetain = live && !m.handlers.RetainAsPublished()
	return r
}

// origin returns what a message is to a view, and whether the view takes it.
func (s *subscription) origin(v *View, msg Message, brought Origin, subIDs bool) (from Origin, takes bool) {
	switch follows := s.phase == following || s.phase == due && v.filled; {
	case follows && subIDs:
		return brought, brought != Past // otherwise it is another copy, or one that the retained message has overtaken
	case follows:
		return Live, true
	case s.phase == due:
		return Past, true
	case v.fetch != s.fetch:
		return Past, false // its SUBSCRIBE is still to come
	case s.flagged && !msg.Retain && (brought == Fill || !subIDs && (msg.QoS == 0 || !s.kept)):
		return Live, true
	case subIDs:
		return brought, true
	case msg.Retain && !s.flagged && !s.retainAsPublished() || msg.QoS == 0 || !s.kept:
		return Fill, true // with Retain As Published what was kept has the flag too
	}
	s.doubt = true // what a session has kept has a higher QoS, and so has what is new
	return Past, true
}

// only reports whether a message came for views alone. To lose one for a handler is
// worse than to deliver it twice.
func (m *Machine) only(msg Message, shared, flagged bool) bool {
	ids := msg.IDs.Views
	if msg.IDs.Application || len(ids) == 0 && (len(m.matched) == 0 || m.subIDs) {
		return false
	}
	switch h := m.handlers.Match(msg.Topic); {
	case !h.Any:
		return true
	case len(ids) == 0:
		return false // nothing tells whose it is
	case !h.Alone:
		return true // a Shared Subscription has a copy of its own
	case h.Identified && !shared:
		return true // an application's message would have its identifier
	}
	// It answers a fetch: what answers the application's SUBSCRIBE has another
	// identifier, and what is published has no flag, or comes for another view too.
	return msg.Retain && len(ids) == 1 && fetches(ids[0]) && !flagged && !m.handlers.RetainAsPublished()
}
