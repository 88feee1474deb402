package client

import (
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

// views runs the state machine of internal subscriptions. It passes events to the machine and
// performs the machine's actions.
type views struct {
	subs        *subs.Table
	router      *router
	markerTopic string // Config.Presence.MarkerTopic
	observer    viewsObserver
	losses      viewLosses
	used        atomic.Bool // a view was opened; before that, a received message costs one atomic load

	mu      sync.Mutex // held during the calls of viewUser methods, so that the calls are in order
	machine *retained.Machine
	up      *link.Up       // nil while disconnected
	marker  string         // topic of the marker message on this connection; empty if no marker is used
	alarm   alarm          // set to the machine's deadline
	closed  bool           // no more views may be opened
	opened  sync.WaitGroup // open views
	calls   sync.WaitGroup // goroutines that call functions of the application
}

// viewUser is the user of a retained.View. Its methods must not block and must not call views. take
// runs on the goroutine that reads the connection.
type viewUser interface {
	take(m *Message, from retained.Origin)
	filled(end SyncEnd) (again bool) // all retained messages were received; true requests another fetch
	lost(alive time.Time)            // the connection was lost; alive is the time of the server's last packet
	refill(again bool)               // a new fetch begins; again is true if another user requested it
	refused(err error)               // the server refused the subscription; the next connection tries again
	finish()                         // the view is closed
}

func (v *views) init(table *subs.Table, r *router, markerTopic string, observer viewsObserver) {
	v.subs, v.router, v.markerTopic, v.observer, v.losses.observer = table, r, markerTopic, observer, observer
	v.machine = retained.New(application{v.subs, v.router}, rand.Uint32(), NewMessageID().String())
}

// connected informs the machine that a connection is up.
func (v *views) connected(up *link.Up, clientID string) {
	v.mu.Lock()
	v.up, v.marker = up, v.markerTopic
	if v.marker == "" {
		v.marker = "mooring/marker/" + strings.NewReplacer("+", "_", "#", "_", "/", "_").Replace(clientID)
	}
	l := up.Gen.Limits
	if v.marker == NoMarker || len(v.marker) > wire.MaxString || l.MaximumQoS < 1 { // QoS 0 would not report a refusal
		v.marker = ""
	}
	conn := retained.Connection{Present: up.Gen.Present, SubIDs: l.SubIDAvailable, Marker: v.marker}
	if !l.RetainAvailable {
		conn.Unavailable = &RefusedError{Code: wire.ReasonRetainNotSupported, Reason: "the server has no retained messages"}
	}
	v.wantMarkerLocked()
	v.unlock(v.machine.Connected(conn))
}

// wantMarkerLocked subscribes to the topic of the marker. Normally, it uses QoS 0, so that the
// server queues the marker after the fetched messages. Without Subscription Identifiers, the client
// cannot distinguish old messages from new ones. It then uses QoS 1, so that the marker arrives
// after the messages that were queued in the session.
func (v *views) wantMarkerLocked() {
	if v.up != nil && v.marker != "" && v.used.Load() {
		w := subs.Want{Filter: v.marker, RetainHandling: 2, ID: subs.MarkerID}
		if !v.up.Gen.Limits.SubIDAvailable {
			w.QoS = 1
		}
		v.subs.Set(subs.Marker, w)
	}
}

// disconnected informs the machine that the connection has ended.
func (v *views) disconnected() {
	v.mu.Lock()
	v.unlock(v.machine.Disconnected())
	v.mu.Lock()
	defer v.mu.Unlock()
	v.up = nil
}

// open adds a view of the messages that match a filter.
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

// close removes a view.
func (v *views) close(use *retained.View) {
	defer v.opened.Done()
	v.mu.Lock()
	v.unlock(v.machine.Remove(use))
	use.User.(viewUser).finish()
}

// end waits until all views are closed. Each view closes when the client ends.
func (v *views) end() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.opened.Wait()
}

// call runs f on a new goroutine. f calls functions of the application.
func (v *views) call(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.calls.Go(f)
	}
}

// awaitCalls waits until all goroutines that call has started have ended, but at most for limit.
// The caller must have called end before.
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

// result processes the result of a subscription for a view or for the marker.
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

// unlock performs actions and unlocks v.mu. It performs actions that may block after it has
// unlocked v.mu. For example, a write may wait for the reading goroutine, which needs v.mu.
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

// performLocked performs actions. It returns the actions that must be performed without the lock.
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

// publishMarker publishes the marker message after the server has granted a SUBSCRIBE.
func (v *views) publishMarker(up *link.Up, topic string, a retained.Action) {
	failed := func() {
		v.mu.Lock()
		v.machine.NoMarker(time.Now(), a.Want.Filter, a.Fetch)
		v.unlock(nil)
	}
	p := wire.Publish{Topic: topic, Payload: []byte(a.Payload), QoS: 1}
	err := up.Gen.PublishUnstored(wire.AppendPublish(nil, &p), func(reason byte, text string, err error) {
		if err != nil || reason != wire.ReasonSuccess { // after 0x10 (no subscriber), the marker does not arrive
			failed()
		}
		if err == nil && reason >= 0x80 {
			v.observer.markerFailed(topic, &RefusedError{Code: reason, Reason: text, about: "marker"})
		}
	})
	if err != nil {
		failed()
	}
}

// observe passes a received message to the views that need it. The result only is true if no
// handler requested the message. The result seen is true if the server may have sent the message
// only for internal subscriptions. In that case, the caller must check whether a handler has a
// subscription that matches the message.
func (v *views) observe(m *Message, ids retained.IDs) (from origin, only, seen bool) {
	from = newOrigin(ids.Application, ids.Status || len(ids.Views) > 0)
	if ids.Status && len(ids.Views)+len(ids.Application) == 0 {
		return from, true, true // the server sent it for the client's subscription to the status topic
	}
	if !v.used.Load() { // an earlier process used the identifiers of views
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

// application answers the machine's questions about the application's subscriptions.
type application struct {
	*subs.Table
	router *router
}

func (a application) Overlap(filter string) bool { return a.router.overlaps(filter) }

// overlaps reports whether a topic exists that matches both filter and the filter of a handler.
// Handlers of Shared Subscriptions do not count.
func (r *router) overlaps(filter string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.ContainsFunc(r.tree.Overlapping(filter, nil), func(have *route) bool { return !have.Shared })
}

func isShared(filter string) bool {
	_, _, shared := wire.SplitShare(filter)
	return shared
}
