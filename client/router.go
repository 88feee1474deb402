package client

import (
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// router finds the handlers of a topic. Its methods are safe for concurrent use.
type router struct {
	mu   sync.RWMutex
	tree topic.Tree[Handler]
}

// route is a filter and its handler. It is never changed.
type route = topic.Entry[Handler]

// set declares h for filter, in place of an earlier handler for the same filter.
func (r *router) set(filter string, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tree.Set(filter, h)
}

// get returns the route of a filter, or nil.
func (r *router) get(filter string) *route {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tree.Get(filter)
}

// remove deletes a route, unless another has replaced it.
func (r *router) remove(old *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old != nil && r.tree.Get(old.Filter) == old {
		r.tree.Delete(old.Filter)
	}
}

// match appends the routes whose filter matches a topic to dst, in the order in which
// they were declared.
func (r *router) match(topic string, dst []*route) []*route {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tree.Match(topic, dst)
}

// overlaps reports whether a topic that a filter matches may have a handler whose own
// filter is not that of a Shared Subscription.
func (r *router) overlaps(filter string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.ContainsFunc(r.tree.Overlapping(filter, nil), func(have *route) bool { return !have.Shared })
}

func isShared(filter string) bool {
	_, _, shared := wire.SplitShare(filter)
	return shared
}
