package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// fleet is a server's session, and the processes that use it one after the other.
type fleet struct {
	*testing.T
	rnd    *rand.Rand
	log    []string
	merges bool // the server sends one copy for all subscriptions

	subs    map[string]subs.Want // of the session
	queue   []sent
	message int

	router   *router
	process  uint32
	began    bool // the session began in this process
	made     uint64
	got      map[string]map[int]int // by filter and message: how often its handler was called
	since    map[string]int         // the message before which a filter was declared in this process
	bare     map[string]int         // the last message that came while it had no subscription
	changed  int                    // the message before which a subscription was last changed
	expected []expected
}

type sent struct {
	topic string
	n     int
	ids   []uint32
}

// expected is what was known when a message was published.
type expected struct {
	topic string
	subs  []string // that matched
	gone  bool     // with its session
	doubt bool     // a copy has named a subscription that was not declared
}

func (f *fleet) note(format string, args ...any) { f.log = append(f.log, fmt.Sprintf(format, args...)) }

// start begins a process.
func (f *fleet) start() {
	f.router = &router{}
	f.router.init()
	f.process++
	f.router.process = f.process
	f.began, f.made = false, 0
	f.since = map[string]int{}
	f.note("process %d", f.process)
}

func (f *fleet) lose() {
	for i := range f.expected {
		f.expected[i].gone = f.expected[i].gone || slices.ContainsFunc(f.queue, func(s sent) bool { return s.n == i })
	}
	f.subs, f.queue, f.began, f.made = map[string]subs.Want{}, nil, true, 0
	for e := range f.router.tree.All() {
		if w := e.Value.want; w != nil {
			w.Made.Set(0, false)
		}
	}
	f.note("new session")
	for e := range f.router.tree.All() {
		if w := e.Value.want; w != nil {
			f.grant(*w)
		}
	}
}

var silent = HandlerFunc(func(context.Context, *Message) error { return nil })

func (f *fleet) subscribe(filter string) {
	w := subs.Want{Filter: filter}
	f.router.subscribe(&w, silent)
	f.declared(filter)
	f.grant(w)
}

// grant has the server make a subscription. Now and then something is published before the client
// knows.
func (f *fleet) grant(w subs.Want) {
	if n, _ := w.Made.Order(); n == 0 {
		f.made++
		f.subs[w.Filter] = w
		n := f.made
		if f.rnd.IntN(3) == 0 {
			f.publish()
			f.receive()
		}
		w.Made.Set(n, f.began)
	}
	f.subs[w.Filter] = w
	f.changed = f.message
	f.note("subscribed to %s: %d", w.Filter, w.ID)
}

func (f *fleet) declared(filter string) {
	if _, have := f.since[filter]; !have {
		f.since[filter] = f.message
	}
}

func (f *fleet) publish() {
	topic := []string{"a/b", "a/c", "a"}[f.rnd.IntN(3)]
	e := expected{topic: topic}
	var ids []uint32
	for filter, w := range f.subs {
		if wire.Match(filter, topic) {
			e.subs = append(e.subs, filter)
			if shared := isShared(filter); shared || !f.merges {
				f.queue = append(f.queue, sent{topic, f.message, []uint32{w.ID}})
			} else {
				ids = append(ids, w.ID)
			}
		}
	}
	if len(ids) > 0 {
		f.queue = append(f.queue, sent{topic, f.message, ids})
	}
	f.expected = append(f.expected, e)
	f.note("published %d to %s for %q", f.message, topic, e.subs)
	f.message++
}

func (f *fleet) receive() {
	if len(f.queue) == 0 {
		return
	}
	s := f.queue[0]
	f.queue = f.queue[1:]
	list, named := f.router.match(s.topic, newOrigin(slices.Clone(s.ids), false), nil)
	f.expected[s.n].doubt = f.expected[s.n].doubt || !named
	var to []string
	for _, e := range list {
		if to = append(to, e.Filter); e.Value.want == nil {
			f.bare[e.Filter] = max(f.bare[e.Filter], s.n)
		}
		if f.got[e.Filter] == nil {
			f.got[e.Filter] = map[int]int{}
		}
		f.got[e.Filter][s.n]++
	}
	f.note("received %d by %d: %q, named %v", s.n, s.ids, to, named)
	if !slices.ContainsFunc(f.queue, func(o sent) bool { return o.n == s.n }) {
		f.check(s.n)
	}
}

// check compares what handlers got of a message of which there are no more copies.
func (f *fleet) check(n int) {
	e := f.expected[n]
	if e.gone {
		return
	}
	plain := slices.ContainsFunc(e.subs, func(filter string) bool { return !isShared(filter) })
	for to := range f.router.tree.All() {
		filter, got := to.Filter, f.got[to.Filter][n]
		since, here := f.since[filter]
		subscribed := slices.Contains(e.subs, filter)
		switch {
		case !wire.Match(filter, e.topic) || !here:
		case to.Value.want == nil && since <= n && plain && got == 0:
			f.Errorf("the handler of %s, without a subscription, has not got %d", filter, n)
		case to.Value.want == nil && since <= n && f.began && f.changed <= n && plain && !e.doubt && got != 1:
			f.Errorf("the handler of %s, without a subscription, got %d %d times", filter, n, got)
		case to.Value.want != nil && subscribed && since <= n && got == 0:
			f.Errorf("the handler of %s has not got %d", filter, n)
		case to.Value.want != nil && subscribed && !e.doubt && f.bare[filter] < n && got > 1:
			f.Errorf("the handler of %s got %d %d times", filter, n, got)
		}
	}
}

// TestRouter_EachHandlerOnce: whatever filters a process declares, subscribes to and gives up, and
// whatever an earlier one has left in the session, each handler of a subscription gets each message,
// and once where all subscriptions of the session are declared. A handler without a subscription gets
// each message, and once in a session of this process.
func TestRouter_EachHandlerOnce(t *testing.T) {
	filters := []string{"a/b", "a/+", "a/#", "#", "+/b", "$share/g/a/+"}
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		f := &fleet{T: t, rnd: rnd, merges: seed%2 == 0, subs: map[string]subs.Want{}, got: map[string]map[int]int{}, bare: map[string]int{}}
		f.start()
		f.began = true
		for range 60 {
			filter := filters[rnd.IntN(len(filters))]
			switch n := rnd.IntN(24); {
			case n < 4:
				f.subscribe(filter)
			case n == 4:
				if e := f.router.get(filter); e == nil {
					f.router.set(filter, silent)
					f.declared(filter)
					f.note("handle %s", filter)
				}
			case n == 5 && f.subs[filter].Filter != "" && len(f.queue) == 0: // its last copies are for all
				delete(f.subs, filter)
				f.router.remove(f.router.get(filter))
				delete(f.since, filter)
				f.changed = f.message
				f.note("unsubscribed from %s", filter)
			case n == 6:
				old := f.router
				f.start()
				for e := range old.tree.All() { // before it receives anything
					switch {
					case rnd.IntN(6) == 0:
						f.note("drops %s", e.Filter)
					case e.Value.want == nil:
						f.router.set(e.Filter, silent)
						f.declared(e.Filter)
					default:
						f.router.subscribe(&subs.Want{Filter: e.Filter}, silent)
						f.declared(e.Filter)
					}
				}
				for e := range f.router.tree.All() {
					if e.Value.want != nil {
						f.grant(*e.Value.want)
					}
				}
			case n == 7 && rnd.IntN(3) == 0:
				f.lose()
			case n < 16:
				f.publish()
			default:
				f.receive()
			}
		}
		for len(f.queue) > 0 {
			f.receive()
		}
		if t.Failed() {
			t.Fatalf("seed %d, one copy for all %v:\n%s", seed, f.merges, strings.Join(f.log, "\n"))
		}
	}
}
