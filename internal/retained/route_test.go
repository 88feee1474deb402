package retained

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// known is what a machine knows of the application in a test.
type known struct {
	app     map[string]subs.Want // the application's subscriptions
	handled Handled
	overlap bool
	rap     bool
}

func (k *known) Application(filter string) (subs.Want, bool) {
	w, ok := k.app[filter]
	return w, ok
}
func (k *known) Overlap(string) bool     { return k.overlap }
func (k *known) Match(string) Handled    { return k.handled }
func (k *known) RetainAsPublished() bool { return k.rap }

var origins = []string{"past", "fill", "live"}

// Which messages are for a view, and which for a handler: by their identifiers, RETAIN
// flag, and what the application's subscriptions are. To lose one for a handler is
// worse than to deliver it twice.
func TestMachine_RoutesMessages(t *testing.T) {
	const fill, live, gone, theirs = subs.ViewID, subs.ViewID + 1, subs.ViewID + 8, 7
	ids := func(list ...uint32) []uint32 { return list }
	none, handled, identified := Handled{}, Handled{Any: true, Alone: true}, Handled{Any: true, Alone: true, Identified: true}
	for _, c := range []struct {
		what    string
		handled Handled
		ids     []uint32
		retain  bool
		shared  bool
		phase   phase
		only    bool   // no handler gets it
		taken   string // by the view
	}{
		{"of the application alone", handled, ids(theirs), false, false, following, false, ""},
		{"without identifier", identified, nil, false, false, following, false, ""},
		{"an answer", handled, ids(fill), true, false, filling, true, "fill"},
		{"an answer that nobody waits for", handled, ids(gone), true, false, following, true, ""},
		{"one copy for both", identified, ids(live, theirs), false, false, following, false, "live"},
		{"one copy for both, with the client's identifier", identified, ids(live, subs.ApplicationID), false, false, following, false, "live"},
		{"one copy, of an application subscription without identifier", handled, ids(live), false, false, following, false, "live"},
		{"the view's copy of several", identified, ids(live), false, false, following, true, "live"},
		{"the application's copy of several", identified, ids(subs.ApplicationID), false, false, following, false, ""},
		{"a handler of a Shared Subscription", Handled{Any: true}, ids(live), false, false, following, true, "live"},
		{"no handler", none, ids(live), false, false, following, true, "live"},
		{"no handler and no view any more", none, ids(gone), false, false, following, true, ""},
		{"one subscription for both", identified, ids(live), false, true, following, false, "live"},
		{"one subscription for both, an answer", identified, ids(fill), true, true, filling, true, "fill"},
		// A fetch ends while a retained message is published that a mirror gets too:
		// the one copy has the flag, and is for the handler as well.
		{"retained, for a subscription that stays and one that is gone", handled, ids(gone, live), true, false, following, false, "live"},
		{"retained, for two views", handled, ids(fill, gone+1), true, false, filling, false, "fill"},
		{"before the SUBSCRIBE", identified, nil, false, false, filling, false, "past"},
		{"of the subscription before", handled, ids(gone), false, false, following, false, ""},
		{"of a subscription of an earlier process, which the application may have shared", identified, ids(gone), false, false, filling, false, "past"},
		{"to be fetched again", identified, ids(live), false, false, due, true, "past"},
		{"ending", handled, ids(live), false, false, ending, false, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := New(&known{handled: c.handled}, 0, "")
			m.conn, m.subIDs = &Connection{}, true
			v := &View{Filter: "a/+", RetainAsPublished: true}
			s := &subscription{filter: "a/+", phase: c.phase, id: fill, live: live, shared: c.shared, views: []*View{v}}
			if c.shared {
				s.theirs = theirs
			}
			m.filters.Set(s.filter, s)
			visible, split := SplitIDs(slices.Clone(c.ids), nil)
			r := m.Message(time.Time{}, Message{Topic: "a/1", Retain: c.retain, IDs: split})
			taken := ""
			for _, to := range r.To {
				taken += origins[to.Origin]
			}
			if r.Only != c.only || taken != c.taken {
				t.Errorf("only %v, taken %q; want %v, %q", r.Only, taken, c.only, c.taken)
			}
			for _, id := range visible {
				if id != theirs {
					t.Errorf("the application sees the identifier %d", id)
				}
			}
			if brought := slices.Contains(c.ids, live) || slices.Contains(c.ids, fill); c.shared && brought && fmt.Sprint(r.IDs) != "[7]" {
				t.Errorf("the application's own identifier is not restored: %v", r.IDs)
			}
			if slices.Contains(c.ids, live) && c.retain && !r.ClearRetain {
				t.Error("handlers see the flag that only the view has asked for")
			}
		})
	}
}

// Without Subscription Identifiers, QoS and RETAIN flag tell as much as they can.
func TestMachine_RoutesMessagesWithoutIdentifiers(t *testing.T) {
	for _, c := range []struct {
		what   string
		msg    Message
		kept   bool // the session has kept messages
		rap    bool
		taken  string
		doubts bool // all is fetched once more
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
