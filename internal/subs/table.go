// Package subs keeps the server's list of subscriptions in line with the wants of the client's
// parts. A server has one subscription per topic filter. Several owners may want the same filter
// with different options. The table computes the one SUBSCRIBE that serves all of them.
package subs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Table holds the wanted subscriptions and the subscriptions of the server's session. All methods
// are safe for concurrent use. Use New.
type Table struct {
	cfg  Config
	wake notify.Signal // set when Run has something to do

	mu       sync.Mutex
	entries  topic.Tree[*entry]
	queues   [classes]queue     // entries that differ from the server's list
	out      map[*exchange]bool // unanswered packets
	status   *entry             // the entry that Status wants and that others may cover; may be nil
	count    uint64             // number of wants that were set
	made     uint64             // number of requested subscriptions of the application
	first    bool               // the session began in this process
	conn     *connection        // nil: not connected
	retry    retry
	changed  notify.Broadcast // notified after an answer and at the end of a connection
	overlaps bool             // Result.Overlaps was already reported
}

// Config connects a Table to the client.
type Config struct {
	// Report is called for each refusal, and for each result for which no caller waits. Calls are
	// sequential, without a lock held.
	Report   func(Result)
	NoAnswer error // ends a connection whose server does not answer a request
	// Backoff returns the delay before refused subscriptions are requested again on the same
	// connection, if the reason code is temporary. Attempts count from 0. nil: they are requested
	// on the next connection only.
	Backoff func(attempt int) time.Duration

	Ending    context.Context         // ends with the client
	WaitEnded func(cause error) error // returns the error of Await if its context ends
}

// entry is one topic filter.
type entry struct {
	filter string
	want   [owners]*want  // nil: the owner has no want
	served [owners]uint64 // number of the want that the server's subscription serves; 0: none
	id     uint32         // Subscription Identifier of that subscription; 0: none
	has    bool           // the server's session may have a subscription to the filter

	made     uint64              // position of the application's first request in the session; 0: not requested
	ended    bool                // the application has ended its subscription, but the server may still have it
	granted  byte                // QoS of the application's subscription
	err      error               // of the application's last request; nil: granted
	user     []wire.UserProperty // for UNSUBSCRIBE
	waiting  []*Request          // callers that wait for the next answer
	queued   [classes]bool
	out      bool // a request is unanswered
	viewEnds bool // the end of a view must be reported
	parked   bool // nothing is requested on this connection, because all callers have stopped waiting for the answer
}

type want struct {
	Want
	number  uint64
	refused refusals
	settled bool // no request needed: it was refused on this connection, or it belongs to a view, which requests it once
}

// New returns an empty Table.
func New(cfg Config) *Table {
	return &Table{cfg: cfg, wake: notify.New(), out: map[*exchange]bool{}}
}

// Set declares a subscription that an owner other than the application wants. The table requests it
// now or on the next connection, and again in every session that lacks it. Setting the same want
// again has no effect. For a view, the table sends one request for each call.
func (t *Table) Set(o Owner, w Want) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.Value(w.Filter); e == nil || o == View || e.want[o] == nil || !same(e.want[o].Want, w) {
		t.touchLocked(t.setLocked(o, w))
	}
}

// same reports whether two wants without user properties are equal.
func same(a, b Want) bool {
	return a.QoS == b.QoS && a.NoLocal == b.NoLocal && a.RetainAsPublished == b.RetainAsPublished &&
		a.RetainHandling == b.RetainHandling && a.ID == b.ID
}

func (t *Table) setLocked(o Owner, w Want) *entry {
	e := t.entries.Value(w.Filter)
	if e == nil {
		e = &entry{filter: w.Filter}
	}
	if o == Application || t.entries.Get(w.Filter) == nil {
		t.entries.Set(w.Filter, e) // moves it to the end of the order of declaration
	}
	if o == Status {
		t.status = e
	}
	t.count++
	e.parked, e.viewEnds = false, e.viewEnds && o != View
	e.want[o] = &want{Want: w, number: t.count}
	return e
}

// Remove removes a want. The table then ends the subscription at the server, or returns it to the
// other owners. Unless ended is true, a Result with Ended follows.
func (t *Table) Remove(o Owner, filter string) (ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries.Value(filter)
	if e == nil || e.want[o] == nil {
		return true
	}
	t.dropLocked(e, o)
	t.touchLocked(e)
	t.tidyLocked(e)
	ended = !e.has || e.served[o] == 0 && e.wanted() && !e.out
	e.viewEnds = e.viewEnds || o == View && !ended
	return ended
}

func (t *Table) dropLocked(e *entry, o Owner) {
	if o == Status {
		t.status = nil
	}
	if w := e.want[o]; w != nil && o == Application {
		w.Made.Set(0, false)
		e.made, e.ended = 0, e.has
	}
	e.want[o], e.parked = nil, false
}

// wanted reports whether any owner wants the entry.
func (e *entry) wanted() bool { return e.want != [owners]*want{} }

// tidyLocked deletes an entry that no owner wants and the server does not have.
func (t *Table) tidyLocked(e *entry) {
	if t.entries.Value(e.filter) == e && !e.wanted() && !e.has && len(e.waiting) == 0 {
		t.entries.Delete(e.filter)
	}
}

// Receives reports whether the application has subscriptions in this session, so that messages may
// wait in it.
func (t *Table) Receives() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.entries.All() {
		if x := e.Value; x.want[Application] != nil || x.want[View] != nil {
			return true
		}
	}
	return false
}

// Application returns the application's want for exactly this filter.
func (t *Table) Application(filter string) (w Want, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.Value(filter); e != nil && e.want[Application] != nil {
		return e.want[Application].Want, true
	}
	return Want{}, false
}

// Delivers reports whether a message on the status topic without Subscription Identifiers may
// belong to a subscription of the application. own means that this client has published the
// message.
func (t *Table) Delivers(name string, own bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || t.conn.limits.SubIDAvailable {
		return true // the subscription of Status has an identifier
	}
	return slices.ContainsFunc(t.entries.Match(name, nil), func(e *topic.Entry[*entry]) bool {
		app := e.Value.want[Application]
		return app != nil && !(app.NoLocal && own)
	})
}

// coveredLocked reports whether Status needs no separate subscription to a topic. That is the case
// if the server has another subscription that covers all messages, or will have one for exactly
// this filter.
func (t *Table) coveredLocked(name string) bool {
	return slices.ContainsFunc(t.entries.Match(name, nil), func(e *topic.Entry[*entry]) bool {
		app := e.Value.want[Application]
		if e.Filter == name {
			return app != nil || e.Value.want[View] != nil
		}
		return app != nil && e.Value.served[Application] == app.number && !app.NoLocal && !e.Shared
	})
}

// overlapLocked returns two filters of the application that match the same messages, if one of them
// belongs to e. Shared Subscriptions do not count, because they get separate messages.
func (t *Table) overlapLocked(e *entry) (r Result, found bool) {
	counts := func(x *topic.Entry[*entry]) bool { return !x.Shared && x.Value.want[Application] != nil }
	if one := t.entries.Get(e.filter); one == nil || !counts(one) {
		return Result{}, false
	}
	for _, other := range t.entries.Overlapping(e.filter, nil) {
		if other.Value != e && counts(other) {
			return Result{Owner: Application, Want: e.want[Application].Want, Overlaps: other.Filter}, true
		}
	}
	return Result{}, false
}
