package client

import (
	"sync"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// router finds the handlers of a topic. Declaring is rare and copies; looking
// up takes no lock.
type router struct {
	mu     sync.Mutex
	routes atomic.Pointer[[]*route]
}

type route struct {
	filter  string
	handler Handler
}

// set declares h for filter, in place of an earlier one for the same filter.
func (r *router) set(filter string, h Handler) {
	r.change(func(have *route) bool { return have.filter != filter }, &route{filter, h})
}

// get returns what is declared for filter; nil: nothing.
func (r *router) get(filter string) *route {
	for _, have := range r.list() {
		if have.filter == filter {
			return have
		}
	}
	return nil
}

// remove takes back one declaration, and none that came after it.
func (r *router) remove(old *route) {
	r.change(func(have *route) bool { return have != old }, nil)
}

func (r *router) change(keep func(*route) bool, put *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next []*route
	for _, have := range r.list() {
		if keep(have) {
			next = append(next, have)
		}
	}
	if put != nil {
		next = append(next, put)
	}
	r.routes.Store(&next)
}

func (r *router) list() []*route {
	if routes := r.routes.Load(); routes != nil {
		return *routes
	}
	return nil
}

// match returns the handlers whose filter matches topic, in the order they
// were declared.
func (r *router) match(topic string) (found []Handler) {
	for _, have := range r.list() {
		if wire.Match(have.filter, topic) {
			found = append(found, have.handler)
		}
	}
	return found
}
