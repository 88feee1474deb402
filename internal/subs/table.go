// Package subs keeps the server's list of subscriptions in line with what the parts of the client
// want. A server has one subscription for each topic filter. Several owners may want the same one,
// with different options; the table computes the one SUBSCRIBE that serves them.
package subs

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/topic"
)

// Table is the list of subscriptions that are wanted, and what the server's session
// has of them. All methods are safe for concurrent use. Use New.
type Table struct {
	cfg  Config
	wake notify.Signal // Run has something to do
	rap  atomic.Bool   // the application has set a want with Retain As Published

	mu      sync.Mutex
	entries topic.Tree[*entry]
	dirty   []*entry         // may differ from what the server has
	urgent  []*entry         // those for which a caller waits
	out     []*request       // without an answer
	cancel  func()           // ends the wait for the answer
	status  *entry           // that Status wants, and others may cover; nil: none
	count   uint64           // of wants that were set
	conn    *connection      // nil: not connected
	changed notify.Broadcast // the server has answered, or the connection ended
}

// Config connects a Table to the client.
type Config struct {
	Report   func(Result) // gets each refusal, and each result that nobody waits for, one after the other, without a lock
	NoAnswer error        // ends a connection whose server does not answer a request
}

// entry is one topic filter.
type entry struct {
	filter string
	want   [owners]*want  // nil: the owner does not want it
	served [owners]uint64 // number of the want that the server's subscription includes; 0: none
	has    bool           // the server's session may have a subscription to the filter

	identify, identified bool       // the application's subscription needs an identifier beside views; it has one
	waiting              []*Request // callers that wait for the next answer
	out                  bool       // a request is without an answer
	viewEnds             bool       // the end of a view is to be reported
	parked               bool       // nothing is asked on this connection: every caller has given up waiting for the answer
}

type want struct {
	Want
	number  uint64
	conn    *connection // that was up when it was set
	settled bool        // not asked for: refused on this connection, or a view's, which is asked for once
}

// New returns an empty Table.
func New(cfg Config) *Table { return &Table{cfg: cfg, wake: notify.New()} }

// Set declares a subscription that an owner wants. The table asks the server for it
// now, or on the next connection, and again in every session that lacks it. Setting the
// same want again does nothing. For a view the table asks once each time it is set.
func (t *Table) Set(o Owner, w Want) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.Value(w.Filter); e == nil || o == View || e.want[o] == nil || e.want[o].Want != w {
		t.setLocked(o, w)
	}
}

func (t *Table) setLocked(o Owner, w Want) *entry {
	e := t.entryLocked(w.Filter)
	if o == Application { // it goes to the end of the order of declaration
		t.entries.Set(w.Filter, e)
		if w.RetainAsPublished {
			t.rap.Store(true)
		}
	}
	if o == Status {
		t.status = e
	}
	t.count++
	e.parked, e.viewEnds = false, e.viewEnds && o != View
	e.want[o] = &want{Want: w, number: t.count, conn: t.conn}
	t.touchLocked(e)
	for _, item := range t.entries.Overlapping(w.Filter, nil) {
		switch other := item.Value; {
		case o == View && other.want[Application] != nil && !other.identify:
			other.identify = !item.Shared // a Shared Subscription has copies of its own
			t.touchLocked(other)
		case o == Application && other.want[View] != nil:
			e.identify = !t.entries.Get(e.filter).Shared
		}
	}
	return e
}

func (t *Table) entryLocked(filter string) *entry {
	e := t.entries.Value(filter)
	if e == nil {
		e = &entry{filter: filter}
		t.entries.Set(filter, e)
	}
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
	ended = !e.has || e.served[o] == 0 && e.wanted() && !e.out
	e.viewEnds = e.viewEnds || o == View && !ended
	return ended
}

func (t *Table) dropLocked(e *entry, o Owner) {
	if o == Status {
		t.status = nil
	}
	e.want[o], e.parked = nil, false
	t.touchLocked(e)
	t.tidyLocked(e)
}

// wanted reports whether any owner wants the entry.
func (e *entry) wanted() bool { return e.want != [owners]*want{} }

// tidyLocked deletes an entry that nobody wants and the server does not have.
func (t *Table) tidyLocked(e *entry) {
	if t.entries.Value(e.filter) == e && !e.wanted() && !e.has && len(e.waiting) == 0 {
		t.entries.Delete(e.filter)
	}
}

// touchLocked has Run look at an entry, and at that of Status, which the entry may
// cover. An entry may be in the list twice: what is up to date needs nothing.
func (t *Table) touchLocked(e *entry) {
	if t.conn == nil {
		return // attach looks at all
	}
	if t.dirty = append(t.dirty, e); t.status != nil && t.status != e {
		t.dirty = append(t.dirty, t.status)
	}
	t.wake.Set()
}

// Request is a Subscribe or Unsubscribe that waits for the server's answer.
type Request struct {
	t    *Table
	done chan struct{}
	err  error
	left bool // the caller waits no longer; under Table.mu
}

func (r *Request) waits() bool { return !r.left }

// Subscribe is Set for the application, with a Request that is done when the server has answered. A
// want that the server refuses is removed. Without a connection the Request is done at once, and a
// connection that ends ends it without an error: the next one makes up for it.
func (t *Table) Subscribe(w Want) *Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requestLocked(t.setLocked(Application, w))
}

// Unsubscribe removes the application's want, also one that the session has kept from
// an earlier process. The Request is as in Subscribe.
func (t *Table) Unsubscribe(filter string) *Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entryLocked(filter)
	e.has = true
	t.dropLocked(e, Application)
	return t.requestLocked(e)
}

func (t *Table) requestLocked(e *entry) *Request {
	r := &Request{t: t, done: make(chan struct{})}
	if t.conn == nil {
		close(r.done)
		return r
	}
	if len(e.waiting) == 0 {
		t.urgent = append(t.urgent, e)
	}
	e.waiting = append(e.waiting, r)
	return r
}

// Wait waits for the answer. If ctx ends first it returns ctx's cause, the subscription
// stays as it was declared, and a refusal is reported as for one that is restored.
func (r *Request) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	r.left = true
	r.t.abandonLocked()
	return context.Cause(ctx)
}

// finish ends requests with the answer of the server.
func finish(list []*Request, err error) {
	for _, r := range list {
		r.err = err
		close(r.done)
	}
}

// AwaitRemovals waits until the server serves nobody who has removed a want, the
// connection ends, or ctx does.
func (t *Table) AwaitRemovals(ctx context.Context) {
	for {
		changed := t.changed.Changed()
		t.mu.Lock()
		idle := t.conn == nil || !slices.ContainsFunc(t.dirty, func(e *entry) bool { _, ends := e.gone(); return ends })
		t.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
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

// RetainAsPublished reports whether the application has ever set that option.
func (t *Table) RetainAsPublished() bool { return t.rap.Load() }

// Identified reports whether the application's subscription to just this filter has a
// Subscription Identifier at the server: a message without one is not for it.
func (t *Table) Identified(filter string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries.Value(filter)
	return e != nil && e.identified && e.served[Application] != 0
}

// Delivers reports whether a message on the status topic may have come for a subscription of the
// application: own is set if this client has published it, byStatus if it has StatusID.
func (t *Table) Delivers(name string, own, byStatus bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	unidentified := t.conn != nil && !t.conn.limits.SubIDAvailable
	return slices.ContainsFunc(t.entries.Match(name, nil), func(e *topic.Entry[*entry]) bool {
		switch app := e.Value.want[Application]; {
		case app == nil:
			return false
		case e.Shared:
			return !byStatus // it has a copy of its own
		case app.NoLocal:
			return !own || !byStatus && !unidentified
		}
		return true
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
