package client

import (
	"context"
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// routing is a router with some filters, all of which match the topic a/b.
type routing struct {
	*testing.T
	router
	ids map[string]uint32
}

func newRouting(t *testing.T, wants ...subs.Want) *routing {
	r := &routing{T: t, ids: map[string]uint32{}}
	r.init()
	for _, w := range wants {
		r.subscribe(&w, HandlerFunc(func(context.Context, *Message) error { return nil }))
		r.ids[w.Filter] = w.ID
	}
	return r
}

func (r *routing) handle(filter string) {
	r.set(filter, HandlerFunc(func(context.Context, *Message) error { return nil }))
}

// want wants a copy with these identifiers to be for the handlers of these filters.
func (r *routing) want(what string, from origin, filters ...string) {
	r.Helper()
	var got []string
	list, _ := r.match("a/b", from, nil)
	for _, e := range list {
		got = append(got, e.Filter)
	}
	if fmt.Sprint(got) != fmt.Sprint(filters) {
		r.Errorf("%s: the handlers of %q, want %q", what, got, filters)
	}
}

func (r *routing) from(filters ...string) origin {
	var ids []uint32
	for _, f := range filters {
		ids = append(ids, r.ids[f])
	}
	return newOrigin(ids, false)
}

func TestRouter_SelectsHandlersByIdentifier(t *testing.T) {
	r := newRouting(t, subs.Want{Filter: "a/#"}, subs.Want{Filter: "a/b"}, subs.Want{Filter: "+/b", ID: 7},
		subs.Want{Filter: "a/+", ID: 7}, subs.Want{Filter: "$share/g/a/b"}, subs.Want{Filter: "other"})
	all := []string{"a/#", "a/b", "+/b", "a/+", "$share/g/a/b"}
	for what, c := range map[string]struct {
		from origin
		want []string
	}{
		"one of several copies":              {r.from("a/b"), []string{"a/b"}},
		"of a Shared Subscription":           {r.from("$share/g/a/b"), []string{"$share/g/a/b"}},
		"one copy for two":                   {r.from("a/b", "a/#"), []string{"a/#", "a/b"}},
		"one copy that names a filter twice": {r.from("a/b", "a/b"), []string{"a/b"}},
		"an identifier of two filters":       {r.from("+/b"), []string{"+/b", "a/+"}},
		"without identifiers":                {origin{}, all},
		"an identifier of nobody":            {newOrigin([]uint32{99}, false), all},
		"one of nobody beside a known one":   {newOrigin([]uint32{r.ids["a/b"], 99}, false), all},
		"of a filter that does not match":    {r.from("other"), all},
		"of an older version of the client":  {newOrigin([]uint32{200_000_001}, false), all},
		"left by an earlier process":         {newOrigin([]uint32{r.ids["a/b"] ^ 3}, false), []string{"a/b"}},
		"of a view alone":                    {newOrigin(nil, true), nil},
		"of a view, and for a handler":       {newOrigin([]uint32{r.ids["a/b"]}, true), []string{"a/b"}},
		"of a view, perhaps for a handler":   {origin{internal: true, anybody: true}, all},
	} {
		r.want(what, c.from, c.want...)
	}
	r.remove(r.get("a/b"))
	r.want("of a filter that was removed", r.from("a/b"), "a/#", "+/b", "a/+", "$share/g/a/b")
	r.handle("a/#") // another handler for the same subscription
	r.want("of another handler", r.from("a/#"), "a/#")
	w := subs.Want{Filter: "a/b", ID: 5}
	r.subscribe(&w, nil)
	r.want("chosen anew", newOrigin([]uint32{5}, false), "a/b")
	r.want("derived, of an earlier process", r.from("a/b"), "a/b")
	r.refused(&w)
	r.want("the subscription was refused", newOrigin([]uint32{5}, false), "+/b", "a/+", "$share/g/a/b", "a/#", "a/b")
	if n := len(r.byID); n != 7 { // six filters, and 7
		t.Errorf("%d identifiers are known", n)
	}
}

// made sets the order in which the server has made subscriptions.
func (r *routing) made(began bool, filters ...string) {
	for i, f := range filters {
		r.get(f).Value.want.Made.Set(uint64(i+1), began)
	}
}

// A handler without a subscription gets each message once where that is certain, and otherwise
// rather twice.
func TestRouter_HandlersWithoutSubscription(t *testing.T) {
	wants := []subs.Want{{Filter: "a/#"}, {Filter: "a/b"}, {Filter: "a/+", NoLocal: true}, {Filter: "$share/g/a/b"}, {Filter: "+/b", ID: 7}}
	r := newRouting(t, wants...)
	r.handle("#")
	r.want("before the answers", r.from("a/b"), "a/b", "#")
	r.want("before the answers", r.from("a/#"), "a/#", "#")
	r.made(true, "a/b", "a/#", "a/+", "$share/g/a/b", "+/b")
	r.want("of the first", r.from("a/b"), "a/b", "#")
	for _, f := range []string{"a/#", "a/+", "$share/g/a/b", "+/b"} {
		r.want("of another", r.from(f), f)
	}
	r.want("one copy for two", r.from("a/#", "a/b"), "a/#", "a/b", "#")
	r.want("left by an earlier process, before the first was made", newOrigin([]uint32{r.ids["a/#"] ^ 1}, false), "a/#", "#")
	r.want("of a view", newOrigin(nil, true))
	r.made(false, "a/b", "a/#", "a/+", "$share/g/a/b", "+/b")
	r.want("in a session of an earlier process", r.from("a/#"), "a/#")
	r.want("with an identifier that tells nothing", r.from("+/b"), "+/b", "#")
	r.handle("+/+")
	r.want("two", r.from("a/b"), "a/b", "#", "+/+")

	r = newRouting(t, wants[2:4]...)
	r.handle("#")
	r.made(true, "a/+", "$share/g/a/b")
	for _, f := range []string{"a/+", "$share/g/a/b"} {
		r.want("no subscription has copies of all messages", r.from(f), f, "#")
	}
	r.want("of a view, perhaps for an unknown subscription", newOrigin(nil, true), "#")
}

// What the identifiers tell costs no allocation.
func TestRouter_MatchDoesNotAllocate(t *testing.T) {
	var wants []subs.Want
	for i := range 1000 {
		wants = append(wants, subs.Want{Filter: fmt.Sprint("x/", i)})
	}
	r := newRouting(t, append(wants, subs.Want{Filter: "a/b"}, subs.Want{Filter: "a/#"})...)
	from := r.from("a/b", "a/#")
	if n := testing.AllocsPerRun(100, func() {
		var room [4]*route
		if list, _ := r.match("a/b", from, room[:0]); len(list) != 2 {
			t.Error(len(list))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRouter_Match has 10,000 filters.
func BenchmarkRouter_Match(b *testing.B) {
	r := newRouting(nil, subs.Want{Filter: "a/b"})
	for i := range 10_000 {
		r.subscribe(&subs.Want{Filter: fmt.Sprintf("devices/%d/+", i)}, nil)
	}
	for name, from := range map[string]origin{"named": r.from("a/b"), "not named": {}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var room [4]*route
				if list, _ := r.match("a/b", from, room[:0]); len(list) != 1 {
					b.Fatal(len(list))
				}
			}
		})
	}
}
