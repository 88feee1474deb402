package subs

import (
	"slices"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// connection is what the table knows of the present connection.
type connection struct {
	limits        session.Limits
	present, same bool // the server has resumed a session; same: that of the connection before
}

// request is one filter of a SUBSCRIBE or UNSUBSCRIBE.
type request struct {
	e         *entry
	class     class
	want      Want           // to send
	owner     Owner          // whose want, or end, it is
	includes  [owners]uint64 // the wants that it serves, by number; none: UNSUBSCRIBE
	had       bool           // what e.has was before
	endsOther bool           // it ends the subscription of an owner that wants it no more
	waiting   []*Request     // for its answer
	granted   byte           // QoS, if the server has granted it
}

// class orders requests.
type class uint8

const (
	waited  class = iota // a caller waits for it
	ending               // of what an owner wants no more
	asking               // for what the first Owner wants; one class for each of them
	classes = asking + class(owners)
)

func (o Owner) class() class        { return asking + class(o) }
func (r *request) subscribes() bool { return r.includes != [owners]uint64{} }

// alone reports whether a request waits for the answers to all others, because it may depend on them.
func (r *request) alone() bool { return !r.subscribes() || r.owner != Application || r.endsOther }

// queue holds the entries of a class that may differ from what the server has.
type queue []*entry

func (t *Table) pushLocked(c class, e *entry) {
	if !e.queued[c] {
		e.queued[c] = true
		t.queues[c] = append(t.queues[c], e)
	}
}

func (t *Table) popLocked(c class) {
	q := &t.queues[c]
	(*q)[0].queued[c] = false
	(*q)[0] = nil
	*q = (*q)[1:]
}

// touchLocked makes Run check an entry, and the entry of Status, which this entry may cover.
func (t *Table) touchLocked(e *entry) {
	if t.conn == nil {
		return // attach checks all entries
	}
	t.enqueueLocked(e)
	if t.status != nil && t.status != e {
		t.enqueueLocked(t.status)
	}
	t.wake.Set()
}

// enqueueLocked puts an entry into the queue of what it needs. An entry whose request is out waits
// for the answer.
func (t *Table) enqueueLocked(e *entry) {
	if e.out || e.parked {
		return
	}
	r := t.needLocked(e)
	if r == nil {
		finish(e.waiting, nil) // there is nothing to do
		e.waiting = nil
		return
	}
	t.pushLocked(r.class, e)
}

// attach begins a connection and returns the views that the session before has ended.
func (t *Table) attach(c *connection) (report []Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = c
	if !c.same {
		t.first, t.made = !c.present, 0
	}
	all := slices.Collect(t.entries.All())
	for _, item := range all {
		e := item.Value
		if !c.same {
			e.served, e.id, e.made = [owners]uint64{}, 0, 0
			if app := e.want[Application]; app != nil {
				app.Made.Set(0, false)
			}
		}
		e.has, e.parked = e.has && c.present, false
		for o, w := range e.want {
			if w != nil {
				w.settled = Owner(o) == View
			}
		}
		if e.viewEnds && !e.has {
			report = append(report, e.viewEnded())
		}
		t.tidyLocked(e)
	}
	for _, item := range all { // when all are known, as some may cover others
		t.enqueueLocked(item.Value)
		if !c.limits.SubIDAvailable && !t.overlaps {
			if r, found := t.overlapLocked(item.Value); found {
				t.overlaps, report = true, append(report, r)
			}
		}
	}
	t.wake.Set()
	return report
}

func (t *Table) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = nil
	t.queues = [classes]queue{}
	for item := range t.entries.All() {
		e := item.Value
		finish(e.waiting, nil)
		e.waiting, e.queued = nil, [classes]bool{}
	}
	t.changed.Notify()
}

// maxOut is how many packets may be without an answer: the server gets many filters in the time of
// one answer, and packet identifiers are left for others.
const maxOut = 64

// next returns the next packet, or nil. Unless ready, it returns only what a caller waits for.
// caughtUp is true when the server has answered for all subscriptions of the application.
func (t *Table) next(ready bool) (x *exchange, caughtUp bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.out) >= maxOut {
		return nil, false
	}
	for c := range classes {
		switch {
		case c > waited && !ready:
			return nil, false
		case c == Application.class()+1:
			caughtUp = len(t.out) == 0
		}
		batch, more := t.batchLocked(c)
		if len(batch) > 0 {
			return t.beginLocked(batch), caughtUp
		} else if more {
			return nil, caughtUp
		}
	}
	return nil, caughtUp
}

// batchLocked takes the requests of one packet out of a queue. Packets keep the order of the queue.
// more is true if the queue has others.
func (t *Table) batchLocked(c class) (batch []*request, more bool) {
	for len(t.queues[c]) > 0 {
		e := t.queues[c][0]
		var r *request
		if !e.out && !e.parked {
			r = t.needLocked(e)
		}
		switch {
		case r == nil || r.class != c:
			t.popLocked(c)
			t.enqueueLocked(e)
			t.tidyLocked(e)
			t.wake.Set() // it may now be in a queue that was checked before
			continue
		case len(batch) == 0 && r.alone() && len(t.out) > 0:
			return nil, true
		case len(batch) > 0 && !t.conn.joins(batch, r):
			return batch, true
		}
		t.popLocked(c)
		if batch = append(batch, r); c > Application.class() {
			return batch, true
		}
	}
	return batch, false
}

func (t *Table) beginLocked(batch []*request) *exchange {
	for _, r := range batch {
		e := r.e
		r.had, e.has, e.out = e.has, true, true
		r.waiting, e.waiting = e.waiting, nil
		if r.includes[Application] != 0 && e.made == 0 {
			t.made++
			e.made = t.made
		}
	}
	x := &exchange{batch: batch}
	t.out[x] = true
	return x
}

// needLocked returns what is to be asked of the server for an entry, or nil.
func (t *Table) needLocked(e *entry) *request {
	due := func(o Owner) bool { return e.want[o] != nil && !e.want[o].settled && e.served[o] != e.want[o].number }
	covered := e.want[Status] != nil && t.coveredLocked(e.filter)
	gone, ends := e.gone()
	if covered && e.has && e.want == [owners]*want{Status: e.want[Status]} {
		gone, ends = Status, true
	}
	switch {
	case due(Application):
		return t.composeLocked(e, Application)
	case due(View):
		return t.composeLocked(e, View)
	case ends:
		r := &request{e: e, want: Want{Filter: e.filter, User: e.user}}
		for _, o := range [...]Owner{View, Application, Marker, Status} {
			if e.want[o] != nil && !(o == Status && covered) {
				r = t.composeLocked(e, o)
				break
			}
		}
		r.class, r.owner, r.endsOther, r.want.RetainHandling = ending, gone, true, 2
		if len(e.waiting) > 0 {
			r.class = waited
		}
		return r
	case due(Marker):
		return t.composeLocked(e, Marker)
	case due(Status) && !covered:
		return t.composeLocked(e, Status)
	case e.served[Application] != 0 && e.served[View] == 0 && e.want[Application] != nil:
		// The session may have been made by a server without Subscription Identifiers.
		if r := t.composeLocked(e, Application); r.want.ID != e.id && Internal(r.want.ID) {
			r.want.RetainHandling = 2
			return r
		}
	}
	return nil
}

// viewEnded reports that the end of a view's subscription is done.
func (e *entry) viewEnded() Result {
	e.viewEnds = false
	return Result{Owner: View, Want: Want{Filter: e.filter}, Ended: true}
}

// gone returns an owner that has removed its want while the server still serves it.
func (e *entry) gone() (o Owner, ends bool) {
	for o, number := range e.served {
		if number != 0 && e.want[o] == nil {
			return Owner(o), true
		}
	}
	if e.viewEnds {
		return View, e.has
	}
	return Application, !e.wanted() && e.has
}

// composeLocked returns the SUBSCRIBE that serves an owner. A view shares the
// application's subscription to the same filter, if there is one.
func (t *Table) composeLocked(e *entry, o Owner) *request {
	w, app := e.want[o], e.want[Application]
	r := &request{e: e, class: o.class(), owner: o, want: w.Want}
	r.includes[o] = w.number
	switch {
	case o == View && app != nil:
		r.want.QoS, r.want.NoLocal, r.want.User = app.QoS, app.NoLocal, app.User
		r.want.RetainAsPublished = w.RetainAsPublished || app.RetainAsPublished
		r.includes[Application] = app.number
	case o == Application && w.RetainHandling == 1 && (e.ended || t.first && e.served[View] != 0):
		r.want.RetainHandling = 0 // the server has a subscription, but not this one
	case o == Status && w.RetainHandling == 0 && t.conn.present:
		r.want.RetainHandling = 1
	}
	if Internal(r.want.ID) && !t.conn.limits.SubIDAvailable {
		r.want.ID = 0
	}
	if o == Application && len(e.waiting) > 0 {
		r.class = waited
	}
	return r
}

// joins reports whether a request fits into the packet of others. All filters of one
// SUBSCRIBE share one Subscription Identifier and the user properties.
func (c *connection) joins(batch []*request, r *request) bool {
	first := batch[0]
	return len(batch) < maxFilters && first.subscribes() == r.subscribes() && first.want.ID == r.want.ID &&
		slices.Equal(first.want.User, r.want.User) && first.alone() == r.alone() &&
		check(append(batch[:len(batch):len(batch)], r), c.limits) == nil
}

// userSize is the size of user properties in a packet.
func userSize(list []wire.UserProperty) (n int) {
	for _, p := range list {
		n += 1 + 2 + len(p.Key) + 2 + len(p.Value)
	}
	return n
}
