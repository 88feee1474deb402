package client

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// taps are the subscriptions that the client makes for itself, to fetch and follow
// retained messages. They are kept up by keepTaps, one goroutine per connection,
// which owns all their requests. What they bring is taken on the reader's
// goroutine, in the order in which it comes, and goes to no handler unless the
// program's own subscriptions bring it too.
//
// The server has one subscription for each filter, so all taps with the same
// filter share a source, and share it with the program if that has subscribed to
// just this filter. Each SUBSCRIBE of ours has a Subscription Identifier of its
// own, where the server knows such: it tells what answers it from what was under
// way before.
type taps struct {
	used atomic.Bool // since a tap was ever made: without, nothing here costs anything
	turn sync.Mutex  // held while users are told, so that they hear all in order; taken before mu

	mu      sync.Mutex
	sources []*source
	gen     uint64 // the connection; 0: none
	subIDs  bool   // the server knows Subscription Identifiers
	resumed bool   // it had our session
	last    uint32 // the identifier given out last; 0: none
	copies  copies
	marker  marker
	wake    chan struct{} // keepTaps has something to do
	dropped chan struct{} // closed when a source goes; nil: nobody waits

	matched []match // of tapped; the reader's alone
	own     bool    // ownTopic has brought what tapped looked at last; the reader's alone
}

// tap is one user of a source.
type tap struct {
	filter  string
	qos     QoS           // of the subscription that stays
	rap     bool          // that has Retain As Published
	silence time.Duration // how long it must be silent where no marker tells the end
	user    tapUser
	fill    uint64 // that which brings it what is retained; 0: it waits for the next. Under taps.mu
	filled  bool   // all has come. Under taps.mu
}

// match is a tap that a message is for.
type match struct {
	t    *tap
	from origin
}

// origin is what brought a message.
type origin uint8

const (
	fromPast origin = iota // it may be older than our subscription
	fromFill               // the SUBSCRIBE that fetches: a retained message, or one published right behind it
	fromLive               // the subscription that stays
)

// tapUser is told what happens. The functions must not block and must not call
// taps; take runs on the reader's goroutine.
type tapUser interface {
	take(m *Message, from origin)
	filled(end SyncEnd) (again bool) // all that is retained has come; again: fetch once more
	lost(alive time.Time)            // it has to be filled again
	refill(again bool)               // the same, on a link that stands; again: since another user asks for that again
	refused(err error)               // by the server; the next connection tries again
}

// source is a filter that we have subscribed to, or will.
type source struct {
	filter string
	taps   []*tap
	phase  phase
	asked  bool   // a SUBSCRIBE was sent, so the server may have it
	id     uint32 // Subscription Identifier of the last SUBSCRIBE that fetches
	live   uint32 // and of the one behind it
	fill   uint64 // counts the SUBSCRIBEs that fetch
	nonce  string // in the marker behind it
	again  bool   // it is due only because a user asks for it again
	owed   bool   // the marker is under way
	kept   bool   // the server may still bring words of a subscription before this one
	doubt  bool   // and no identifier tells whether it has, or whether they are new
	moved  time.Time
	timer  *time.Timer // looks whether it is silent
	shared bool        // with a subscription of the program's
	theirs uint32      // its Subscription Identifier; 0: none
	// flagged: the SUBSCRIBE that fetches has Retain As Published, so that what comes
	// with the flag is retained, and what comes without is not.
	flagged bool
}

// phase is where a source stands on the present connection.
type phase uint8

const (
	due      phase = iota // to be filled
	filling               // SUBSCRIBE is sent
	standing              // all has come
	denied                // the server refuses it
	ending                // nobody uses it any more
)

// copies is what a server does with a message that several subscriptions match
// [MQTT-3.3.4-3].
type copies uint8

const (
	copiesUnknown copies = iota
	oneCopy              // with all identifiers
	manyCopies           // each with one
)

// Subscription Identifiers from firstTapID to lastTapID are the client's own.
const (
	firstTapID = 200_000_000
	lastTapID  = 200_065_535
	markerID   = firstTapID
	probeID    = firstTapID + 1
	ownID      = firstTapID + 2 // of ownTopic
	sourceID   = firstTapID + 4 // and following: even for a SUBSCRIBE that fetches, the next for the one behind it
)

// fetches reports whether an identifier of ours is that of a SUBSCRIBE that fetches.
func fetches(id uint32) bool { return id >= sourceID && id%2 == 0 }

func isTapID(id uint32) bool { return id >= firstTapID && id <= lastTapID }

// maxSources bounds the filters, and with them the time that a message takes and the
// identifiers in use.
const maxSources = 10_000

// ErrTooManyFilters says that 10,000 filters are watched, mirrored or fetched at a
// time.
var ErrTooManyFilters = errors.New("client: 10,000 filters are watched, mirrored or fetched already; close some, or use one with a wildcard for many")

// addTap begins to use a filter. What is being fetched for others goes on, so that
// many who come one after the other do not keep each other from an end; behind it
// all is fetched once more.
func (c *Client) addTap(t *tap) error {
	ts := &c.taps
	ts.mu.Lock()
	defer ts.mu.Unlock()
	s := ts.find(t.filter)
	if s == nil {
		if len(ts.sources) >= maxSources {
			return ErrTooManyFilters
		}
		s = &source{filter: t.filter, kept: ts.resumed} // perhaps for an earlier process
		ts.sources = append(ts.sources, s)
	}
	ts.used.Store(true)
	s.taps = append(s.taps, t)
	if s.phase != filling {
		s.phase, s.again = due, false
	}
	ts.kick()
	return nil
}

// removeTap ends the use. Whoever uses the tap may still be told something that
// was under way.
func (c *Client) removeTap(t *tap) {
	ts := &c.taps
	ts.mu.Lock()
	if s := ts.find(t.filter); s != nil {
		s.taps = slices.DeleteFunc(s.taps, func(other *tap) bool { return other == t })
		if len(s.taps) == 0 {
			s.phase = ending
			if !s.asked {
				ts.drop(s)
			}
		}
	}
	ts.mu.Unlock()
	ts.kick()
}

// disturbed says that the program has subscribed to a filter, or unsubscribed: if
// it is a source's, the server has taken ours for theirs.
func (c *Client) disturbed(filter string) {
	ts := &c.taps
	if !ts.used.Load() {
		return
	}
	ts.turn.Lock()
	defer ts.turn.Unlock()
	ts.mu.Lock()
	var told []*tap
	if s := ts.find(filter); s != nil && s.phase != ending && ts.gen != 0 {
		s.phase, s.kept = due, true
		told = ts.unfill(s)
	}
	ts.mu.Unlock()
	for _, t := range told {
		t.user.refill(false)
	}
	ts.kick()
}

// unfill says that a source has to be filled again, and returns whom to tell.
func (ts *taps) unfill(s *source) (told []*tap) {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.owed = false
	for _, t := range s.taps {
		if s.asked {
			told = append(told, t)
		}
		t.filled, t.fill = false, 0
	}
	return told
}

func (ts *taps) find(filter string) *source {
	for _, s := range ts.sources {
		if s.filter == filter {
			return s
		}
	}
	return nil
}

func (ts *taps) drop(s *source) {
	if s.timer != nil {
		s.timer.Stop()
	}
	ts.sources = slices.DeleteFunc(ts.sources, func(other *source) bool { return other == s })
	if ts.dropped != nil {
		close(ts.dropped)
		ts.dropped = nil
	}
}

// leaveTaps waits until the server has ended the subscriptions of views that are
// closed, and not for ever: a session that is kept would go on to collect
// for them, and what the program subscribed to would have less room there.
func (c *Client) leaveTaps(up *link.Up) {
	timer := time.NewTimer(c.patience())
	defer timer.Stop()
	ts := &c.taps
	for up.SessionExpiry > 0 {
		ts.mu.Lock()
		if !slices.ContainsFunc(ts.sources, func(s *source) bool { return s.phase == ending }) {
			ts.mu.Unlock()
			return
		}
		if ts.dropped == nil {
			ts.dropped = make(chan struct{})
		}
		dropped := ts.dropped
		ts.mu.Unlock()
		select {
		case <-dropped:
		case <-timer.C:
			return
		case <-up.Failed():
			return
		}
	}
}

func (ts *taps) kick() {
	select {
	case ts.wake <- struct{}{}:
	default:
	}
}

// newID is a Subscription Identifier that no source has; nor has any the next. The
// first is a random one: what a kept session still has for an earlier process must
// not be taken for an answer to this one.
func (ts *taps) newID() uint32 {
	if ts.last == 0 {
		ts.last = sourceID + 2*rand.Uint32N((lastTapID-sourceID)/2)
	}
	for {
		if ts.last += 2; ts.last < sourceID || ts.last >= lastTapID {
			ts.last = sourceID
		}
		if !slices.ContainsFunc(ts.sources, func(s *source) bool { return s.id == ts.last }) {
			return ts.last
		}
	}
}
