package subs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/session"
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
