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
	subs        *subs.Table
	router      *router
	markerTopic string // Config.Presence.MarkerTopic
	observer    viewsObserver
	losses      viewLosses
	used        atomic.Bool // a view was ever opened: without, a message costs one load

	mu      sync.Mutex // held while users are called, so that they get everything in order
	machine *retained.Machine
	up      *link.Up // nil: not connected
	marker  string   // topic of the marker on this connection; empty: none is published
	alarm   alarm    // of the machine's deadline
	closed  bool     // no view may be opened any more
	opened  sync.WaitGroup
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

func (v *views) init(table *subs.Table, r *router, markerTopic string, observer viewsObserver) {
	v.subs, v.router, v.markerTopic, v.observer, v.losses.observer = table, r, markerTopic, observer, observer
	v.machine = retained.New(application{v.subs, v.router}, rand.Uint32(), NewMessageID().String())
}

// connected begins a connection.
func (v *views) connected(up *link.Up, clientID string) {
	v.mu.Lock()
	v.up, v.marker = up, v.markerTopic
	if v.marker == "" {
		v.marker = "mooring/marker/" + strings.NewReplacer("+", "_", "#", "_", "/", "_").Replace(clientID)
	}
	l := up.Gen.Limits
	if v.marker == NoMarker || len(v.marker) > wire.MaxString || l.MaximumQoS < 1 { // at QoS 0 a refusal would not be reported
		v.marker = ""
	}
	conn := retained.Connection{Present: up.Gen.Present, SubIDs: l.SubIDAvailable, Marker: v.marker}
	if !l.RetainAvailable {
		conn.Unavailable = &RefusedError{Code: wire.ReasonRetainNotSupported, Reason: "the server has no retained messages"}
	}
	v.wantMarkerLocked()
	v.unlock(v.machine.Connected(conn))
}

// wantMarkerLocked subscribes to the marker's topic: at QoS 0, so that the marker is
// queued with what is fetched, or at QoS 1, after what the session has kept, if no
// identifier tells that from new messages.
func (v *views) wantMarkerLocked() {
	if v.up != nil && v.marker != "" && v.used.Load() {
		w := subs.Want{Filter: v.marker, RetainHandling: 2, ID: subs.MarkerID}
		if !v.up.Gen.Limits.SubIDAvailable {
			w.QoS = 1
		}
		v.subs.Set(subs.Marker, w)
	}
}

// disconnected ends the connection.
func (v *views) disconnected() {
	v.mu.Lock()
	v.unlock(v.machine.Disconnected())
	v.mu.Lock()
	defer v.mu.Unlock()
	v.up = nil
}

// open begins to use a filter.
func (v *views) open(use *retained.View) error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return ErrClosed
	}
	v.used.Store(true)
	v.wantMarkerLocked()
	actions, err := v.machine.Add(use)
	if err != nil {
		v.mu.Unlock()
		return ErrTooManyFilters
	}
	v.opened.Add(1)
	v.unlock(actions)
	return nil
}

// close ends the use of a filter.
func (v *views) close(use *retained.View) {
	defer v.opened.Done()
	v.mu.Lock()
	v.unlock(v.machine.Remove(use))
	use.User.(viewUser).finish()
}

// end waits until all views have been closed, which the end of the client begins.
func (v *views) end() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.opened.Wait()
}

// call runs a function that calls functions of the application.
func (v *views) call(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.calls.Go(f)
	}
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
	v.mu.Lock()
	var actions []retained.Action
	switch filter := r.Want.Filter; {
	case r.Owner == subs.Marker:
		v.machine.MarkerSubscribed(r.Err == nil)
	case r.Ended:
		v.machine.Ended(filter)
	case r.Displaced:
		actions = v.machine.Displaced(filter)
	case r.Err != nil:
		actions = v.machine.Denied(filter, r.Want.ID, refusedError(r.Err))
	default:
		actions = v.machine.Subscribed(time.Now(), filter, r.Want.ID)
	}
	v.unlock(actions)
}

func (v *views) tick() {
	v.mu.Lock()
	v.alarm.rang()
	v.unlock(v.machine.Tick(time.Now()))
}

// unlock performs the actions of an event and unlocks. Then it does what must be done
// without the lock: writing to the connection may wait for the reader, which takes it.
func (v *views) unlock(actions []retained.Action) {
	later := v.performLocked(actions)
	up, topic := v.up, v.marker
	v.mu.Unlock()
	for _, a := range later {
		if a.Do == retained.Failed {
			v.observer.subscriptionFailed(a.Want.Filter, a.Err)
		} else {
			v.publishMarker(up, topic, a)
		}
	}
}

// performLocked performs actions and returns those that must be done without the lock.
func (v *views) performLocked(actions []retained.Action) (later []retained.Action) {
	var again []*retained.View
	for _, a := range actions {
		var user viewUser
		if a.View != nil {
			user = a.View.User.(viewUser)
		}
		switch a.Do {
		case retained.Subscribe:
			v.subs.Set(subs.View, a.Want)
		case retained.Unsubscribe:
			if v.subs.Remove(subs.View, a.Want.Filter) {
				v.machine.Ended(a.Want.Filter)
			}
		case retained.PublishMarker, retained.Failed:
			later = append(later, a)
		case retained.Filled:
			if user.filled(SyncEnd(a.End)) {
				again = append(again, a.View)
			}
		case retained.Lost:
			user.lost(v.up.LastReceived())
		case retained.Refill:
			user.refill(a.Again)
		case retained.Refused:
			user.refused(a.Err)
		}
	}
	for _, use := range again {
		later = append(later, v.performLocked(v.machine.Again(use))...)
	}
	v.alarm.set(v.machine.Deadline(), v.tick)
	return later
}

// publishMarker publishes the marker after a SUBSCRIBE.
func (v *views) publishMarker(up *link.Up, topic string, a retained.Action) {
	failed := func() {
		v.mu.Lock()
		v.machine.NoMarker(time.Now(), a.Want.Filter, a.Fetch)
		v.unlock(nil)
	}
	p := wire.Publish{Topic: topic, Payload: []byte(a.Payload), QoS: 1}
	err := up.Gen.PublishUnstored(wire.AppendPublish(nil, &p), func(reason byte, err error) {
		if err != nil || reason != wire.ReasonSuccess { // 0x10: nobody has subscribed to it, so it will not come
			failed()
		}
		if err == nil && reason >= 0x80 {
			v.observer.markerFailed(topic, &RefusedError{Code: reason, Reason: "marker"})
		}
	})
	if err != nil {
		failed()
	}
}

// observe gives a received message to the views that it is for.
// only: no handler has asked for the message. seen: it may have come for the client's own
// subscriptions alone, which the handlers that it is for decide.
func (v *views) observe(m *Message, ids retained.IDs) (from origin, only, seen bool) {
	from = newOrigin(ids.Application, ids.Status || len(ids.Views) > 0)
	if ids.Status && len(ids.Views)+len(ids.Application) == 0 {
		return from, true, true // what this brings is not for the application
	}
	if !v.used.Load() { // the identifiers of views are of an earlier process
		from.anybody = slices.ContainsFunc(ids.Views, retained.Shares)
		return from, false, from.internal
	}
	v.mu.Lock()
	if v.marker == m.Topic {
		v.unlock(v.machine.Marked(m.Payload))
		return from, true, true
	}
	defer v.mu.Unlock()
	r := v.machine.Message(time.Now(), retained.Message{Topic: m.Topic, QoS: byte(m.QoS), Retain: m.Retain, IDs: ids})
	from.add(r.IDs)
	from.anybody, from.raised = r.Unknown, from.raised || r.Raised
	for _, to := range r.To {
		to.View.User.(viewUser).take(m.clone(), to.Origin) // each user may change its copy
	}
	return from, r.Answer, from.internal || r.Guess
}

// application answers what the machine has to know of the application.
type application struct {
	*subs.Table
	router *router
}

func (a application) Overlap(filter string) bool { return a.router.overlaps(filter) }

// clone copies a message and all that it refers to and that may be changed.
func (m *Message) clone() *Message {
	twin := *m
	twin.Payload, twin.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
	twin.UserProperties, twin.SubscriptionIDs = slices.Clone(m.UserProperties), slices.Clone(m.SubscriptionIDs)
	return &twin
}

// overlaps reports whether a topic that a filter matches may have a handler whose own
// filter is not that of a Shared Subscription.
func (r *router) overlaps(filter string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.ContainsFunc(r.tree.Overlapping(filter, nil), func(have *route) bool { return !have.Shared })
}

func isShared(filter string) bool {
	_, _, shared := wire.SplitShare(filter)
	return shared
}
