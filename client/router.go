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
	routes atomic.Pointer[[]route]
}

type route struct {
	filter  string
	handler Handler
}

// set declares h for filter, in place of an earlier one for the same filter.
func (r *router) set(filter string, h Handler) {
	r.change(filter, &route{filter, h})
}

func (r *router) remove(filter string) { r.change(filter, nil) }

func (r *router) change(filter string, put *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next []route
	if old := r.routes.Load(); old != nil {
		for _, have := range *old {
			if have.filter != filter {
				next = append(next, have)
			}
		}
	}
	if put != nil {
		next = append(next, *put)
	}
	r.routes.Store(&next)
}

// match returns the handlers whose filter matches topic, in the order they
// were declared.
func (r *router) match(topic string) (found []Handler) {
	routes := r.routes.Load()
	if routes == nil {
		return nil
	}
	for i := range *routes {
		if have := &(*routes)[i]; wire.Match(have.filter, topic) {
			found = append(found, have.handler)
		}
	}
	return found
}
