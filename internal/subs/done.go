package subs

import "slices"

// done processes the answer to a request. err is a refusal, or nil. It returns the results to
// report before the waiting callers continue.
func (t *Table) done(r *request, err error) (report []Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, w := r.e, r.e.want[r.owner]
	e.out = false
	waitedFor := slices.ContainsFunc(r.waiting, (*Request).waits)
	result := Result{Owner: r.owner, Want: r.want, Err: err, Ended: r.endsOther}
	lowered := err == nil && r.subscribes() && r.granted < r.want.QoS
	if lowered {
		result.Asked, result.Granted = r.want.QoS, r.granted
	}
	current := w != nil && w.number == r.includes[r.owner] // not for a want that has been removed
	if current {
		result.Want = w.Want
	}
	switch {
	case !r.subscribes(): // an UNSUBSCRIBE; the subscription is forgotten even if it is refused
		e.has, e.id, e.served, e.ended = false, 0, [owners]uint64{}, false
	case err == nil || r.endsOther:
		e.has, e.served, e.id = true, r.includes, r.want.ID
		if view := e.want[View]; view != nil && (r.includes[View] == 0 || r.endsOther && r.owner == Application) {
			report = append(report, Result{Owner: View, Want: view.Want, Displaced: true})
		}
	default:
		e.has = r.had
	}
	t.recordLocked(r, err)
	isNew := true
	switch {
	case !current:
	case err == nil:
		if result.Recovered = w.refused.reported; result.Recovered {
			result.Asked, result.Granted = r.want.QoS, r.granted
		}
		w.refused, w.settled = refusals{}, r.owner == View
	case err != nil && r.owner == Application && waitedFor:
		t.dropLocked(e, Application)
	default:
		w.settled = true
		isNew = r.owner == View || t.refusedLocked(w, err)
	}
	if r.owner == View && r.endsOther {
		e.viewEnds = false
	}
	if isNew && (!waitedFor || r.owner != Application || err != nil || lowered) {
		report = append(report, result)
	}
	if e.viewEnds && e.served[View] == 0 {
		report = append(report, e.viewEnded())
	}
	if t.conn != nil && !t.conn.limits.SubIDAvailable && !t.overlaps && r.includes[Application] != 0 {
		if other, found := t.overlapLocked(e); found {
			t.overlaps, report = true, append(report, other)
		}
	}
	t.touchLocked(e)
	t.tidyLocked(e)
	t.changed.Notify()
	return report
}

// recordLocked records the state that List and Answer return.
func (t *Table) recordLocked(r *request, err error) {
	e, app := r.e, r.e.want[Application]
	switch {
	case r.includes[Application] == 0 || r.endsOther:
		return
	case err == nil:
		e.granted, e.err, e.ended = r.granted, nil, false
	default:
		e.err = err
		if e.served[Application] == 0 {
			e.made = 0
		}
	}
	if app != nil && app.number == r.includes[Application] {
		app.Made.Set(e.made, t.first)
	}
}
