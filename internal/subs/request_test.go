package subs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/session"
)

// This file tests the requests of callers: their order, their packets, the limits of the server, and
// refusals.

func TestTable_RequestsOfCallersComeFirst(t *testing.T) {
	s := serve(t)
	s.ready = false
	s.sub(Want{Filter: "early"})
	s.connect(false, all)
	s.want()
	s.sub(Want{Filter: "now"})
	s.want("now q0 rh0")
	s.ready = true
	s.want("early q0 rh0")
}

// One packet has requests of one kind with one identifier, and each filter once.
func TestTable_CombinesRequestsInPackets(t *testing.T) {
	s := serve(t)
	s.connect(false, all)
	s.sub(Want{Filter: "a"})
	s.unsub("b")
	s.sub(Want{Filter: "c"})
	s.sub(Want{Filter: "c"})
	s.table.Set(Application, Want{Filter: "d", ID: 5})
	s.table.Set(Application, Want{Filter: "e", ID: 5})
	s.table.Set(Application, Want{Filter: "e", ID: 5, QoS: 1})
	s.want("a q0 rh0", "-b", "c q0 rh0", "d q0 rh0 id5, e q1 rh0 id5")
	s.table.Set(Application, Want{Filter: "e", ID: 5, QoS: 1})
	s.want()
}

func TestTable_RemovesASubscriptionRefusedToACaller(t *testing.T) {
	s := serve(t)
	s.connect(false, all)
	s.refuse["a"] = true
	r := s.sub(Want{Filter: "a"})
	s.want("a q0 rh0")
	if err := done(t, r); !errors.As(err, new(*RefusedError)) {
		t.Errorf("got %v", err)
	}
	s.results("0 a refused") // logged, although the caller knows it
	s.connect(false, all)
	s.want()
	if s.table.entries.Len() != 0 {
		t.Error("the entry is still there")
	}
}

func TestTable_KnowsTheLimitsOfTheServer(t *testing.T) {
	s := serve(t)
	s.connect(false, session.Limits{MaximumPacketSize: 40})
	for code, w := range map[byte]Want{
		0xA2: {Filter: "a/+"}, 0x9E: {Filter: "$share/g/a"}, 0xA1: {Filter: "a", ID: 5}, 0x95: {Filter: strings.Repeat("x", 40)},
	} {
		var refused *RefusedError
		r := s.sub(w)
		for s.answer() {
		}
		if err := done(t, r); !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("%s: %v, want 0x%02X", w.Filter, err, code)
		}
	}
	s.log = nil
	s.table.Set(Status, Want{Filter: "s", ID: StatusID})
	s.want("s q0 rh0") // without the identifier
}

// Requests of the application are sent before earlier ones are answered, in the order of
// declaration. Requests that may depend on an answer wait for it.
func TestTable_DoesNotWaitForAnswers(t *testing.T) {
	s := serve(t)
	for i := range 100 {
		s.sub(Want{Filter: fmt.Sprint("f", i), ID: FilterID(fmt.Sprint("f", i), 0)})
	}
	s.table.Set(Status, Want{Filter: "status", ID: StatusID})
	s.connect(false, all)
	var out []*exchange
	for {
		x, caughtUp := s.table.next(true)
		if caughtUp {
			t.Fatal("caught up before the answers")
		}
		if x == nil {
			break
		}
		if out = append(out, x); len(x.batch) != 1 || x.batch[0].want.Filter != fmt.Sprint("f", len(out)-1) {
			t.Fatalf("packet %d is %q", len(out), s.describe(x.batch[0]))
		}
	}
	if len(out) != maxOut {
		t.Errorf("%d packets without an answer, want %d", len(out), maxOut)
	}
	s.table.Set(Application, Want{Filter: "f3", QoS: 1}) // while its request is unanswered
	answered := func(x *exchange) {
		delete(s.table.out, x)
		for _, r := range x.batch {
			s.report = append(s.report, s.table.done(r, nil)...)
		}
	}
	slices.Reverse(out) // answers arrive in any order
	for _, x := range out[:maxOut-1] {
		answered(x)
	}
	for range 100 - maxOut {
		x, _ := s.table.next(true)
		answered(x)
	}
	if x, _ := s.table.next(true); x == nil || x.batch[0].want.Filter != "f3" {
		t.Errorf("next is %+v, want what was declared meanwhile", x)
	} else {
		answered(x)
	}
	if x, caughtUp := s.table.next(true); x != nil || caughtUp {
		t.Errorf("%+v, caught up %v, while f0 is not answered", x, caughtUp)
	}
	answered(out[maxOut-1])
	if x, caughtUp := s.table.next(true); x == nil || x.batch[0].want.Filter != "status" || !caughtUp {
		t.Errorf("%+v, caught up %v; want the status", x, caughtUp)
	}
}
