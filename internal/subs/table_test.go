package subs

import (
	"fmt"
	"slices"
	"testing"
)

// This file tests what the table reports about its subscriptions.

func TestTable_Delivers(t *testing.T) {
	for _, c := range []struct {
		filter       string
		noLocal, own bool
		identifiers  bool
		want         bool
	}{
		{"d/+", false, false, false, true},
		{"e", false, false, false, false},
		{"e", false, false, true, true},
		{"$share/g/d/+", false, false, false, true},
		{"d/+", true, false, false, true},
		{"d/+", true, true, false, false},
		{"d/+", true, true, true, true},
	} {
		s := serve(t)
		s.sub(Want{Filter: c.filter, NoLocal: c.noLocal})
		l := all
		l.SubIDAvailable = c.identifiers
		s.connect(false, l)
		s.want(s.table.describeAll()...)
		if got := s.table.Delivers("d/x", c.own); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// describeAll returns the requests that the table will send first.
func (t *Table) describeAll() (list []string) {
	for e := range t.entries.All() {
		list = append(list, (*server)(nil).describe(t.needLocked(e.Value)))
	}
	return list
}

// The order in which the server has made subscriptions determines which of several copies arrive.
func TestTable_RecordsTheOrderOfSubscriptions(t *testing.T) {
	s := serve(t)
	made := map[string]*Made{"a": {}, "b": {}, "c": {}}
	sub := func(filter string, qos byte) { s.sub(Want{Filter: filter, QoS: qos, Made: made[filter]}) }
	want := func(what string, a, b, c uint64, began bool) {
		t.Helper()
		for s.answer() {
		}
		for filter, want := range map[string]uint64{"a": a, "b": b, "c": c} {
			if n, first := made[filter].Order(); n != want || first != (began && n != 0) {
				t.Errorf("%s: %s is number %d, first %v; want %d", what, filter, n, first, want)
			}
		}
	}
	sub("a", 0)
	sub("b", 0)
	want("before the connection", 0, 0, 0, false)
	s.connect(false, all)
	want("in a new session", 1, 2, 0, true)
	sub("a", 1)
	sub("c", 0)
	want("with other options", 1, 2, 3, true)
	s.unsub("a")
	want("ended", 0, 2, 3, true)
	sub("a", 0)
	want("made again", 4, 2, 3, true)
	s.connect(true, all)
	want("in the same session", 4, 2, 3, true)
	s.refuse["b"] = true
	s.connect(false, all)
	want("refused", 3, 0, 2, true) // the order of declaration is b, c, a
	s.refuse = map[string]bool{}
}

func TestTable_ListsWhatTheServerAnswered(t *testing.T) {
	s := serve(t)
	s.refuse["b"] = true
	for _, filter := range []string{"a", "b", "c"} {
		s.sub(Want{Filter: filter, QoS: 1})
	}
	s.table.Set(View, Want{Filter: "v", ID: ViewID})
	want := func(lines ...string) {
		t.Helper()
		var got []string
		for _, a := range s.table.List() {
			got = append(got, fmt.Sprint(a.Filter, a.State, a.Granted, a.Err != nil))
		}
		if !slices.Equal(got, lines) {
			t.Errorf("got %q, want %q", got, lines)
		}
	}
	want("a0 0 false", "b0 0 false", "c0 0 false")
	s.connect(false, all)
	for s.answer() {
	}
	want("a1 1 false", "b2 0 true", "c1 1 false")
	s.table.detach()
	s.unsub("c")
	want("a1 1 false", "b2 0 true")
	s.connect(false, all)
	want("a0 0 false", "b0 0 true")
}
