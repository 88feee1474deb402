package mqtttest

import (
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// tree finds the subscriptions that match a topic: a trie over the levels of
// the Topic Filters, and a bounded cache of whole answers in front of it.
// Guarded by Broker.state.
type tree struct {
	root   node
	groups map[string]*shareGroup // by whole filter
	routes map[string]*route      // by topic; emptied when a subscription changes
}

type node struct {
	children map[string]*node
	subs     []*subscription
	group    []*shareGroup
}

// subscription is one Topic Filter of one session.
type subscription struct {
	session     *session
	filter      string // whole, with $share/name/
	qos         byte
	noLocal     bool
	asPublished bool
	ids         []uint32 // none or one
	group       *shareGroup
}

// route is everything that one topic leads to.
type route struct {
	topic   string
	targets []target
	groups  []*shareGroup
}

// target is one session that a topic leads to, with the subscriptions that
// say so. It gets one copy of a message [MQTT-3.3.4-2].
type target struct {
	session *session
	subs    []*subscription
	delivery
	noLocal bool // one of subs says so
}

// delivery is what a set of subscriptions of one session comes to.
type delivery struct {
	qos         byte
	asPublished bool
	ids         []uint32 // of all of them [MQTT-3.3.4-4]
}

func (d *delivery) merge(sub *subscription) {
	d.qos = max(d.qos, sub.qos)
	d.asPublished = d.asPublished || sub.asPublished
	d.ids = append(d.ids, sub.ids...)
}

const maxRoutes = 4096

func (t *tree) init() {
	t.groups = make(map[string]*shareGroup)
	t.routes = make(map[string]*route)
}

// add puts sub in, in the place of replaced if that is not nil.
func (t *tree) add(sub, replaced *subscription) {
	if replaced != nil {
		t.remove(replaced)
	}
	clear(t.routes)
	name, filter, shared := wire.SplitShare(sub.filter)
	n := t.root.reach(filter)
	if !shared {
		n.subs = append(n.subs, sub)
		return
	}
	if sub.group = t.groups[sub.filter]; sub.group == nil {
		sub.group = &shareGroup{name: name}
		t.groups[sub.filter] = sub.group
		n.group = append(n.group, sub.group)
	}
	sub.group.members = append(sub.group.members, sub)
}

func (t *tree) remove(sub *subscription) {
	clear(t.routes)
	_, filter, _ := wire.SplitShare(sub.filter)
	t.root.prune(filter, func(n *node) {
		if g := sub.group; g == nil {
			n.subs = without(n.subs, sub)
		} else if g.members = without(g.members, sub); len(g.members) == 0 {
			n.group = without(n.group, g)
			delete(t.groups, sub.filter)
		}
	})
}

func without[T comparable](list []T, item T) []T {
	if i := slices.Index(list, item); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// reach returns the node of a filter, and makes it if it is not there.
func (n *node) reach(filter string) *node {
	for level := range strings.SplitSeq(filter, "/") {
		child := n.children[level]
		if child == nil {
			child = new(node)
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			n.children[level] = child
		}
		n = child
	}
	return n
}

// prune calls change with the node of a filter and removes nodes that are
// empty afterwards.
func (n *node) prune(filter string, change func(*node)) {
	level, rest, more := strings.Cut(filter, "/")
	child := n.children[level]
	if child == nil {
		return
	}
	if more {
		child.prune(rest, change)
	} else {
		change(child)
	}
	if len(child.children)+len(child.subs)+len(child.group) == 0 {
		delete(n.children, level)
	}
}

// match calls found with each node whose filter matches topic; top is true
// for the first level, where wildcards do not match names that begin with $
// [MQTT-4.7.2-1].
func (n *node) match(topic string, top bool, found func(*node)) {
	level, rest, more := strings.Cut(topic, "/")
	down := func(child *node) {
		switch {
		case child == nil:
		case more:
			child.match(rest, false, found)
		default:
			found(child)
			if parent := child.children["#"]; parent != nil {
				found(parent)
			}
		}
	}
	down(n.children[level])
	if top && strings.HasPrefix(topic, "$") {
		return
	}
	down(n.children["+"])
	if all := n.children["#"]; all != nil {
		found(all)
	}
}

// find returns the route of a topic.
func (t *tree) find(topic string) *route {
	if r := t.routes[topic]; r != nil {
		return r
	}
	r := &route{topic: topic}
	at := make(map[*session]int)
	t.root.match(topic, true, func(n *node) {
		for _, sub := range n.subs {
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
		r.groups = append(r.groups, n.group...)
	})
	if len(t.routes) >= maxRoutes {
		clear(t.routes)
	}
	t.routes[topic] = r
	return r
}
