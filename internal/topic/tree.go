// Package topic maps MQTT topic filters to values. It is used for handlers, internal subscriptions
// and the subscriptions of the test broker.
package topic

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Tree holds one value for each topic filter. The time to match a topic depends on the number of
// its levels, not on the number of filters. The filters must be valid; see [wire.CheckTopicFilter].
// The zero value is empty and ready to use. A Tree is not safe for concurrent changes. Concurrent
// reads are safe.
type Tree[V any] struct {
	root    node[V]
	entries map[string]*Entry[V] // by filter
	last    uint64               // order of the last entry that was set
}

// Entry is one filter of a Tree and its value. It does not change while it is in the tree, because
// Set replaces it by another Entry.
type Entry[V any] struct {
	Filter string // including $share/name/, if present
	Value  V
	Shared bool // Filter is a Shared Subscription
	order  uint64
}

// node is one level of the filters. The root is the level above the first one.
type node[V any] struct {
	children map[string]*node[V] // by level name, or +
	here     []*Entry[V]         // filters that end at this level
	below    []*Entry[V]         // filters that end with # below this level
}

// Len returns the number of filters.
func (t *Tree[V]) Len() int { return len(t.entries) }

// Get returns the entry of a filter, or nil.
func (t *Tree[V]) Get(filter string) *Entry[V] { return t.entries[filter] }

// Value returns the value of a filter, or the zero value.
func (t *Tree[V]) Value(filter string) (v V) {
	if e := t.entries[filter]; e != nil {
		v = e.Value
	}
	return v
}

// Set stores a value for a filter and returns its entry. It replaces an existing value. The filter
// becomes the last one in the order of declaration.
func (t *Tree[V]) Set(filter string, value V) *Entry[V] {
	t.Delete(filter)
	_, rest, shared := wire.SplitShare(filter)
	t.last++
	e := &Entry[V]{filter, value, shared, t.last}
	if t.entries == nil {
		t.entries = map[string]*Entry[V]{}
	}
	t.entries[filter] = e
	n := &t.root
	for level := range strings.SplitSeq(rest, "/") {
		if level == "#" {
			n.below = append(n.below, e)
			return e
		}
		if n.children == nil {
			n.children = map[string]*node[V]{}
		}
		if n.children[level] == nil {
			n.children[level] = new(node[V])
		}
		n = n.children[level]
	}
	n.here = append(n.here, e)
	return e
}

// Delete removes a filter and returns its entry, or nil if there is none.
func (t *Tree[V]) Delete(filter string) *Entry[V] {
	e := t.entries[filter]
	if e != nil {
		delete(t.entries, filter)
		_, rest, _ := wire.SplitShare(filter)
		t.root.remove(rest, e)
	}
	return e
}

// remove deletes an entry below a node, and the nodes that become empty.
func (n *node[V]) remove(rest string, e *Entry[V]) {
	level, after, more := strings.Cut(rest, "/")
	if level == "#" {
		n.below = without(n.below, e)
		return
	}
	child := n.children[level]
	if more {
		child.remove(after, e)
	} else {
		child.here = without(child.here, e)
	}
	if len(child.children)+len(child.here)+len(child.below) == 0 {
		delete(n.children, level)
	}
}

func without[V any](list []*Entry[V], e *Entry[V]) []*Entry[V] {
	i := slices.Index(list, e)
	return slices.Delete(list, i, i+1)
}

// Match appends to dst the entries whose filters match a topic, in the order of declaration. It
// does not allocate if dst has room.
func (t *Tree[V]) Match(topic string, dst []*Entry[V]) []*Entry[V] {
	begin := len(dst)
	dst = t.root.match(topic, strings.HasPrefix(topic, "$"), dst)
	slices.SortFunc(dst[begin:], byOrder)
	return dst
}

// match appends the matching entries below a node. plain is true at the first level of a topic that
// begins with $, which wildcards do not match [MQTT-4.7.2-1].
func (n *node[V]) match(topic string, plain bool, dst []*Entry[V]) []*Entry[V] {
	level, rest, more := strings.Cut(topic, "/")
	child, plus := n.children[level], n.children["+"]
	if plain {
		plus = nil
	} else {
		dst = append(dst, n.below...)
	}
	for _, next := range [...]*node[V]{child, plus} {
		switch {
		case next == nil:
		case more:
			dst = next.match(rest, false, dst)
		default: // # also matches the level above it
			dst = append(append(dst, next.here...), next.below...)
		}
	}
	return dst
}

// Overlapping appends to dst the entries whose filters match at least one topic that the given
// filter matches, in the order of declaration.
func (t *Tree[V]) Overlapping(filter string, dst []*Entry[V]) []*Entry[V] {
	begin := len(dst)
	_, filter, _ = wire.SplitShare(filter)
	dst = t.root.overlapping(filter, true, dst)
	slices.SortFunc(dst[begin:], byOrder)
	return dst
}

// overlapping appends the overlapping entries below a node. At the first level, wildcards do not
// match names that begin with $.
func (n *node[V]) overlapping(filter string, first bool, dst []*Entry[V]) []*Entry[V] {
	level, rest, more := strings.Cut(filter, "/")
	plain := first && strings.HasPrefix(level, "$")
	visit := func(next *node[V]) {
		switch {
		case next == nil:
		case level == "#" || rest == "#":
			dst = next.overlapping("#", false, append(dst, next.here...))
		case more:
			dst = next.overlapping(rest, false, dst)
		default:
			dst = append(append(dst, next.here...), next.below...)
		}
	}
	if !plain {
		dst = append(dst, n.below...)
	}
	if level == "+" || level == "#" {
		for name, next := range n.children { // including +
			if !first || !strings.HasPrefix(name, "$") {
				visit(next)
			}
		}
		return dst
	}
	visit(n.children[level])
	if !plain {
		visit(n.children["+"])
	}
	return dst
}

// All yields every entry in the order of declaration.
func (t *Tree[V]) All() iter.Seq[*Entry[V]] {
	return slices.Values(slices.SortedFunc(maps.Values(t.entries), byOrder))
}

// InOrder sorts entries of one tree in the order of declaration, and returns them without duplicate
// entries.
func InOrder[V any](list []*Entry[V]) []*Entry[V] {
	if len(list) > 1 {
		slices.SortFunc(list, byOrder)
	}
	return slices.Compact(list)
}

func byOrder[V any](a, b *Entry[V]) int { return cmp.Compare(a.order, b.order) }
