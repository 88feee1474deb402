// Package retained decides how retained messages are fetched and followed. It is a
// state machine: events go in, actions come out. It does no I/O, has no clock, no
// goroutine and no lock; its user calls it under a lock and performs the actions.
//
// All views of one filter share one internal subscription. On each connection it is
// made in two steps: the first SUBSCRIBE, at QoS 0, fetches what is retained; the
// second has the options that stay, and replaces the first without a gap
// [MQTT-3.8.4-4]. Then a marker is published to a topic of the client's own. It comes
// back after the retained messages, and so shows their end; otherwise silence does.
//
// At a higher QoS mosquitto 2.0 silently drops retained messages beyond its
// max_queued_messages. What QoS 0 loses with a connection is fetched on the next one.
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
	subIDs   bool            // of the last connection: messages may come before Connected
	marker   bool            // the server has granted the marker's topic
	queue    []*subscription // to be fetched, in order
	asking   *subscription   // whose SUBSCRIBE is out
	asked    uint32          // the identifier of that
	waiting  []*subscription // subscribed, their retained messages on the way
	ids      map[uint32]bool // Subscription Identifiers in use for fetching
	lastID   uint32
	actions  []Action
	Fetches  uint64 // how many have begun

	matched    []*topic.Entry[*subscription] // room for Message
	deliveries []Delivery
}

// MaxFilters is how many filters may have views at a time.
const MaxFilters = 10_000

// ErrTooManyFilters is returned by Add when MaxFilters filters have views.
var ErrTooManyFilters = errors.New("too many filters")

// Handlers is what the machine has to know of the application.
type Handlers interface {
	Application(filter string) (subs.Want, bool) // its own subscription to just this filter
	// Overlap reports whether a handler, other than of a Shared Subscription, may get
	// a message that the filter matches.
	Overlap(filter string) bool
}

// Connection describes the connection that begins.
type Connection struct {
	Present     bool   // the server has resumed a session
	SubIDs      bool   // it knows Subscription Identifiers
	Marker      string // topic of the marker; empty: none is published
	Unavailable error  // why this server has no retained messages
}

// View is one user of a filter. Its fields are not changed once it is added.
type View struct {
	Filter            string
	QoS               byte          // of the subscription that stays
	RetainAsPublished bool          // it must know which publications are retained
	Silence           time.Duration // without a marker, nothing for so long ends a fetch
	User              any           // of the caller

	fetch  uint64 // that fills it; 0: it waits for the next
	filled bool
}

// End is how the end of the retained messages was known.
type End uint8

const (
	_ End = iota
	ByMarker
	BySilence
)

// New returns a Machine without views. firstID should be random: what a kept session
// has for an earlier process must not be taken for an answer to this one. nonce makes
// the markers of this process unique.
func New(h Handlers, firstID uint32, nonce string) *Machine {
	lastID := subs.ViewID + firstID%(subs.LastView-subs.ViewID)&^(perFetch-1)
	return &Machine{handlers: h, nonce: nonce, ids: map[uint32]bool{}, lastID: lastID}
}

// Op is what an Action asks for.
type Op uint8

const (
	Subscribe     Op = iota // Want, for subs.View
	Unsubscribe             // Want.Filter, for subs.View
	PublishMarker           // Payload to the marker's topic at QoS 1; report NoMarker(Want.Filter, Fetch) if it fails
	Filled                  // View has all that is retained, known by End
	Lost                    // View must be filled again: the connection has ended
	Refill                  // View must be filled again, on this connection; Again: because another view has asked
	Refused                 // the server refuses View's filter with Err; the next connection tries again
	Failed                  // Want.Filter failed with Err, whatever views it has
)

// Action is one thing to do, in the order in which they are returned.
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
	live   uint32    // of the second one; 0: there is none
	fetch  uint64    // number of the last fetch; 0: no SUBSCRIBE was sent
	again  bool      // it is due only because a view has asked again
	owed   bool      // the marker is on its way
	moved  time.Time // when the last message of the fetch came
	kept   bool      // the server may still send messages of an earlier subscription
	doubt  bool      // no identifier tells whether it has sent one, or a new one

	theirs       uint32 // identifier of the application's subscription to the same filter; 0: none
	before       uint32 // id of the fetch before, whose messages may still be on their way
	beforeTheirs uint32 // what theirs was then
	flagged      bool   // the SUBSCRIBE that fetches has Retain As Published: just what is retained has the flag
}

// phase is where a subscription is on the present connection.
type phase uint8

const (
	due       phase = iota // to be fetched
	filling                // SUBSCRIBE is sent
	following              // all retained messages have come
	denied                 // the server refuses it
	ending                 // it has no views any more
)

// take returns the actions of one event. They are valid until the next event.
func (m *Machine) take() []Action {
	list := m.actions
	m.actions = m.actions[:0]
	return list
}

func (m *Machine) do(a Action) { m.actions = append(m.actions, a) }

// Add begins to use a filter. A fetch that runs for others goes on, so that it comes
// to an end; after it all is fetched once more.
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

// Remove ends the use of a filter.
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

// Ended takes that an Unsubscribe has been done.
func (m *Machine) Ended(filter string) {
	if s := m.filters.Value(filter); s != nil && s.phase == ending {
		m.filters.Delete(filter)
		delete(m.ids, s.id&^shares)
	}
}

// Connected begins a connection.
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

// Disconnected ends it.
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

// Displaced takes that the application has subscribed to the filter, or unsubscribed.
func (m *Machine) Displaced(filter string) []Action {
	if s := m.filters.Value(filter); s != nil && s.phase != ending && m.conn != nil {
		m.unfill(s, Action{Do: Refill})
		s.kept = true
		m.enqueue(s)
	}
	return m.advance()
}

// enqueue has a subscription fetched.
func (m *Machine) enqueue(s *subscription) {
	s.phase = due
	if m.conn != nil && !slices.Contains(m.queue, s) {
		m.queue = append(m.queue, s)
	}
}

// settle ends the fetch that runs, if any.
func (m *Machine) settle(s *subscription) {
	s.owed = false
	m.waiting = slices.DeleteFunc(m.waiting, func(other *subscription) bool { return other == s })
	if m.asking == s {
		m.asking = nil
	}
}

// unfill has all views filled again, and reports it to those that may have something.
func (m *Machine) unfill(s *subscription, report Action) {
	m.settle(s)
	for _, v := range s.views {
		if v.filled, v.fetch = false, 0; s.fetch > 0 {
			report.View = v
			m.do(report)
		}
	}
}
