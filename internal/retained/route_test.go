package retained

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// known is the machine's knowledge of the application in a test.
type known struct {
	app     map[string]subs.Want // subscriptions of the application
	overlap bool
}

func (k *known) Application(filter string) (subs.Want, bool) {
	w, ok := k.app[filter]
	return w, ok
}
func (k *known) Overlap(string) bool { return k.overlap }

var origins = []string{"past", "fill", "live"}

// Identifiers, the RETAIN flag and the application's subscriptions determine which messages are for
// a view and which for handlers. A message lost for a handler is worse than a message delivered
// twice.
func TestMachine_RoutesMessages(t *testing.T) {
	const fill, live, gone, theirs = subs.ViewID + 4, subs.ViewID + 5, subs.ViewID + 8, 7
	ids := func(list ...uint32) []uint32 { return list }
	for _, c := range []struct {
		what   string
		ids    []uint32
		retain bool
		shared bool
		phase  phase
		own    string // handlers that get it: those of the identifiers, none, or all
		taken  string // how the view takes it
	}{
		{"of the application alone", ids(theirs), false, false, following, "[7]", ""},
		{"without identifier", nil, false, false, following, "all", ""},
		{"an answer", ids(fill), true, false, filling, "none", "fill"},
		{"an answer that nobody waits for", ids(gone), true, false, following, "none", ""},
		{"one copy for both", ids(live, theirs), false, false, following, "[7]", "live"},
		{"one copy for both and the status", ids(subs.StatusID, live, theirs, subs.MarkerID), false, false, following, "[7]", "live"},
		{"the view's copy of several", ids(live), false, false, following, "none", "live"},
		{"the status alone", ids(subs.StatusID), false, false, following, "none", ""},
		{"no view any more", ids(gone), false, false, following, "none", ""},
		{"one subscription for both", ids(live + shares), false, true, following, "[7]", "live"},
		{"one subscription for both, an answer", ids(fill + shares), true, true, filling, "none", "fill"},
		{"one subscription for both, published during the fetch", ids(fill + shares), false, true, filling, "[7]", "fill"},
		// A fetch ends while a retained message is published that a mirror gets too. The single
		// copy has the flag and is for the handler as well.
		{"retained, for a subscription that stays and one that is gone", ids(gone, live, theirs), true, false, following, "[7]", "live"},
		{"before the SUBSCRIBE", nil, false, false, filling, "all", "past"},
		{"of a subscription of an earlier process", ids(gone), false, false, filling, "none", "past"},
		{"of a subscription of an earlier process, which the application shared", ids(gone + shares), false, false, filling, "all", "past"},
		{"an answer to an earlier process, or published", ids(gone + shares), true, false, filling, "all", "past"},
		{"to be fetched again", ids(live), false, false, due, "none", "past"},
		{"ending", ids(live), false, false, ending, "none", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := New(&known{}, 0, "")
			m.conn, m.subIDs = &Connection{}, true
			v := &View{Filter: "a/+", RetainAsPublished: true}
			s := &subscription{filter: "a/+", phase: c.phase, id: fill, live: live, views: []*View{v}}
			if c.shared {
				s.theirs, s.id, s.live = theirs, fill+shares, live+shares
			}
			m.filters.Set(s.filter, s)
			split := SplitIDs(slices.Clone(c.ids))
			r := m.Message(time.Time{}, Message{Topic: "a/1", Retain: c.retain, IDs: split})
			taken := ""
			for _, to := range r.To {
				taken += origins[to.Origin]
			}
			if own := r.handlers(split); own != c.own || taken != c.taken {
				t.Errorf("for handlers %s, taken %q; want %s, %q", own, taken, c.own, c.taken)
			}
			if brought := slices.Contains(c.ids, s.live); r.Raised != brought {
				t.Errorf("Raised is %v, the view's subscription that stays has brought it: %v", r.Raised, brought)
			}
		})
	}
}

// handlers describes the handlers that get a message.
func (r Route) handlers(ids IDs) string {
	own := slices.Concat(ids.Application, r.IDs)
	switch {
	case r.Unknown, len(own)+len(ids.Views) == 0 && !ids.Status:
		return "all"
	case len(own) == 0:
		return "none"
	}
	return fmt.Sprint(own)
}

// Messages of the previous fetch may still arrive for the application's subscription to the same
// filter.
func TestMachine_RemembersThePreviousFetch(t *testing.T) {
	app := &known{app: map[string]subs.Want{"a": {ID: 9}}}
	m := New(app, 0, "")
	m.Connected(Connection{SubIDs: true})
	v := &View{Filter: "a", QoS: 1}
	actions, err := m.Add(v)
	if err != nil {
		t.Fatal(err)
	}
	first := actions[0].Want.ID
	m.Subscribed(time.Time{}, "a", first)
	m.Displaced("a")
	for _, id := range []uint32{first, first + 1} {
		r := m.Message(time.Time{}, Message{Topic: "a", IDs: SplitIDs([]uint32{id})})
		if fmt.Sprint(r.IDs) != "[9]" || r.Unknown || r.Answer {
			t.Errorf("identifier %d: %+v", id, r)
		}
	}
}

// Without Subscription Identifiers, only QoS and the RETAIN flag are available.
func TestMachine_RoutesMessagesWithoutIdentifiers(t *testing.T) {
	for _, c := range []struct {
		what   string
		msg    Message
		kept   bool // the session has kept messages
		rap    bool
		taken  string
		doubts bool // everything is fetched once more
	}{
		{"a retained message", Message{Retain: true}, false, false, "fill", false},
		{"a retained message in a kept session", Message{Retain: true, QoS: 1}, true, false, "fill", false},
		{"a publication", Message{QoS: 1}, false, false, "fill", false},
		{"a publication or one that was kept", Message{QoS: 1}, true, false, "past", true},
		{"a publication at QoS 0, which is not kept", Message{}, true, false, "fill", false},
		{"a retained message for a mirror", Message{Retain: true}, false, true, "fill", false},
		{"a retained message for a mirror, or one that was kept", Message{Retain: true, QoS: 1}, true, true, "past", true},
		{"a publication that a mirror can tell", Message{QoS: 1}, false, true, "live", false},
	} {
		m := New(&known{}, 0, "")
		m.conn = &Connection{}
		v := &View{Filter: "a", RetainAsPublished: c.rap, fetch: 1}
		s := &subscription{filter: "a", phase: filling, fetch: 1, kept: c.kept, flagged: c.rap, views: []*View{v}}
		m.filters.Set("a", s)
		c.msg.Topic = "a"
		r := m.Message(time.Time{}, c.msg)
		if len(r.To) != 1 || origins[r.To[0].Origin] != c.taken || s.doubt != c.doubts {
			t.Errorf("%s: %+v, doubt %v; want %q", c.what, r.To, s.doubt, c.taken)
		}
	}
}
