// Package retained decides how retained messages are fetched and tracked. It is a state machine:
// its input is events, its output is actions. It does no I/O and has no clock, goroutine or lock.
// The caller calls it under a lock and performs the actions.
//
// All views of one filter share one internal subscription. On each connection the subscription is
// made in two steps. The first SUBSCRIBE, at QoS 0, fetches the retained messages. The second one
// has the permanent options and replaces the first without a gap [MQTT-3.8.4-4]. Then the client
// publishes a marker to a topic of its own. The marker comes back after the retained messages and
// so shows their end. Without a marker, silence shows it.
//
// The first step uses QoS 0, because at a higher QoS mosquitto 2.0 silently drops retained messages
// above its max_queued_messages. Messages lost with the connection are fetched on the next one.
package retained

import (
	"errors"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/topic"
)

// Machine holds the internal subscriptions and their views. Use New.
type Machine struct {
	handlers Handlers
	nonce    string
	filters  topic.Tree[*subscription]
	conn     *Connection     // nil: not connected
	subIDs   bool            // of the last connection; messages may arrive before Connected
	marker   bool            // the server has granted the subscription to the marker's topic
	queue    []*subscription // subscriptions to fetch, in order
	asking   *subscription   // subscription whose SUBSCRIBE is unanswered
	asked    uint32          // identifier of that SUBSCRIBE
	waiting  []*subscription // subscribed, waiting for their retained messages
	ids      map[uint32]bool // Subscription Identifiers in use for fetching
	lastID   uint32
	actions  []Action
	Fetches  uint64 // number of started fetches

	matched    []*topic.Entry[*subscription] // buffer for Message
	deliveries []Delivery
}

// MaxFilters is the maximum number of filters that have views at the same time.
const MaxFilters = 10_000

// ErrTooManyFilters is returned by Add when MaxFilters filters have views.
var ErrTooManyFilters = errors.New("too many filters")

// Handlers gives the machine access to the application's subscriptions.
type Handlers interface {
	Application(filter string) (subs.Want, bool) // the application's subscription to exactly this filter
	// Overlap reports whether a handler may get a message that matches the filter. Handlers of
	// Shared Subscriptions do not count.
	Overlap(filter string) bool
}

// Connection describes a new connection.
type Connection struct {
	Present     bool   // the server has resumed a session
	SubIDs      bool   // the server supports Subscription Identifiers
	Marker      string // topic of the marker; empty: no marker is published
	Unavailable error  // why this server has no retained messages; nil: it has them
}

// View is one user of a filter. Its fields must not change after Add.
type View struct {
	Filter            string
	QoS               byte          // of the permanent subscription
	RetainAsPublished bool          // it must know which publications are retained
	Silence           time.Duration // without a marker, a fetch ends after this time without messages
	User              any           // for the caller

	fetch  uint64 // number of the fetch that fills it; 0: it waits for the next one
	filled bool
}

// End is how the machine recognized the end of the retained messages.
type End uint8

const (
	_ End = iota
	ByMarker
	BySilence
)

// New returns a Machine without views. firstID should be random, because a kept session may contain
// messages for an earlier process, which must not be mistaken for answers to this one. nonce makes
// the markers of this process unique.
func New(h Handlers, firstID uint32, nonce string) *Machine {
	lastID := subs.ViewID + firstID%(subs.LastView-subs.ViewID)&^(perFetch-1)
	return &Machine{handlers: h, nonce: nonce, ids: map[uint32]bool{}, lastID: lastID}
}

// Op is the kind of an Action.
type Op uint8

const (
	Subscribe     Op = iota // Want; owner subs.View
	Unsubscribe             // Want.Filter; owner subs.View
	PublishMarker           // publish Payload to the marker's topic at QoS 1; on failure call NoMarker(Want.Filter, Fetch)
	Filled                  // View has all retained messages; End is how that was recognized
	Lost                    // the connection has ended, so View must be filled again
	Refill                  // View must be filled again on this connection; Again: because another view has asked
	Refused                 // the server refuses View's filter with Err; the next connection tries again
	Failed                  // Want.Filter failed with Err, for all its views
)

// Action is something that the caller must do. Actions must be performed in order.
type Action struct {
	Do      Op
	View    *View
	Want    subs.Want
	Fetch   uint64
	Payload string
	End     End
	Again   bool
	Err     error
}

// subscription is an internal subscription: a filter with views.
type subscription struct {
	filter string
	views  []*View
	phase  phase
	id     uint32    // Subscription Identifier of the last SUBSCRIBE that fetches
	live   uint32    // Subscription Identifier of the second SUBSCRIBE; 0: none
	fetch  uint64    // number of the last fetch; 0: no SUBSCRIBE was sent
	again  bool      // it is due only because a view has asked again
	owed   bool      // the marker has not arrived yet
	moved  time.Time // when the last message of the fetch arrived
	kept   bool      // the server may still send messages of an earlier subscription
	doubt  bool      // no identifier shows whether a received message was kept or new

	theirs       uint32 // identifier of the application's subscription to the same filter; 0: none
	before       uint32 // id of the previous fetch, whose messages may still arrive
	beforeTheirs uint32 // value of theirs at that time
	flagged      bool   // the SUBSCRIBE that fetches has Retain As Published, so exactly the retained messages have the flag
}

// phase is the state of a subscription on the present connection.
type phase uint8

const (
	due       phase = iota // must be fetched
	filling                // SUBSCRIBE is sent
	following              // all retained messages have arrived
	denied                 // the server has refused it
	ending                 // it no longer has views
)

// take returns the actions of one event. They are valid until the next event.
func (m *Machine) take() []Action {
	list := m.actions
	m.actions = m.actions[:0]
	return list
}

func (m *Machine) do(a Action) { m.actions = append(m.actions, a) }

// Add adds a view. A fetch that runs for other views continues, so that it ends. Afterwards
// everything is fetched once more.
func (m *Machine) Add(v *View) ([]Action, error) {
	s := m.filters.Value(v.Filter)
	if s == nil {
		if m.filters.Len() >= MaxFilters {
			return nil, ErrTooManyFilters
		}
		s = &subscription{filter: v.Filter, kept: m.conn != nil && m.conn.Present}
		m.filters.Set(v.Filter, s)
	}
	s.views = append(s.views, v)
	if s.phase != filling {
		s.again = false
		m.enqueue(s)
	}
	return m.advance(), nil
}

// Remove removes a view.
func (m *Machine) Remove(v *View) []Action {
	s := m.filters.Value(v.Filter)
	if s == nil {
		return nil
	}
	s.views = slices.DeleteFunc(s.views, func(other *View) bool { return other == v })
	if len(s.views) == 0 && s.phase != ending {
		s.phase = ending
		if m.settle(s); s.fetch > 0 {
			m.do(Action{Do: Unsubscribe, Want: subs.Want{Filter: s.filter}})
		} else {
			m.Ended(s.filter)
		}
	}
	return m.advance()
}

// Ended records that an Unsubscribe has been done.
func (m *Machine) Ended(filter string) {
	if s := m.filters.Value(filter); s != nil && s.phase == ending {
		m.filters.Delete(filter)
		delete(m.ids, s.id&^shares)
	}
}

// Connected starts a connection.
func (m *Machine) Connected(c Connection) []Action {
	m.conn, m.subIDs = &c, c.SubIDs
	m.marker = m.marker && c.Present
	for e := range m.filters.All() {
		s := e.Value
		if s.kept = c.Present; s.phase != ending {
			m.enqueue(s)
		}
	}
	return m.advance()
}

// Disconnected ends the connection.
func (m *Machine) Disconnected() []Action {
	m.conn, m.queue = nil, nil
	for e := range m.filters.All() {
		s := e.Value
		m.unfill(s, Action{Do: Lost})
		if s.phase != ending {
			s.phase = due
		}
	}
	return m.take()
}

// Displaced handles that the application has subscribed to the filter or unsubscribed.
func (m *Machine) Displaced(filter string) []Action {
	if s := m.filters.Value(filter); s != nil && s.phase != ending && m.conn != nil {
		m.unfill(s, Action{Do: Refill})
		s.kept = true
		m.enqueue(s)
	}
	return m.advance()
}

// enqueue makes a subscription due for a fetch.
func (m *Machine) enqueue(s *subscription) {
	s.phase = due
	if m.conn != nil && !slices.Contains(m.queue, s) {
		m.queue = append(m.queue, s)
	}
}

// settle ends a running fetch, if there is one.
func (m *Machine) settle(s *subscription) {
	s.owed = false
	m.waiting = slices.DeleteFunc(m.waiting, func(other *subscription) bool { return other == s })
	if m.asking == s {
		m.asking = nil
	}
}

// unfill makes all views be filled again, and reports that for views that may already have
// messages.
func (m *Machine) unfill(s *subscription, report Action) {
	m.settle(s)
	for _, v := range s.views {
		if v.filled, v.fetch = false, 0; s.fetch > 0 {
			report.View = v
			m.do(report)
		}
	}
}
