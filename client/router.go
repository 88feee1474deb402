package client

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// router selects the handlers of a received message. If several filters of the application match a
// message, the server may send one copy for all filters, or one copy for each filter. The
// Subscription Identifiers in a copy name the subscriptions for which the server sent it. All
// methods are safe for concurrent use. See ADR 0069.
type router struct {
	declared atomic.Uint64 // number of declared handlers; incremented after the handler is in the tree

	mu        sync.RWMutex
	tree      topic.Tree[target]
	byID      map[uint32][]*route // keyed by the Subscription Identifier without its variant
	ended     map[uint32]bool     // identifiers of filters whose handler was removed
	process   uint32              // variant of the identifiers that this process uses
	bare      int                 // number of routes without a subscription of this process
	unmatched *route              // route for topics that no filter matches; nil if it does not exist
}

// target is the handler of a filter, and its subscription.
type target struct {
	Handler
	own  uint32     // identifier that the client has derived from the filter
	want *subs.Want // subscription of this process; nil if the application only declared a handler
}

// route is a filter and its target. It is immutable.
type route = topic.Entry[target]

func (r *router) init() {
	r.byID, r.ended, r.process = map[uint32][]*route{}, map[uint32]bool{}, rand.Uint32()
}

// set declares h as the handler of filter. It replaces an earlier handler for the same filter.
func (r *router) set(filter string, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := target{Handler: h}
	if old := r.tree.Get(filter); old != nil {
		to.want = old.Value.want
	}
	r.putLocked(filter, to)
}

// subscribe registers h as the handler of a subscription. If the application has not chosen a
// Subscription Identifier, subscribe sets one that it derives from the filter.
func (r *router) subscribe(w *subs.Want, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.Made = new(subs.Made)
	if old := r.tree.Get(w.Filter); old != nil && old.Value.want != nil {
		w.Made = old.Value.want.Made
	}
	r.putLocked(w.Filter, target{Handler: h, want: w})
}

func (r *router) putLocked(filter string, to target) {
	defer r.declared.Add(1)
	old := r.tree.Get(filter)
	if old == nil {
		to.own = r.freeLocked(filter)
	} else {
		to.own = old.Value.own
		r.deleteLocked(old)
	}
	if to.want != nil && to.want.ID == 0 {
		to.want.ID = subs.Variant(to.own, r.process)
	}
	e := r.tree.Set(filter, to)
	r.byID[to.own] = append(r.byID[to.own], e)
	switch {
	case to.want == nil:
		r.bare++
	case !subs.OfFilter(to.want.ID):
		r.byID[to.want.ID] = append(r.byID[to.want.ID], e)
	}
}

// freeLocked returns an unused identifier for a new filter.
func (r *router) freeLocked(filter string) uint32 {
	for probe := 0; ; probe++ {
		if id := subs.FilterID(filter, probe); len(r.byID[id]) == 0 {
			return id
		}
	}
}

func (r *router) deleteLocked(old *route) {
	r.tree.Delete(old.Filter)
	ids := [2]uint32{old.Value.own}
	if old.Value.want == nil {
		r.bare--
	} else if id := old.Value.want.ID; !subs.OfFilter(id) {
		ids[1] = id
	}
	for _, id := range ids {
		list := slices.DeleteFunc(r.byID[id], func(e *route) bool { return e == old })
		if r.byID[id] = list; len(list) == 0 {
			delete(r.byID, id)
		}
	}
}

// setUnmatched declares h as the handler for topics that no filter matches.
func (r *router) setUnmatched(h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.declared.Add(1)
	r.unmatched = &route{Filter: unmatched, Value: target{Handler: h}}
}

// unmatched is the filter of the route for unmatched topics. It is not a valid filter.
const unmatched = "\x00"

// get returns the route of a filter, or nil.
func (r *router) get(filter string) *route {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if filter == unmatched {
		return r.unmatched
	}
	return r.tree.Get(filter)
}

// maxEnded limits the number of identifiers in router.ended. If an identifier was removed from
// router.ended, messages with this identifier wait for a handler.
const maxEnded = 1024

// remove deletes a route, unless another route has replaced it.
func (r *router) remove(old *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old != nil && r.tree.Get(old.Filter) == old {
		r.deleteLocked(old)
		if len(r.ended) >= maxEnded {
			clear(r.ended)
		}
		r.ended[old.Value.own] = true
		if w := old.Value.want; w != nil {
			r.ended[w.ID] = true
		}
	}
}

// refused removes the subscription from a route, because the server has refused it. The handler
// remains.
func (r *router) refused(w *subs.Want) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.tree.Get(w.Filter); e != nil && e.Value.want == w {
		r.putLocked(w.Filter, target{Handler: e.Value.Handler})
	}
}

// origin describes the subscriptions for which the server sent a copy of a message.
type origin struct {
	others   *[]uint32 // identifiers of further subscriptions, or nil; a pointer keeps origin small
	id       uint32    // identifier of a subscription of the application; 0 if it is unknown
	internal bool      // the server sent the copy for an internal subscription
	anybody  bool      // the server may have sent the copy for an unknown subscription
	raised   bool      // the RETAIN flag is the one that the publisher set
}

// newOrigin returns the origin of a message. ids are the identifiers of application subscriptions.
func newOrigin(ids []uint32, internal bool) (from origin) {
	if from.internal = internal; len(ids) > 0 {
		from.id = ids[0]
		from.add(ids[1:])
	}
	return from
}

// add adds identifiers of the application's subscriptions.
func (from *origin) add(ids []uint32) {
	if from.id == 0 && len(ids) > 0 {
		from.id, ids = ids[0], ids[1:]
	}
	if len(ids) > 0 {
		all := append(from.more(), ids...)
		from.others = &all
	}
	// A message that the server sends because of a new subscription has one identifier only.
	from.raised = from.raised || from.others != nil || from.internal && from.id != 0
}

func (from origin) more() []uint32 {
	if from.others == nil {
		return nil
	}
	return *from.others
}

// identified reports whether a copy has a Subscription Identifier.
func (from origin) identified() bool { return from.id != 0 || from.internal || from.anybody }

// visible returns the identifiers that the application has chosen.
func (from origin) visible() (list []uint32) {
	if from.id != 0 && !subs.Internal(from.id) {
		list = append(list, from.id)
	}
	for _, id := range from.more() {
		if !subs.Internal(id) {
			list = append(list, id)
		}
	}
	return list
}

// has reports whether a copy has exactly this identifier. Other variants do not count.
func (from origin) has(id uint32) bool { return from.id == id || slices.Contains(from.more(), id) }

// match appends the routes for a copy of a message to dst, in the order of declaration.
//
// It appends the routes of the subscriptions that the identifiers name. A handler without a
// subscription receives one of the copies, see bareLocked. A copy without a known identifier may be
// the only copy. In this case, match appends all routes whose filters match, and named is false.
func (r *router) match(name string, from origin, dst []*route) (_ []*route, named bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	named = !from.anybody && (from.id != 0 || from.internal)
	if named && from.id != 0 {
		dst, named = r.namedLocked(name, from.id, dst)
	}
	for more := from.more(); named && len(more) > 0; more = more[1:] {
		dst, named = r.namedLocked(name, more[0], dst)
	}
	if !named {
		return r.tree.Match(name, dst[:0]), false
	}
	if r.bare > 0 {
		dst = r.bareLocked(name, from, dst)
	}
	return topic.InOrder(dst), true
}

// namedLocked appends the routes with this identifier whose filters match the topic.
func (r *router) namedLocked(name string, id uint32, dst []*route) (_ []*route, found bool) {
	of, _ := subs.SplitVariant(id)
	for _, e := range r.byID[of] {
		if wire.Match(e.Filter, name) {
			dst, found = append(dst, e), true
		}
	}
	return dst, found
}

// undeclared reports whether a copy names a subscription of an earlier process, and the application
// has not yet declared a handler for this subscription.
func (r *router) undeclared(from origin) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	missing := func(id uint32) bool {
		of, _ := subs.SplitVariant(id)
		return id != 0 && (subs.OfFilter(id) || !subs.Internal(id)) && len(r.byID[of]) == 0 && !r.ended[of]
	}
	return missing(from.id) || slices.ContainsFunc(from.more(), missing)
}

// bareLocked appends the handlers without a subscription, if they receive this copy. They receive
// the copy for the earliest subscription, because the server sends that copy for every message. If
// the earliest subscription is unknown, they receive each copy that may be the only one.
func (r *router) bareLocked(name string, from origin, dst []*route) []*route {
	var room [8]*route
	matched := r.tree.Match(name, room[:0])
	if !slices.ContainsFunc(matched, func(e *route) bool { return e.Value.want == nil }) {
		return dst
	}
	first := uint64(0) // order of the earliest subscription that receives all messages of its filter
	for _, e := range matched {
		if n, _ := e.Value.order(e); n != 0 && (first == 0 || n < first) {
			first = n
		}
	}
	brings := first == 0 || slices.ContainsFunc(dst, func(e *route) bool { return r.mayBeOnly(e, from, first) })
	for _, e := range matched {
		if brings && e.Value.want == nil {
			dst = append(dst, e)
		}
	}
	return dst
}

// order returns the position of a subscription among the subscriptions that receive all messages of
// their filters. It returns 0 for other subscriptions, for example Shared Subscriptions.
func (to *target) order(e *route) (n uint64, sure bool) {
	if to.want == nil || e.Shared || to.want.NoLocal {
		return 0, false
	}
	return to.want.Made.Order()
}

// mayBeOnly reports whether the copy for a subscription may be the only copy for the handlers
// without a subscription. first is the order of the earliest subscription.
func (r *router) mayBeOnly(e *route, from origin, first uint64) bool {
	to := &e.Value
	if to.want == nil || e.Shared || to.want.NoLocal {
		return to.want == nil
	}
	n, sure := to.order(e)
	if subs.OfFilter(to.want.ID) {
		sure = from.has(to.want.ID)
	}
	return n == 0 || n <= first || !sure
}

// asPublished reports whether the application has set Retain As Published.
func (to *target) asPublished() bool { return to.want != nil && to.want.RetainAsPublished }

// fallback returns the route for topics that no filter matches, or nil.
func (r *router) fallback() *route { return r.get(unmatched) }
