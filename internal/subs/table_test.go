package subs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/topic"
)

// server is a server's list of subscriptions, and a log of its requests.
type server struct {
	t      *testing.T
	table  *Table
	has    map[string]Want
	refuse map[string]bool
	log    []string
	report []Result
	ready  bool
	// keepsEnds: the server never refuses to end a subscription. The table forgets subscriptions
	// that it cannot end.
	keepsEnds bool
}

func serve(t *testing.T) *server {
	return &server{t: t, table: New(Config{}), has: map[string]Want{}, refuse: map[string]bool{}, ready: true}
}

var all = session.Limits{WildcardAvailable: true, SubIDAvailable: true, SharedAvailable: true}

// connect starts a connection. kept means that the session continues.
func (s *server) connect(kept bool, l session.Limits) {
	if !kept {
		s.has = map[string]Want{}
	}
	s.report = append(s.report, s.table.attach(&connection{limits: l, present: kept, same: kept})...)
}

func (s *server) describe(r *request) string {
	if !r.subscribes() {
		return "-" + r.e.filter
	}
	d := fmt.Sprintf("%s q%d", r.want.Filter, r.want.QoS)
	if r.want.NoLocal {
		d += " nl"
	}
	if r.want.RetainAsPublished {
		d += " rap"
	}
	d += fmt.Sprintf(" rh%d", r.want.RetainHandling)
	if r.want.ID != 0 {
		d += fmt.Sprintf(" id%d", r.want.ID)
	}
	return d
}

// next takes one packet, which is then answered before the next one.
func (s *server) next() []*request {
	x, _ := s.table.next(s.ready)
	if x == nil {
		return nil
	}
	delete(s.table.out, x)
	return x.batch
}

func (s *server) sub(w Want) *Request          { return s.table.Subscribe(w)[0] }
func (s *server) unsub(filter string) *Request { return s.table.Unsubscribe(Want{Filter: filter}) }

// answer answers one packet. It reports whether there was one.
func (s *server) answer() bool {
	batch := s.next()
	var packet []string
	for _, r := range batch {
		packet = append(packet, s.describe(r))
	}
	for _, r := range batch {
		err := check([]*request{r}, s.table.conn.limits)
		switch {
		case err != nil:
		case s.refuse[r.e.filter] && !(s.keepsEnds && r.endsOther):
			err = &RefusedError{Code: 0x87}
		case r.subscribes():
			s.has[r.e.filter] = r.want
		default:
			delete(s.has, r.e.filter)
		}
		r.granted = r.want.QoS
		s.report = append(s.report, s.table.done(r, err)...)
		finish(r.waiting, err)
	}
	if len(batch) > 0 {
		s.log = append(s.log, strings.Join(packet, ", "))
	}
	return len(batch) > 0
}

// want lets the table send until it has nothing to send, and checks the packets since the last
// call.
func (s *server) want(packets ...string) {
	s.t.Helper()
	for n := 0; s.answer(); n++ {
		if n > 100 {
			s.t.Fatalf("it never rests: %q", s.log)
		}
	}
	if !slices.Equal(s.log, packets) {
		s.t.Errorf("sent %q, want %q", s.log, packets)
	}
	s.log = nil
}

// results checks the results reported since the last call.
func (s *server) results(want ...string) {
	s.t.Helper()
	var got []string
	for _, r := range s.report {
		line := fmt.Sprintf("%d %s", r.Owner, r.Want.Filter)
		switch {
		case r.Displaced:
			line += " displaced"
		case r.Ended:
			line += " ended"
		case r.Err == nil:
			line += " granted"
		}
		if r.Err != nil {
			line += " refused"
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("reported %q, want %q", got, want)
	}
	s.report = nil
}

func done(t *testing.T, r *Request) error {
	t.Helper()
	select {
	case <-r.done:
		return r.err
	default:
		t.Error("the request is not done")
		return nil
	}
}

func TestTable_RestoresMissingSubscriptions(t *testing.T) {
	s := serve(t)
	for i := range 40 {
		r := s.sub(Want{Filter: fmt.Sprint("f", i), QoS: 1})
		if err := done(t, r); err != nil {
			t.Error(err)
		}
	}
	s.sub(Want{Filter: "id", QoS: 1, ID: 7})
	s.connect(false, all)
	s.answer()
	s.answer()
	if s.answer(); strings.Count(s.log[0], ", ") != 31 || strings.Count(s.log[1], ", ") != 7 || s.log[2] != "id q1 rh0 id7" {
		t.Errorf("sent %q", s.log)
	}
	s.log = nil
	s.want()
	s.connect(true, all)
	s.want()
	s.unsub("f0")
	s.want("-f0")
	s.connect(false, all)
	if s.answer(); !strings.HasPrefix(s.log[0], "f1 q1 rh0, f2 ") {
		t.Errorf("sent %q", s.log)
	}
}

// A session of an earlier process may contain this process's subscriptions. Retained messages are
// sent as requested, whether the subscription was declared before or after the connection.
func TestTable_UsesRetainHandlingInForeignSessions(t *testing.T) {
	s := serve(t)
	s.sub(Want{Filter: "a", QoS: 1})
	s.sub(Want{Filter: "b", QoS: 1, RetainHandling: 2})
	s.sub(Want{Filter: "c", QoS: 1, RetainHandling: 1})
	s.table.attach(&connection{limits: all, present: true})
	s.want("a q1 rh0, b q1 rh2, c q1 rh1")
	now := s.sub(Want{Filter: "d"})
	s.want("d q0 rh0")
	if err := done(t, now); err != nil {
		t.Error(err)
	}
	s.sub(Want{Filter: "e", RetainHandling: 1})
	s.want("e q0 rh1")
	s.connect(true, all) // the handlers have received the retained messages
	s.want()
	s.unsub("e")
	s.sub(Want{Filter: "e", RetainHandling: 1})
	s.want("e q0 rh0") // the server has a subscription to the filter, but a different one
}

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

func TestTable_KeepsASubscriptionRefusedAtRestore(t *testing.T) {
	s := serve(t)
	s.refuse["a"] = true
	s.sub(Want{Filter: "a"})
	s.sub(Want{Filter: "b"})
	for range 2 {
		s.connect(false, all)
		s.want("a q0 rh0, b q0 rh0")
		s.results("0 a refused", "0 b granted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	given := s.sub(Want{Filter: "a"})
	if err := given.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.want("a q0 rh0")
	s.results("0 a refused") // no caller waits for it, so it is reported
	if _, ok := s.table.Application("a"); !ok {
		t.Error("what the caller gave up waiting for is forgotten")
	}
}

func TestTable_EndsSubscriptionsRemovedOffline(t *testing.T) {
	s := serve(t)
	s.sub(Want{Filter: "a"})
	s.connect(false, all)
	s.want("a q0 rh0")
	s.table.detach()
	s.unsub("a")
	s.unsub("never")
	s.connect(true, all)
	s.want("-a, -never")
	s.table.detach()
	s.unsub("lost")
	s.connect(false, all)
	s.want()
	s.connect(true, all)
	s.want()
	s.refuse["x"] = true
	r := s.unsub("x")
	s.want("-x")
	if err := done(t, r); !errors.As(err, new(*RefusedError)) {
		t.Errorf("got %v", err)
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

func TestTable_SharesAFilterBetweenApplicationAndView(t *testing.T) {
	s := serve(t)
	s.sub(Want{Filter: "a/+", QoS: 2, NoLocal: true})
	s.connect(false, all)
	s.want("a/+ q2 nl rh0")
	s.report = nil
	s.table.Set(View, Want{Filter: "a/+", RetainAsPublished: true, ID: ViewID})
	s.want(fmt.Sprintf("a/+ q2 nl rap rh0 id%d", ViewID))
	s.table.Set(View, Want{Filter: "a/+", QoS: 1, RetainHandling: 2, ID: ViewID + 1})
	s.want(fmt.Sprintf("a/+ q2 nl rh2 id%d", ViewID+1))
	s.results("3 a/+ granted", "3 a/+ granted")

	// The application subscribes again, so the view must fetch again.
	s.sub(Want{Filter: "a/+", QoS: 1, ID: 7})
	s.want("a/+ q1 rh0 id7")
	s.results("3 a/+ displaced")
	s.table.Set(View, Want{Filter: "a/+", ID: ViewID + 2})
	s.want(fmt.Sprintf("a/+ q1 rh0 id%d", ViewID+2))
	s.report = nil

	// The view ends, and the application gets its subscription back.
	if s.table.Remove(View, "a/+") {
		t.Error("ended without a request")
	}
	s.want("a/+ q1 rh2 id7")
	s.results("3 a/+ ended")

	// The reverse case.
	s.table.Set(View, Want{Filter: "a/+", ID: ViewID + 4})
	s.want(fmt.Sprintf("a/+ q1 rh0 id%d", ViewID+4))
	s.report = nil
	r := s.unsub("a/+")
	s.want(fmt.Sprintf("a/+ q0 rh2 id%d", ViewID+4))
	s.results("3 a/+ displaced")
	if err := done(t, r); err != nil {
		t.Error(err)
	}
	s.table.Remove(View, "a/+")
	s.want("-a/+")
	if s.table.entries.Len() != 0 {
		t.Error("the entry is still there")
	}
}

// A view that ends before its SUBSCRIBE is answered is ended at the server after the answer.
func TestTable_EndsAViewWithAnUnansweredRequest(t *testing.T) {
	s := serve(t)
	s.connect(false, all)
	s.table.Set(View, Want{Filter: "a", ID: ViewID})
	batch := s.next()
	if s.table.Remove(View, "a") {
		t.Error("ended, although the SUBSCRIBE is out")
	}
	s.has["a"] = batch[0].want
	s.report = s.table.done(batch[0], nil)
	s.want("-a")
	s.results("3 a granted", "3 a ended")

	// This also applies if the application shares the filter. Until it has its subscription back,
	// its messages have the view's identifier.
	s.sub(Want{Filter: "c"})
	s.want("c q0 rh0")
	s.table.Set(View, Want{Filter: "c", ID: ViewID})
	batch = s.next()
	if s.table.Remove(View, "c") {
		t.Error("ended, although the SUBSCRIBE is out")
	}
	s.report = s.table.done(batch[0], nil)
	s.want("c q0 rh2")
	s.results("3 c granted", "3 c ended")

	// A subscription that the application cannot get back stays unchanged.
	s.sub(Want{Filter: "b"})
	s.table.Set(View, Want{Filter: "b", ID: ViewID})
	s.want("b q0 rh0", fmt.Sprintf("b q0 rh0 id%d", ViewID))
	s.report = nil
	s.refuse["b"] = true
	s.table.Remove(View, "b")
	s.want("b q0 rh2")
	s.results("3 b ended refused")
}

// A view's subscription is requested each time it is set, and not restored.
func TestTable_DoesNotRestoreViews(t *testing.T) {
	s := serve(t)
	s.table.Set(View, Want{Filter: "a", ID: ViewID})
	for range 2 {
		s.connect(false, all)
		s.want()
		s.table.Set(View, Want{Filter: "a", ID: ViewID})
		s.want(fmt.Sprintf("a q0 rh0 id%d", ViewID))
	}
	s.table.detach()
	s.report = nil
	if s.table.Remove(View, "a") {
		t.Error("the session may still have it")
	}
	s.connect(false, all)
	s.want()
	s.results("3 a ended")
}

// A session that was made by a server without Subscription Identifiers gets identifiers from a
// server that has them. Retained messages are not sent again.
func TestTable_AddsIdentifiersToASession(t *testing.T) {
	s := serve(t)
	id := Variant(FilterID("a", 0), 3)
	s.sub(Want{Filter: "a", ID: id})
	s.connect(false, session.Limits{})
	s.want("a q0 rh0")
	s.connect(true, all)
	s.want(fmt.Sprintf("a q0 rh2 id%d", id))
	s.connect(true, all)
	s.want()
}

func TestTable_OmitsACoveredStatusSubscription(t *testing.T) {
	s := serve(t)
	const status = "d/c/status"
	own := Want{Filter: status, QoS: 1, ID: StatusID}
	asks := fmt.Sprintf("d/c/status q1 rh0 id%d", StatusID)
	s.table.Set(Status, own)
	s.sub(Want{Filter: "commands"})
	s.connect(false, all)
	s.want("commands q0 rh0", asks)
	s.table.Set(Status, own)
	s.want()
	for _, filter := range []string{"d/#", "+/c/+"} {
		s.sub(Want{Filter: filter})
		s.want(filter+" q0 rh0", "-"+status)
		s.unsub(filter)
		s.want("-"+filter, asks)
	}
	s.sub(Want{Filter: "$share/g/d/#"})
	s.sub(Want{Filter: "d/+/status", NoLocal: true})
	s.want("$share/g/d/# q0 rh0, d/+/status q0 nl rh0")

	// With exactly this filter there is only one subscription.
	s.sub(Want{Filter: status, NoLocal: true})
	s.want("d/c/status q0 nl rh0")
	s.unsub(status)
	s.want(fmt.Sprintf("d/c/status q1 rh2 id%d", StatusID))
	s.table.Set(View, Want{Filter: status, ID: ViewID})
	s.want(fmt.Sprintf("d/c/status q0 rh0 id%d", ViewID))
	s.table.Remove(View, status)
	s.want(fmt.Sprintf("d/c/status q1 rh2 id%d", StatusID))
	s.report = nil

	// After a refusal, the request is repeated on the next connection, not before.
	s.refuse[status] = true
	s.connect(false, all)
	s.want("commands q0 rh0, $share/g/d/# q0 rh0, d/+/status q0 nl rh0", asks)
	s.unsub("d/+/status")
	s.want("-d/+/status")
	s.connect(true, all)
	s.want(fmt.Sprintf("d/c/status q1 rh1 id%d", StatusID))
	s.table.Remove(Status, status)
	s.want()
}

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

// The identifier of a filter never changes, and no other owner uses it.
func TestFilterID(t *testing.T) {
	if id := FilterID("devices/+/readings/#", 0); id != 178_048_416 {
		t.Errorf("%d: sessions of earlier processes have another", id)
	}
	used := map[uint32]bool{}
	for i := range 100_000 {
		filter := fmt.Sprint("d/", i)
		id := FilterID(filter, 0)
		for probe := 1; used[id]; probe++ {
			id = FilterID(filter, probe)
		}
		used[id] = true
		for process := range uint32(variants) {
			v := Variant(id, process)
			if of, p := SplitVariant(v); of != id || p != process || !OfFilter(v) || !Internal(v) || v <= LastView {
				t.Fatalf("%s: %d of process %d is %d of %d", filter, id, process, of, p)
			}
		}
	}
	for _, id := range []uint32{1, FirstID - 1, MarkerID, StatusID, ViewID, LastView, oldFirst, oldFirst + oldCount - 1} {
		if of, _ := SplitVariant(id); OfFilter(id) || of != id {
			t.Errorf("%d is that of a filter", id)
		}
	}
}

// The time to declare filters is proportional to their number.
func TestTable_ManyFilters(t *testing.T) {
	took := func(n int) time.Duration {
		begin := time.Now()
		many(t, n)
		return time.Since(begin)
	}
	took(1000)
	few, all := took(2500), took(40_000)
	t.Logf("2,500 filters: %v; 40,000: %v", few, all)
	if all > 16*5*few {
		t.Errorf("16 times as many took %.0f times as long", all.Seconds()/few.Seconds())
	}
}

// many declares filters, half of them before the connection, and makes the server answer.
func many(t testing.TB, n int) {
	s := &server{table: New(Config{}), has: map[string]Want{}, refuse: map[string]bool{}, ready: true}
	for i := range n {
		if i == n/2 {
			s.connect(false, all)
		}
		filter := fmt.Sprintf("devices/%d/+", i)
		s.sub(Want{Filter: filter, ID: FilterID(filter, 0)})
	}
	for s.answer() {
	}
	if len(s.has) != n || len(s.table.List()) != n {
		t.Fatal(len(s.has))
	}
}

func BenchmarkTable_TenThousandFilters(b *testing.B) {
	for b.Loop() {
		many(b, 10_000)
	}
}
