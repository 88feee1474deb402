package subs

import (
	"slices"

	"github.com/mooring-mqtt/mooring/internal/session"
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
	lowered   bool           // the server has granted a lower QoS than was asked for:
	granted   byte
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

// attach begins a connection and returns the views that the session before has ended.
func (t *Table) attach(c *connection) (ended []Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = c
	t.dirty, t.urgent = nil, nil
	var restored []*entry
	for item := range t.entries.All() {
		e := item.Value
		if !c.same {
			e.served, e.identified = [owners]uint64{}, false
		}
		e.has, e.parked = e.has && c.present, false
		for o, w := range e.want {
			if w != nil {
				w.settled = Owner(o) == View
			}
		}
		if e.viewEnds && !e.has {
			ended = append(ended, e.viewEnded())
		}
		t.tidyLocked(e)
		if _, ends := e.gone(); ends {
			t.dirty = append(t.dirty, e)
		} else {
			restored = append(restored, e)
		}
	}
	t.dirty = append(t.dirty, restored...)
	return ended
}

func (t *Table) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = nil
	for item := range t.entries.All() {
		finish(item.Value.waiting, nil)
		item.Value.waiting = nil
	}
	t.changed.Notify()
}

// next returns the requests of the next packet, all of one class. Unless ready, it
// returns only what a caller waits for. caughtUp: nothing of the application is left.
func (t *Table) next(ready bool) (batch []*request, caughtUp bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch, _, _ = t.pickLocked(slices.Clone(t.urgent))
	if len(batch) == 0 && ready {
		var best class
		batch, best, t.dirty = t.pickLocked(t.dirty)
		caughtUp = best > Application.class()
	}
	for _, r := range batch {
		r.had, r.e.has, r.e.out = r.e.has, true, true
		r.waiting, r.e.waiting = r.e.waiting, nil
	}
	t.urgent = slices.DeleteFunc(t.urgent, func(e *entry) bool { return len(e.waiting) == 0 })
	return batch, caughtUp
}

// pickLocked returns the requests of one packet, their class, and the entries of the
// list that differ from what the server has.
func (t *Table) pickLocked(list []*entry) (batch []*request, best class, differs []*entry) {
	best, differs = classes, list[:0]
	joins := true // what does not join ends the packet: the order of declaration is kept
	for i, e := range list {
		if len(batch) == maxFilters && best <= Application.class() { // a better class is not waited for
			return batch, best, append(differs, list[i:]...)
		}
		r := t.needLocked(e)
		if r == nil {
			finish(e.waiting, nil) // there is nothing to do
			e.waiting = nil
			t.tidyLocked(e)
			continue
		}
		differs = append(differs, e)
		switch {
		case r.class > best, slices.ContainsFunc(batch, func(other *request) bool { return other.e == e }):
		case r.class < best:
			best, batch, joins = r.class, []*request{r}, r.class <= Application.class()
		case joins && t.conn.joins(batch, r):
			batch = append(batch, r)
		default:
			joins = false
		}
	}
	return batch, best, differs
}

// needLocked returns what is to be asked of the server for an entry, or nil.
func (t *Table) needLocked(e *entry) *request {
	if e.parked {
		return nil
	}
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
		r := &request{e: e, want: Want{Filter: e.filter}}
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
	case e.identify && !e.identified && e.served[Application] != 0 && t.conn.limits.SubIDAvailable:
		r := t.composeLocked(e, Application)
		r.want.RetainHandling = 2
		return r
	case due(Marker):
		return t.composeLocked(e, Marker)
	case due(Status) && !covered:
		return t.composeLocked(e, Status)
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
		r.want.QoS, r.want.NoLocal = app.QoS, app.NoLocal
		r.want.RetainAsPublished = w.RetainAsPublished || app.RetainAsPublished
		r.includes[Application] = app.number
	case o != View && w.RetainHandling == 0 && w.conn != t.conn && t.conn.present && e.want[View] == nil:
		r.want.RetainHandling = 1 // from an earlier process: retained messages only if the session does not have it
	}
	if o == Application && e.identify && w.ID == 0 {
		r.want.ID = ApplicationID
	}
	if Internal(r.want.ID) && !t.conn.limits.SubIDAvailable {
		r.want.ID = 0
	}
	if o == Application && len(e.waiting) > 0 {
		r.class = waited
	}
	return r
}

// done takes the answer to a request, err if it is refused. It returns what is to be
// reported before the callers that wait for it go on.
func (t *Table) done(r *request, err error) (report []Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, w := r.e, r.e.want[r.owner]
	e.out = false
	waitedFor := slices.ContainsFunc(r.waiting, (*Request).waits)
	result := Result{Owner: r.owner, Want: r.want, Err: err, Ended: r.endsOther}
	if r.lowered {
		result.Asked, result.Granted = r.want.QoS, r.granted
	}
	current := w != nil && w.number == r.includes[r.owner] // not of what ends
	if current {
		result.Want = w.Want
	}
	switch {
	case !r.subscribes(): // also if it is refused, it is forgotten
		e.has, e.identified, e.served = false, false, [owners]uint64{}
	case err == nil || r.endsOther:
		e.has, e.served, e.identified = true, r.includes, r.want.ID != 0
		if view := e.want[View]; view != nil && (r.includes[View] == 0 || r.endsOther && r.owner == Application) {
			report = append(report, Result{Owner: View, Want: view.Want, Displaced: true})
		}
	default:
		e.has, e.identify = r.had, false
	}
	switch {
	case !current, err == nil && r.owner != View:
	case err != nil && r.owner == Application && waitedFor:
		t.dropLocked(e, Application)
	default:
		w.settled = true
	}
	if r.owner == View && r.endsOther {
		e.viewEnds = false
	}
	if !waitedFor || r.owner != Application || err != nil || r.lowered {
		report = append(report, result)
	}
	if e.viewEnds && e.served[View] == 0 {
		report = append(report, e.viewEnded())
	}
	t.touchLocked(e)
	t.tidyLocked(e)
	t.changed.Notify()
	return report
}
