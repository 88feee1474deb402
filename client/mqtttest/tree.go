package mqtttest

import (
	"slices"

	"github.com/mooring-mqtt/mooring/internal/topic"
)

// tree finds the subscriptions that match a topic. It consists of a topic tree and a bounded cache
// of routes. Broker.state guards it.
type tree struct {
	filters topic.Tree[*subscribers] // its values are never empty
	routes  map[string]*route        // by topic; emptied when a subscription changes
}

// subscribers contains the subscriptions to one Topic Filter. The members of a Shared Subscription
// take turns, so only one member receives each message.
type subscribers struct {
	list []*subscription
	turn int // of a Shared Subscription: index in list of the next member
}

// subscription is a subscription of a session.
type subscription struct {
	session     *session
	filter      string // with $share/name/
	qos         byte
	noLocal     bool
	asPublished bool
	ids         []uint32 // empty or one
}

// route lists the receivers of a topic.
type route struct {
	targets []target
	shared  []*subscribers
}

// target is a session that receives messages of a topic, with its matching subscriptions. The
// session receives one copy of each message [MQTT-3.3.4-2].
type target struct {
	session *session
	subs    []*subscription
	delivery
	noLocal bool // one of subs has No Local
}

// delivery describes how a session receives a message, depending on the subscriptions that match.
type delivery struct {
	qos         byte
	asPublished bool
	ids         []uint32 // of all these subscriptions [MQTT-3.3.4-4]
}

func (d *delivery) merge(sub *subscription) {
	d.qos = max(d.qos, sub.qos)
	d.asPublished = d.asPublished || sub.asPublished
	d.ids = append(d.ids, sub.ids...)
}

const maxRoutes = 4096

// add adds sub. If replaced is not nil, sub replaces it.
func (t *tree) add(sub, replaced *subscription) {
	if replaced != nil {
		t.remove(replaced)
	}
	t.routes = nil
	if e := t.filters.Get(sub.filter); e != nil {
		e.Value.list = append(e.Value.list, sub)
		return
	}
	t.filters.Set(sub.filter, &subscribers{list: []*subscription{sub}})
}

func (t *tree) remove(sub *subscription) {
	t.routes = nil
	e := t.filters.Get(sub.filter)
	if i := slices.Index(e.Value.list, sub); i >= 0 {
		e.Value.list = slices.Delete(e.Value.list, i, i+1)
	}
	if len(e.Value.list) == 0 {
		t.filters.Delete(sub.filter)
	}
}

// find returns the route of a topic.
func (t *tree) find(name string) *route {
	if r := t.routes[name]; r != nil {
		return r
	}
	r := &route{}
	at := make(map[*session]int)
	for _, e := range t.filters.Match(name, nil) {
		if e.Shared {
			r.shared = append(r.shared, e.Value)
			continue
		}
		for _, sub := range e.Value.list {
			i, ok := at[sub.session]
			if !ok {
				i = len(r.targets)
				at[sub.session] = i
				r.targets = append(r.targets, target{session: sub.session})
			}
			r.targets[i].subs = append(r.targets[i].subs, sub)
			r.targets[i].merge(sub)
			r.targets[i].noLocal = r.targets[i].noLocal || sub.noLocal
		}
	}
	if t.routes == nil || len(t.routes) >= maxRoutes {
		t.routes = make(map[string]*route)
	}
	t.routes[name] = r
	return r
}
