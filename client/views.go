package client

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// views runs the state machine of the internal subscriptions: it gives it events, and
// performs its actions.
type views struct {
	c    *Client
	used atomic.Bool // a view was ever added: without, a message costs one load

	mu      sync.Mutex // held while users are called, so that they get everything in order
	machine *retained.Machine
	up      *link.Up // nil: not connected
	marker  string   // topic of the marker, whether it can be used on this connection or not
	alarm   alarm
	closed  bool           // no view may be opened any more
	opened  sync.WaitGroup // views
	calls   sync.WaitGroup // goroutines that call functions of the application
}

// viewUser is what uses a retained.View. Its methods must not block and must not call
// views; take runs on the reader's goroutine.
type viewUser interface {
	take(m *Message, from retained.Origin)
	filled(end SyncEnd) (again bool) // all that is retained has come; again: fetch once more
	lost(alive time.Time)            // it has to be filled again on the next connection; alive: when the server was last heard
	refill(again bool)               // the same on this connection; again: because another user has asked again
	refused(err error)               // by the server; the next connection tries again
	finish()                         // the view is closed
}

func (v *views) init(c *Client) {
	v.c = c
	v.machine = retained.New(handlers{c}, rand.Uint32(), NewMessageID().String())
}

// markerTopic is Config.Presence.MarkerTopic, or a topic with the ClientID; empty: no
// marker can be published on this connection.
func (v *views) markerTopic(up *link.Up) string {
	topic := v.c.cfg.Presence.MarkerTopic
	if topic == "" {
		topic = "mooring/marker/" + strings.NewReplacer("+", "_", "#", "_", "/", "_").Replace(v.c.ClientID())
	}
	// At QoS 0 the server would not report that it refuses the marker.
	if topic == NoMarker || len(topic) > wire.MaxString || up.Gen.Limits.MaximumQoS < 1 {
		return ""
	}
	return topic
}

// connected begins a connection.
func (v *views) connected(up *link.Up) {
	v.step(func(m *retained.Machine, _ time.Time) []retained.Action {
		conn := retained.Connection{Present: up.Gen.Present, SubIDs: up.Gen.Limits.SubIDAvailable, Marker: v.markerTopic(up)}
		if !up.Gen.Limits.RetainAvailable {
			conn.Unavailable = &RefusedError{Code: wire.ReasonRetainNotSupported, Reason: "the server has no retained messages"}
		}
		if v.up = up; conn.Marker != "" {
			v.marker = conn.Marker
		}
		v.wantMarkerLocked()
		return m.Connected(conn)
	})
}

// wantMarkerLocked subscribes to the marker's topic: at QoS 0, so that the marker is
// queued with what is fetched, or at QoS 1, behind what the session has kept where no
// identifier tells that from new messages.
func (v *views) wantMarkerLocked() {
	if !v.used.Load() || v.up == nil || v.markerTopic(v.up) == "" {
		return
	}
	w := subs.Want{Filter: v.marker, RetainHandling: 2, ID: subs.MarkerID}
	if !v.up.Gen.Limits.SubIDAvailable {
		w.QoS = 1
	}
	v.c.subs.Set(subs.Marker, w)
}

// disconnected ends it.
func (v *views) disconnected() {
	v.step(func(m *retained.Machine, _ time.Time) []retained.Action { return m.Disconnected() })
	v.mu.Lock()
	defer v.mu.Unlock()
	v.up = nil
}

// open begins to use a filter.
func (v *views) open(use *retained.View) (err error) {
	v.step(func(m *retained.Machine, _ time.Time) (actions []retained.Action) {
		if v.closed || v.c.life.ending.Err() != nil {
			err = ErrClosed
			return nil
		}
		v.used.Store(true)
		v.wantMarkerLocked()
		if actions, err = m.Add(use); err != nil {
			err = ErrTooManyFilters
			return nil
		}
		v.opened.Add(1)
		return actions
	})
	return err
}

// close ends the use of a filter.
func (v *views) close(use *retained.View) {
	defer v.opened.Done()
	v.step(func(m *retained.Machine, _ time.Time) []retained.Action { return m.Remove(use) })
	use.User.(viewUser).finish()
}

// call runs a function that calls functions of the application.
func (v *views) call(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.calls.Go(f)
	}
}

// end waits until all views have been closed, which the end of the client begins.
func (v *views) end() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.opened.Wait()
}

// awaitCalls waits for the functions of call, after end, for at most limit.
func (v *views) awaitCalls(limit time.Duration) {
	ended := make(chan struct{})
	go func() {
		v.calls.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(limit):
	}
}

// result takes what became of a view's or the marker's subscription.
func (v *views) result(r subs.Result) {
	filter := r.Want.Filter
	v.step(func(m *retained.Machine, now time.Time) []retained.Action {
		switch {
		case r.Owner == subs.Marker:
			m.MarkerSubscribed(r.Err == nil)
		case r.Ended:
			m.Ended(filter)
		case r.Displaced:
			return m.Displaced(filter)
		case r.Err != nil:
			return m.Denied(filter, r.Want.ID, refusedError(r.Err))
		default:
			return m.Subscribed(now, filter, r.Want.ID)
		}
		return nil
	})
}

// step gives the machine an event and performs its actions.
func (v *views) step(event func(m *retained.Machine, now time.Time) []retained.Action) {
	v.mu.Lock()
	up := v.up
	later := v.performLocked(event(v.machine, time.Now()))
	v.mu.Unlock()
	for _, a := range later {
		if a.Do == retained.Failed {
			v.c.event(SubscriptionFailed{Filter: a.Want.Filter, Err: a.Err})
		} else {
			v.publishMarker(up, a)
		}
	}
}

// performLocked performs actions and returns those that must be done without the
// lock: writing to the connection may wait for the reader, which takes the lock.
func (v *views) performLocked(actions []retained.Action) (later []retained.Action) {
	var again []*retained.View
	for _, a := range actions {
		switch a.Do {
		case retained.Subscribe:
			v.c.subs.Set(subs.View, a.Want)
		case retained.Unsubscribe:
			if v.c.subs.Remove(subs.View, a.Want.Filter) {
				v.machine.Ended(a.Want.Filter)
			}
		case retained.PublishMarker, retained.Failed:
			later = append(later, a)
		case retained.Filled:
			if a.View.User.(viewUser).filled(SyncEnd(a.End)) {
				again = append(again, a.View)
			}
		case retained.Lost:
			a.View.User.(viewUser).lost(v.up.LastReceived())
		case retained.Refill:
			a.View.User.(viewUser).refill(a.Again)
		case retained.Refused:
			a.View.User.(viewUser).refused(a.Err)
		}
	}
	for _, rv := range again {
		later = append(later, v.performLocked(v.machine.Again(rv))...)
	}
	v.alarm.set(v.machine.Deadline(), v.tick)
	return later
}

func (v *views) tick() {
	v.step(func(m *retained.Machine, now time.Time) []retained.Action {
		v.alarm.rang()
		return m.Tick(now)
	})
}

// publishMarker publishes the marker behind a SUBSCRIBE.
func (v *views) publishMarker(up *link.Up, a retained.Action) {
	failed := func() {
		v.step(func(m *retained.Machine, now time.Time) []retained.Action {
			m.NoMarker(now, a.Want.Filter, a.Fetch)
			return nil
		})
	}
	p := wire.Publish{Topic: v.markerTopic(up), Payload: []byte(a.Payload), QoS: 1}
	err := up.Gen.PublishUnstored(wire.AppendPublish(nil, &p), func(reason byte, err error) {
		if err != nil || reason != wire.ReasonSuccess { // 0x10: nobody has subscribed to it, so it will not come
			failed()
		}
	})
	if err != nil {
		failed()
	}
}

// observe gives a received message to the views that it is for, and removes from it
// what handlers must not see. It reports whether no handler has asked for the message,
// and whether the subscription to this client's status topic has brought it.
func (v *views) observe(p *wire.Publish) (only, byStatus bool) {
	if len(p.SubscriptionIDs) == 0 && !v.used.Load() {
		return false, false
	}
	var room [4]uint32
	var ids retained.IDs
	p.SubscriptionIDs, ids = retained.SplitIDs(p.SubscriptionIDs, room[:0])
	if !v.used.Load() { // the identifiers are of an earlier process
		return (ids.Status || len(ids.Views) > 0) && !handlers{v.c}.Match(p.Topic).Any, ids.Status
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.marker == p.Topic {
		v.performLocked(v.machine.Marked(p.Payload))
		return true, ids.Status
	}
	r := v.machine.Message(time.Now(), retained.Message{Topic: p.Topic, QoS: p.QoS, Retain: p.Retain, IDs: ids})
	for i, to := range r.To {
		m := received(p)
		if !r.Only || i > 0 {
			m = m.clone() // each user may change its copy
		}
		to.View.User.(viewUser).take(m, to.Origin)
	}
	if p.SubscriptionIDs = append(p.SubscriptionIDs, r.IDs...); r.ClearRetain {
		p.Retain = false
	}
	return r.Only, ids.Status
}

// handlers answers what the machine has to know of the application.
type handlers struct{ c *Client }

func (h handlers) Application(filter string) (subs.Want, bool) {
	return h.c.subs.Of(subs.Application, filter)
}

func (h handlers) Overlap(filter string) bool { return h.c.router.overlaps(filter) }

func (h handlers) RetainAsPublished() bool { return h.c.retainAsPublished.Load() }

func (h handlers) Match(topic string) (found retained.Handled) {
	var room [4]*route
	found.Identified = true
	for _, r := range h.c.router.match(topic, room[:0]) {
		found.Any = true
		if !r.Shared {
			found.Alone = true
			found.Identified = found.Identified && h.c.subs.Identified(r.Filter)
		}
	}
	return found
}

// clone copies a message and all that it refers to and that may be changed.
func (m *Message) clone() *Message {
	twin := *m
	twin.Payload, twin.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
	twin.UserProperties, twin.SubscriptionIDs = slices.Clone(m.UserProperties), slices.Clone(m.SubscriptionIDs)
	return &twin
}
