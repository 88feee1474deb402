package client

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// taker is the user of a tap that notes what it gets.
type taker struct{ got []string }

func (k *taker) take(_ *Message, from origin) {
	k.got = append(k.got, []string{"past", "fill", "live"}[from])
}
func (k *taker) filled(SyncEnd) bool { return false }
func (k *taker) lost(time.Time)      {}
func (k *taker) refill(bool)         {}
func (k *taker) refused(error)       {}

// TestWhomAMessageIsFor: by its identifiers, RETAIN flag and what the server does
// with messages that several subscriptions match. Losing one for a handler is
// worse than one that comes twice.
func TestWhomAMessageIsFor(t *testing.T) {
	const fill, live, gone, theirs = sourceID, sourceID + 1, sourceID + 8, 7
	ids := func(list ...uint32) []uint32 { return list }
	for _, c := range []struct {
		what    string
		handled bool // a handler is declared
		ids     []uint32
		retain  bool
		copies  copies
		shared  bool
		phase   phase
		only    bool   // the program does not get it
		taken   string // by the tap
	}{
		{"theirs alone", true, ids(theirs), false, oneCopy, false, standing, false, ""},
		{"without identifier", true, nil, false, manyCopies, false, standing, false, ""},
		{"an answer", true, ids(fill), true, copiesUnknown, false, filling, true, "fill"},
		{"an answer that nobody waits for", true, ids(gone), true, copiesUnknown, false, standing, true, ""},
		{"a publication in one copy that matches two", true, ids(live, theirs), false, oneCopy, false, standing, false, "live"},
		{"the same, of a subscription of theirs without identifier", true, ids(live), false, oneCopy, false, standing, false, "live"},
		{"our copy of several", true, ids(live), false, manyCopies, false, standing, true, "live"},
		{"nobody knows of how many", true, ids(live), false, copiesUnknown, false, standing, false, "live"},
		{"no handler", false, ids(live), false, copiesUnknown, false, standing, true, "live"},
		{"no handler and no tap any more", false, ids(gone), false, copiesUnknown, false, standing, true, ""},
		{"one subscription for both", true, ids(live), false, manyCopies, true, standing, false, "live"},
		{"one subscription for both, an answer", true, ids(fill), true, manyCopies, true, filling, true, "fill"},
		// A fetch ends while a retained message is published that a mirror hears too:
		// the one copy has the flag, and is for the handler as well.
		{"retained, for a subscription that stays and one that is gone", true, ids(gone, live), true, oneCopy, false, standing, false, "live"},
		{"retained, for two of ours", true, ids(fill, gone+1), true, oneCopy, false, filling, false, "fill"},
		{"before we subscribed", true, nil, false, manyCopies, false, filling, false, "past"},
		{"of the subscription before", true, ids(gone), false, oneCopy, false, filling, false, "past"},
		{"to be subscribed again", true, ids(live), false, manyCopies, false, due, true, "past"},
		{"ending", true, ids(live), false, oneCopy, false, ending, false, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			var events recorder
			client := mustNew(t, testConfig("c", &events, mqtttest.Start(t).Dial))
			if c.handled {
				must(t, client.Handle("a/#", HandlerFunc(func(context.Context, *Message) error { return nil })))
			}
			k := &taker{}
			ts := &client.taps
			ts.used.Store(true)
			ts.subIDs, ts.copies = true, c.copies
			s := &source{filter: "a/+", phase: c.phase, id: fill, live: live, shared: c.shared, taps: []*tap{{filter: "a/+", rap: true, user: k}}}
			if c.shared {
				s.theirs = theirs
			}
			ts.sources = []*source{s}
			m := &Message{Topic: "a/1", Retain: c.retain, SubscriptionIDs: slices.Clone(c.ids)}
			if only := client.tapped(m); only != c.only {
				t.Errorf("only %v, want %v", only, c.only)
			}
			if got := fmt.Sprint(k.got); got != "["+c.taken+"]" {
				t.Errorf("taken %v, want %q", got, c.taken)
			}
			if c.only {
				return
			}
			for _, id := range m.SubscriptionIDs {
				if id != theirs {
					t.Errorf("the program sees the identifier %d", id)
				}
			}
			if c.shared && len(m.SubscriptionIDs) != 1 {
				t.Error("the program does not see its own identifier")
			}
			if slices.Contains(c.ids, live) && m.Retain {
				t.Error("the program sees the flag that we asked for")
			}
		})
	}
}
