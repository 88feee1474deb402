// Package subs keeps the server's list of subscriptions in line with what the parts of the client
// want. A server has one subscription for each topic filter. Several owners may want the same one,
// with different options; the table computes the one SUBSCRIBE that serves them.
package subs

import (
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Table is the list of subscriptions that are wanted, and what the server's session
// has of them. All methods are safe for concurrent use. Use New.
type Table struct {
	cfg  Config
	wake notify.Signal // Run has something to do

	mu       sync.Mutex
	entries  topic.Tree[*entry]
	queues   [classes]queue     // of entries that differ from what the server has
	out      map[*exchange]bool // without an answer
	status   *entry             // that Status wants, and others may cover; nil: none
	count    uint64             // of wants that were set
	made     uint64             // of subscriptions of the application that were asked for
	first    bool               // the session began in this process
	conn     *connection        // nil: not connected
	changed  notify.Broadcast   // the server has answered, or the connection ended
	overlaps bool               // Result.Overlaps was reported
}

// Config connects a Table to the client.
type Config struct {
	// Report gets each refusal, and each result that nobody waits for, one after the other, without a lock.
	Report   func(Result)
	NoAnswer error // ends a connection whose server does not answer a request
}

// entry is one topic filter.
type entry struct {
	filter string
	want   [owners]*want  // nil: the owner does not want it
	served [owners]uint64 // number of the want that the server's subscription includes; 0: none
	id     uint32         // the identifier of that subscription; 0: none
	has    bool           // the server's session may have a subscription to the filter

	made     uint64              // when the application's subscription was first asked for in the session; 0: not
	ended    bool                // the application has ended its subscription, and the server may still have it
	granted  byte                // QoS of the application's subscription
	err      error               // of the application's last request; nil: it was granted
	user     []wire.UserProperty // of UNSUBSCRIBE
	waiting  []*Request          // callers that wait for the next answer
	queued   [classes]bool
	out      bool // a request is without an answer
	viewEnds bool // the end of a view is to be reported
	parked   bool // nothing is asked on this connection: every caller has given up waiting for the answer
}

type want struct {
	Want
	number  uint64
	settled bool // not asked for: refused on this connection, or a view's, which is asked for once
}

// New returns an empty Table.
func New(cfg Config) *Table {
	return &Table{cfg: cfg, wake: notify.New(), out: map[*exchange]bool{}}
}

// Set declares a subscription that an owner other than the application wants. The table asks the
// server for it now, or on the next connection, and again in every session that lacks it. Setting
// the same want again does nothing. For a view the table asks once each time it is set.
func (t *Table) Set(o Owner, w Want) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.Value(w.Filter); e == nil || o == View || e.want[o] == nil || !same(e.want[o].Want, w) {
		t.touchLocked(t.setLocked(o, w))
	}
}

// same reports whether the wants of an owner without user properties are the same.
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
		t.entries.Set(w.Filter, e) // to the end of the order of declaration
	}
	if o == Status {
		t.status = e
	}
	t.count++
	e.parked, e.viewEnds = false, e.viewEnds && o != View
	e.want[o] = &want{Want: w, number: t.count}
	return e
}

// Remove takes a want back, so that the table ends the subscription at the server, or
// gives it back to the other owners. Unless it is ended, a Result with Ended follows.
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

// tidyLocked deletes an entry that nobody wants and the server does not have.
func (t *Table) tidyLocked(e *entry) {
	if t.entries.Value(e.filter) == e && !e.wanted() && !e.has && len(e.waiting) == 0 {
		t.entries.Delete(e.filter)
	}
}

// Receives reports whether the application receives messages in this session, so that some may wait in it.
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

// Application returns what the application wants of just this filter.
func (t *Table) Application(filter string) (w Want, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.Value(filter); e != nil && e.want[Application] != nil {
		return e.want[Application].Want, true
	}
	return Want{}, false
}

// Delivers reports whether a message without Subscription Identifiers on the status topic may have
// come for a subscription of the application: own is set if this client has published it.
func (t *Table) Delivers(name string, own bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || t.conn.limits.SubIDAvailable {
		return true // Status has an identifier
	}
	return slices.ContainsFunc(t.entries.Match(name, nil), func(e *topic.Entry[*entry]) bool {
		app := e.Value.want[Application]
		return app != nil && !(app.NoLocal && own)
	})
}

// coveredLocked reports whether Status needs no subscription of its own to a topic: the
// server has another that brings all messages, or is to have one for just this filter.
func (t *Table) coveredLocked(name string) bool {
	return slices.ContainsFunc(t.entries.Match(name, nil), func(e *topic.Entry[*entry]) bool {
		app := e.Value.want[Application]
		if e.Filter == name {
			return app != nil || e.Value.want[View] != nil
		}
		return app != nil && e.Value.served[Application] == app.number && !app.NoLocal && !e.Shared
	})
}

// overlapLocked returns two filters of the application that match the same messages, if one of
// them is e's. Shared Subscriptions have messages of their own.
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
