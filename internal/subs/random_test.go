package subs

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/topic"
)

// TestTable_MatchesTheServerWithTheWants changes the owners' wants at random, on connections with and
// without the previous session, with a server that refuses at random. When the table has nothing to
// send, the server has exactly the wanted subscriptions.
func TestTable_MatchesTheServerWithTheWants(t *testing.T) {
	filters := []string{"a", "a/+", "a/#", "+/b", "$share/g/a/b", "a/b"}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := serve(t)
		s.keepsEnds = true
		connected := false
		var open []*Request
		id := uint32(ViewID)
		ends := map[string]bool{} // ended views whose end must be reported
		for range 60 {
			f := filters[rnd.IntN(len(filters))]
			switch rnd.IntN(12) {
			case 0, 1:
				open = append(open, s.sub(Want{Filter: f, QoS: byte(rnd.IntN(3)), RetainHandling: byte(rnd.IntN(3))}))
			case 2:
				open = append(open, s.unsub(f))
			case 3:
				id += 2
				delete(ends, f)
				s.table.Set(View, Want{Filter: f, QoS: byte(rnd.IntN(2)), ID: id})
			case 4:
				if !s.table.Remove(View, f) {
					ends[f] = true
				}
			case 5:
				s.table.Set(Status, Want{Filter: "a/b", QoS: 1, ID: StatusID})
			case 6:
				s.table.Remove(Status, "a/b")
			case 7:
				s.refuse[f] = !s.refuse[f]
			case 8:
				s.table.detach()
				connected = false
			case 9:
				if !connected {
					s.connect(rnd.IntN(2) == 0, all)
					connected = true
				}
			default:
				if connected && rnd.IntN(3) == 0 { // lost before its answer
					if batch := s.next(); len(batch) > 0 {
						for _, r := range batch {
							if rnd.IntN(2) == 0 && r.subscribes() {
								s.has[r.e.filter] = r.want
							}
							s.table.unanswered(r, nil)
						}
						s.table.detach()
						connected = false
					}
				} else if connected {
					s.answer()
				}
			}
		}
		s.refuse = map[string]bool{}
		if connected {
			s.table.detach()
		}
		s.connect(rnd.IntN(2) == 0, all)
		for e := range s.table.entries.All() { // views set their wants again on each connection
			if w := e.Value.want[View]; w != nil {
				s.table.Set(View, w.Want)
			}
		}
		for n := 0; s.answer(); n++ {
			if n > 100 {
				t.Fatalf("seed %d: it never rests: %q", seed, s.log)
			}
		}
		for _, r := range open {
			_ = done(t, r)
		}
		for _, r := range s.report {
			if r.Owner == View && r.Ended {
				delete(ends, r.Want.Filter)
			}
		}
		if len(ends) > 0 {
			t.Errorf("seed %d: the end of %v was not reported", seed, ends)
		}
		s.check(seed)
	}
}

// check compares the server with the wants.
func (s *server) check(seed uint64) {
	s.t.Helper()
	covers := func(filter string) bool {
		var one topic.Tree[int]
		one.Set(filter, 0)
		return !strings.HasPrefix(filter, "$share/") && len(one.Match("a/b", nil)) > 0
	}
	covered := false
	for e := range s.table.entries.All() {
		w := e.Value.want
		covered = covered || w[Application] != nil && covers(e.Filter) || w[View] != nil && e.Filter == "a/b"
	}
	want := map[string]string{}
	for e := range s.table.entries.All() {
		app, view, status := e.Value.want[Application], e.Value.want[View], e.Value.want[Status]
		switch {
		case view != nil && app != nil:
			want[e.Filter] = fmt.Sprint(app.QoS, view.ID)
		case view != nil:
			want[e.Filter] = fmt.Sprint(view.QoS, view.ID)
		case app != nil:
			want[e.Filter] = fmt.Sprint(app.QoS, 0)
		case status != nil && !covered:
			want[e.Filter] = fmt.Sprint(1, uint32(StatusID))
		}
	}
	got := map[string]string{}
	for filter, w := range s.has {
		got[filter] = fmt.Sprint(w.QoS, w.ID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("seed %d: the server has %v, want %v; asked %q", seed, got, want, s.log)
	}
}
