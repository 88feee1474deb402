package retained

import (
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// Message is the part of a received message that the machine needs.
type Message struct {
	Topic  string
	QoS    byte
	Retain bool
	IDs    IDs
}

// IDs holds the Subscription Identifiers of a received message, by owner.
type IDs struct {
	Views       []uint32
	Application []uint32 // of the application's subscriptions, and unknown ones
	Status      bool     // it has the identifier subs.StatusID
}

// SplitIDs sorts the identifiers of a message by owner, in place.
func SplitIDs(list []uint32) (ids IDs) {
	views := 0
	for i, id := range list {
		if id >= subs.ViewID && id <= subs.LastView {
			list[i], list[views] = list[views], id
			views++
		}
	}
	ids.Views = list[:views:views]
	ids.Application = slices.DeleteFunc(list[views:], func(id uint32) bool {
		ids.Status = ids.Status || id == subs.StatusID
		return id == subs.StatusID || id == subs.MarkerID
	})
	return ids
}

// Origin is the cause for which the server sent a message.
type Origin uint8

const (
	Past Origin = iota // possibly older than the subscription
	Fill               // the SUBSCRIBE that fetches: a retained message, or one published directly afterwards
	Live               // the permanent SUBSCRIBE
)

// Delivery is a view that gets a message.
type Delivery struct {
	View   *View
	Origin Origin
}

// Route is the destination of a message.
type Route struct {
	To []Delivery
	// IDs are the identifiers of the application's subscriptions that views share, if the message
	// was sent for them.
	IDs     []uint32
	Raised  bool // it has the RETAIN flag as published, which possibly only a view has requested
	Answer  bool // it is a retained message that only a view has requested
	Unknown bool // it was sent for a subscription that a view shared with the application, possibly in an earlier process
	Guess   bool // there are no identifiers, but a filter of a view matches
}

// Message routes a received message that is not a marker. The Route is valid until the next call.
func (m *Machine) Message(now time.Time, msg Message) (r Route) {
	clear(m.deliveries)
	r.To = m.deliveries[:0]
	known, flagged := 0, false // flagged: it was sent for a SUBSCRIBE that fetches with Retain As Published
	ids := msg.IDs.Views
	m.matched = m.filters.Match(msg.Topic, m.matched[:0])
	for _, e := range m.matched {
		s := e.Value
		brought := Past // unless identifiers show something else
		switch {
		case slices.Contains(ids, s.id):
			brought = Fill
		case s.live != 0 && slices.Contains(ids, s.live):
			brought = Live
		}
		for _, id := range ids {
			switch id &^ 1 {
			case s.id:
				known++
				r.share(s.theirs)
			case s.before:
				known++
				r.share(s.beforeTheirs)
			}
		}
		flagged = flagged || brought == Fill && s.flagged
		r.Raised = r.Raised || brought == Live && s.retainAsPublished()
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
	one := len(ids) == 1 && len(msg.IDs.Application) == 0 && !msg.IDs.Status
	switch {
	case one && msg.Retain && fetches(ids[0]) && !flagged && (known > 0 || !Shares(ids[0])):
		// An answer to the application's SUBSCRIBE has another identifier, and a new publication
		// has no RETAIN flag.
		r.Answer, r.IDs = true, nil
	case known < len(ids):
		r.Unknown = slices.ContainsFunc(ids, Shares)
	}
	r.Guess = !m.subIDs && len(ids)+len(msg.IDs.Application) == 0 && len(m.matched) > 0
	return r
}

func (r *Route) share(id uint32) {
	if id != 0 && !slices.Contains(r.IDs, id) {
		r.IDs = append(r.IDs, id)
	}
}

// origin returns the origin of a message for a view, and whether the view takes the message.
func (s *subscription) origin(v *View, msg Message, brought Origin, subIDs bool) (from Origin, takes bool) {
	switch follows := s.phase == following || s.phase == due && v.filled; {
	case follows && subIDs:
		return brought, brought != Past // otherwise it is another copy, or one that is older than the retained message
	case follows:
		return Live, true
	case s.phase == due:
		return Past, true
	case v.fetch != s.fetch:
		return Past, false // its SUBSCRIBE is not sent yet
	case s.flagged && !msg.Retain && (brought == Fill || !subIDs && (msg.QoS == 0 || !s.kept)):
		return Live, true
	case subIDs:
		return brought, true
	case msg.Retain && !s.flagged && !s.retainAsPublished() || msg.QoS == 0 || !s.kept:
		return Fill, true // with Retain As Published, kept messages have the flag too
	}
	s.doubt = true // kept messages have a higher QoS, and so have new ones
	return Past, true
}
