package subs

import (
	"context"
	"slices"
)

// Request is a call of Subscribe or Unsubscribe that waits for the server's answer.
type Request struct {
	t    *Table
	done chan struct{}
	err  error
	left bool // the caller no longer waits; guarded by Table.mu
}

func (r *Request) waits() bool { return !r.left }

// Subscribe declares subscriptions of the application. It returns a Request for each, which is done
// when the server has answered. If the server refuses a want, the want is removed. Without a
// connection, a Request is done at once. If the connection ends, the Request is done without an
// error, and the next connection repeats it.
func (t *Table) Subscribe(list ...Want) []*Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	requests := make([]*Request, len(list))
	for i, w := range list {
		requests[i] = t.requestLocked(t.setLocked(Application, w))
	}
	return requests
}

// Unsubscribe removes the application's want for a filter, including a subscription that the
// session has kept from an earlier process. Only w.Filter and w.User are used. The Request is as in
// Subscribe.
func (t *Table) Unsubscribe(w Want) *Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries.Value(w.Filter)
	if e == nil {
		e = &entry{filter: w.Filter}
		t.entries.Set(w.Filter, e)
	}
	e.has, e.user = true, w.User
	t.dropLocked(e, Application)
	return t.requestLocked(e)
}

// requestLocked returns a Request for a change of an entry.
func (t *Table) requestLocked(e *entry) *Request {
	r := &Request{t: t, done: make(chan struct{})}
	if t.conn == nil {
		close(r.done)
		return r
	}
	e.waiting = append(e.waiting, r)
	t.touchLocked(e)
	return r
}

// Wait waits for the answer. If ctx ends first, it returns the cause. Then the subscription stays
// declared, and a refusal is reported like that of a restored subscription.
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

// finish completes requests with the server's answer.
func finish(list []*Request, err error) {
	for _, r := range list {
		r.err = err
		close(r.done)
	}
}

// AwaitRemovals waits until the server has ended all subscriptions whose wants were removed, the
// connection ends, or ctx ends.
func (t *Table) AwaitRemovals(ctx context.Context) {
	for {
		changed := t.changed.Changed()
		t.mu.Lock()
		idle := t.conn == nil || !t.endsLocked()
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

// endsLocked reports whether a subscription must be ended or is being ended.
func (t *Table) endsLocked() bool {
	ends := func(e *entry) bool { _, ends := e.gone(); return ends && !e.parked }
	for x := range t.out {
		if slices.ContainsFunc(x.batch, func(r *request) bool { return ends(r.e) }) {
			return true
		}
	}
	return slices.ContainsFunc(t.queues[:], func(q queue) bool { return slices.ContainsFunc(q, ends) })
}

// List returns the subscriptions of the application in the order of declaration.
func (t *Table) List() (list []Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for item := range t.entries.All() {
		if a, ok := item.Value.answer(); ok {
			list = append(list, a)
		}
	}
	return list
}

// Await waits until the server has answered the application's want for a filter on the present
// connection or the next one. known is false if the application has no such want.
func (t *Table) Await(ctx context.Context, filter string) (a Answer, known bool, err error) {
	for {
		changed := t.changed.Changed()
		if a, known = t.Answer(filter); !known || a.State != Pending {
			return a, known, nil
		}
		select {
		case <-changed:
		case <-t.cfg.Ending.Done():
			return a, true, context.Cause(t.cfg.Ending)
		case <-ctx.Done():
			return a, true, t.cfg.WaitEnded(context.Cause(ctx))
		}
	}
}

// Answer returns the state of one subscription of the application.
func (t *Table) Answer(filter string) (a Answer, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries.Value(filter); e != nil {
		return e.answer()
	}
	return a, false
}

func (e *entry) answer() (a Answer, ok bool) {
	w := e.want[Application]
	if w == nil {
		return a, false
	}
	a = Answer{Want: w.Want, Err: e.err}
	switch {
	case e.served[Application] == w.number:
		a.State, a.Granted = Active, e.granted
	case w.settled, w.refused.attempts > 0:
		a.State = Refused
	}
	return a, true
}
