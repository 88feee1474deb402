package subs

import (
	"slices"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// connection describes the present connection.
type connection struct {
	limits        session.Limits
	present, same bool // present: the server has resumed a session; same: it is the session of the previous connection
}

// request is one filter of a SUBSCRIBE or UNSUBSCRIBE.
type request struct {
	e         *entry
	class     class
	want      Want           // the subscription to request
	owner     Owner          // the owner whose want is added or removed
	includes  [owners]uint64 // numbers of the wants that the request serves; all 0: UNSUBSCRIBE
	had       bool           // value of e.has before the request
	endsOther bool           // it ends the subscription of an owner that no longer wants it
	waiting   []*Request     // callers that wait for the answer
	granted   byte           // granted QoS, if the server has granted it
}

// class is the priority of a request.
type class uint8

const (
	waited  class = iota // a caller waits for it
	ending               // ends a subscription that an owner no longer wants
	asking               // serves a want of the first Owner; one class for each owner
	classes = asking + class(owners)
)

func (o Owner) class() class        { return asking + class(o) }
func (r *request) subscribes() bool { return r.includes != [owners]uint64{} }

// alone reports whether a request must wait for the answers to all others, because it may depend on
// them.
func (r *request) alone() bool { return !r.subscribes() || r.owner != Application || r.endsOther }

// queue holds the entries of a class that may differ from the server's list.
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

// touchLocked makes Run check an entry. It also makes Run check the entry of Status, because this
// entry may cover it.
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

// enqueueLocked puts an entry into the queue for the request that it needs. If a request of the
// entry is unanswered, it waits for the answer.
func (t *Table) enqueueLocked(e *entry) {
	if e.out || e.parked {
		return
	}
	r := t.needLocked(e)
	if r == nil {
		finish(e.waiting, nil) // the server's list already matches
		e.waiting = nil
		return
	}
	t.pushLocked(r.class, e)
}

// attach starts a connection and returns the views that ended with the previous session.
func (t *Table) attach(c *connection) (report []Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn, t.retry = c, retry{}
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
				w.settled, w.refused.attempts, w.refused.again = Owner(o) == View, 0, false
			}
		}
		if e.viewEnds && !e.has {
			report = append(report, e.viewEnded())
		}
		t.tidyLocked(e)
	}
	for _, item := range all { // after all entries are known, because some may cover others
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
	t.conn, t.retry = nil, retry{}
	t.queues = [classes]queue{}
	for item := range t.entries.All() {
		e := item.Value
		finish(e.waiting, nil)
		e.waiting, e.queued = nil, [classes]bool{}
	}
	t.changed.Notify()
}

// maxOut is the maximum number of unanswered packets. The server can process many filters in one
// round trip, and packet identifiers remain for other packets.
const maxOut = 64

// next returns the next packet, or nil. If ready is false, it returns only a packet for which a
// caller waits. caughtUp means that the server has answered for all subscriptions of the
// application.
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

// batchLocked takes the requests for one packet from a queue. Packets keep the order of the queue.
// more means that the queue has further requests.
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
			t.wake.Set() // it may now be in a queue that was already checked
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

// needLocked returns the request that an entry needs, or nil.
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
		// The subscription may come from a server without Subscription Identifiers.
		if r := t.composeLocked(e, Application); r.want.ID != e.id && Internal(r.want.ID) {
			r.want.RetainHandling = 2
			return r
		}
	}
	return nil
}

// viewEnded returns the result that reports the end of a view's subscription.
func (e *entry) viewEnded() Result {
	e.viewEnds = false
	return Result{Owner: View, Want: Want{Filter: e.filter}, Ended: true}
}

// gone returns an owner that has removed its want although the server still serves it.
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

// composeLocked returns the SUBSCRIBE that serves an owner. A view shares the application's
// subscription to the same filter, if there is one.
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
		r.want.RetainHandling = 0 // the server has a subscription to the filter, but a different one
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

// joins reports whether a request can be added to a batch for one packet. All filters of a
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
