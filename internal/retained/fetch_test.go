package retained

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
)

// bed drives a machine and records its actions as text. Identifiers are counted from the first one.
type bed struct {
	t   *testing.T
	m   *Machine
	k   *known
	now time.Time
	got []string
	ids []uint32 // of the SUBSCRIBEs
}

func newBed(t *testing.T, c Connection) *bed {
	b := &bed{t: t, k: &known{}, now: time.Unix(1000, 0)}
	b.m = New(b.k, 0, "nonce")
	b.note(b.m.Connected(c))
	b.m.MarkerSubscribed(c.Marker != "")
	return b
}

var marked = Connection{SubIDs: true, Marker: "marker"}

func (b *bed) note(actions []Action) {
	name := func(a Action) string { return fmt.Sprint(a.View.User) }
	for _, a := range actions {
		line := ""
		switch a.Do {
		case Subscribe:
			b.ids = append(b.ids, a.Want.ID)
			line = fmt.Sprintf("subscribe %s q%d rh%d", a.Want.Filter, a.Want.QoS, a.Want.RetainHandling)
			if a.Want.RetainAsPublished {
				line += " rap"
			}
		case Unsubscribe:
			line = "unsubscribe " + a.Want.Filter
		case PublishMarker:
			line = fmt.Sprintf("marker %s %d", a.Want.Filter, a.Fetch)
		case Filled:
			line = name(a) + []string{"", " by marker", " by silence"}[a.End]
		case Lost:
			line = name(a) + " lost"
		case Refill:
			line = fmt.Sprint(name(a), " refill ", a.Again)
		case Refused:
			line = name(a) + " refused"
		case Failed:
			line = "failed " + a.Want.Filter
		}
		b.got = append(b.got, line)
	}
}

// want checks the actions since the last call.
func (b *bed) want(lines ...string) {
	b.t.Helper()
	if !slices.Equal(b.got, lines) {
		b.t.Errorf("got %q, want %q", b.got, lines)
	}
	b.got = nil
}

func (b *bed) add(name, filter string, v View) *View {
	b.t.Helper()
	v.Filter, v.User = filter, name
	if v.Silence == 0 {
		v.Silence = time.Second
	}
	actions, err := b.m.Add(&v)
	if err != nil {
		b.t.Fatal(err)
	}
	b.note(actions)
	return &v
}

// granted answers the last SUBSCRIBE.
func (b *bed) granted(filter string) { b.note(b.m.Subscribed(b.now, filter, b.ids[len(b.ids)-1])) }

func (b *bed) marked(fetch int) { b.note(b.m.Marked([]byte(fmt.Sprint("nonce/", fetch)))) }

func (b *bed) after(d time.Duration) {
	b.now = b.now.Add(d)
	b.note(b.m.Tick(b.now))
}

// message routes a message that was sent for the last SUBSCRIBE.
func (b *bed) message(topic string) Route {
	return b.m.Message(b.now, Message{Topic: topic, Retain: true, IDs: IDs{Views: []uint32{b.ids[len(b.ids)-1]}}})
}

func TestMachine_FetchesInTwoStepsAndEndsByMarker(t *testing.T) {
	b := newBed(t, marked)
	b.add("watch", "a", View{QoS: 1})
	b.want("subscribe a q0 rh0")
	b.granted("a")
	b.want("subscribe a q1 rh2")
	b.granted("a")
	b.want("marker a 1")
	b.m.Marked([]byte("nonce/7"))
	b.want()
	b.marked(1)
	b.want("watch by marker")
	if b.ids[1] != b.ids[0]+1 || !fetches(b.ids[0]) || fetches(b.ids[1]) {
		t.Errorf("identifiers %d", b.ids)
	}

	// A view that needs only the fetch has one step.
	b.add("fetch", "b", View{})
	b.want("subscribe b q0 rh0")
	b.granted("b")
	b.want("marker b 2")

	// Retain As Published is set at once, unless handlers overlap.
	b.add("mirror", "c", View{RetainAsPublished: true})
	b.want("subscribe c q0 rh0 rap")
	b.granted("c")
	b.want("marker c 3")
	b.k.overlap = true
	b.add("mirror", "d", View{RetainAsPublished: true})
	b.want("subscribe d q0 rh0")
	b.granted("d")
	b.want("subscribe d q0 rh2 rap")

	// The application's own subscription determines QoS and flags.
	b.granted("d")
	b.got = nil
	b.k.app = map[string]subs.Want{"e": {RetainAsPublished: true}, "f": {}}
	b.add("mirror", "e", View{QoS: 1, RetainAsPublished: true})
	b.want("subscribe e q0 rh0")
	b.granted("e")
	b.want("marker e 5")
	b.add("watch", "f", View{QoS: 1})
	b.want("subscribe f q0 rh0")
	b.granted("f")
	b.want("marker f 6")
}

func TestMachine_EndsBySilence(t *testing.T) {
	for _, c := range []struct {
		what   string
		conn   Connection
		failed bool // publishing the marker failed
		after  time.Duration
	}{
		{"no marker", Connection{SubIDs: true}, false, time.Second},
		{"the marker cannot be published", marked, true, time.Second},
		{"the marker does not come", marked, false, markerFactor * time.Second},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBed(t, c.conn)
			b.add("fetch", "a", View{})
			b.granted("a")
			b.got = nil
			if c.failed {
				b.m.NoMarker(b.now, "a", 1)
			}
			b.now = b.now.Add(c.after - 1)
			b.message("a") // restarts the silence
			b.after(1)
			b.want()
			if at := b.m.Deadline().Sub(b.now); at != c.after-1 {
				t.Errorf("the deadline is in %v", at)
			}
			b.after(c.after - 2)
			b.want()
			b.after(1)
			b.want("fetch by silence")
			if !b.m.Deadline().IsZero() {
				t.Error("there is still a deadline")
			}
		})
	}
}

func TestMachine_IgnoresReportsOfAnOlderFetch(t *testing.T) {
	b := newBed(t, marked)
	b.add("watch", "a", View{})
	old := b.ids[0]
	b.note(b.m.Displaced("a"))
	b.want("subscribe a q0 rh0", "watch refill false", "subscribe a q0 rh0")
	b.note(b.m.Subscribed(b.now, "a", old))
	b.note(b.m.Denied("a", old, errors.New("x")))
	b.want()
	b.granted("a")
	b.want("marker a 2")
	b.m.NoMarker(b.now, "a", 1)
	b.marked(1)
	b.after(markerFactor*time.Second - 1)
	b.want()
	b.marked(2)
	b.want("watch by marker")
	b.m.NoMarker(b.now, "a", 2)
	b.after(time.Hour)
	b.want()
}

// Views that are added during a fetch wait for the next one. Complete views get a report that their
// content may change.
func TestMachine_FetchesAgainForALaterView(t *testing.T) {
	b := newBed(t, marked)
	b.add("1", "a", View{})
	b.granted("a")
	b.add("2", "a", View{})
	b.add("3", "a", View{})
	b.want("subscribe a q0 rh0", "marker a 1")
	if r := b.message("a"); len(r.To) != 1 || r.To[0].View.User != "1" {
		t.Errorf("the message goes to %v", r.To)
	}
	b.marked(1)
	b.want("1 by marker", "1 refill false", "subscribe a q0 rh0")
	b.granted("a")
	b.marked(2)
	b.want("marker a 2", "1 by marker", "2 by marker", "3 by marker")
}

func TestMachine_FetchesOneFilterAtATime(t *testing.T) {
	b := newBed(t, marked)
	b.add("1", "a", View{})
	gone := b.add("2", "b", View{})
	b.add("3", "c", View{})
	b.want("subscribe a q0 rh0")
	b.note(b.m.Remove(gone)) // nothing was sent for it
	b.granted("a")
	b.want("marker a 1", "subscribe c q0 rh0")
}

func TestMachine_FetchesAgainOnEachConnection(t *testing.T) {
	b := newBed(t, marked)
	b.add("1", "a", View{})
	b.granted("a")
	b.note(b.m.Disconnected())
	b.want("subscribe a q0 rh0", "marker a 1", "1 lost")
	b.marked(1)
	b.after(time.Hour)
	b.want()
	b.note(b.m.Connected(Connection{SubIDs: true, Marker: "marker", Present: true}))
	b.granted("a")
	b.marked(2)
	b.want("subscribe a q0 rh0", "marker a 2", "1 by marker")
	b.note(b.m.Disconnected())
	b.note(b.m.Connected(marked)) // a new session has no subscription for the marker
	b.granted("a")
	b.want("1 lost", "subscribe a q0 rh0")
}

func TestMachine_ReportsRefusals(t *testing.T) {
	b := newBed(t, marked)
	b.add("1", "a", View{QoS: 1})
	b.add("2", "b", View{})
	b.note(b.m.Denied("a", b.ids[0], errors.New("x")))
	b.want("subscribe a q0 rh0", "failed a", "1 refused", "subscribe b q0 rh0")
	b.granted("b")
	b.got = nil
	b.add("3", "a", View{}) // asks again
	b.want("subscribe a q0 rh0")
	b.note(b.m.Disconnected())
	b.got = nil
	none := errors.New("no retained messages")
	b.note(b.m.Connected(Connection{Unavailable: none}))
	b.want("failed a", "1 refused", "3 refused", "failed b", "2 refused")
	b.add("4", "c", View{})
	b.want("failed c", "4 refused")
}

func TestMachine_EndsSubscriptions(t *testing.T) {
	b := newBed(t, marked)
	v := b.add("1", "a", View{})
	b.granted("a")
	b.note(b.m.Remove(v))
	b.note(b.m.Remove(v))
	b.want("subscribe a q0 rh0", "marker a 1", "unsubscribe a")
	b.marked(1)
	b.want()
	if r := b.message("a"); !r.Answer || len(r.To) > 0 {
		t.Errorf("a message that comes late: %+v", r)
	}
	b.add("2", "a", View{}) // before it has ended
	b.m.Ended("a")
	b.want("subscribe a q0 rh0")
	b.granted("a")
	b.marked(2)
	b.want("marker a 2", "2 by marker")
	b.note(b.m.Displaced("a"))
	b.want("2 refill false", "subscribe a q0 rh0")
	if b.m.filters.Len() != 1 {
		t.Errorf("%d filters", b.m.filters.Len())
	}
}

// A view that asks again does not make other views ask again.
func TestMachine_Again(t *testing.T) {
	b := newBed(t, marked)
	v := b.add("1", "a", View{})
	b.add("2", "a", View{})
	for fetch := range 3 {
		b.granted("a")
		b.marked(fetch + 1)
		if fetch == 0 {
			b.note(b.m.Again(v))
			b.want("subscribe a q0 rh0", "marker a 1", "1 by marker", "1 refill false", "subscribe a q0 rh0")
		}
		if fetch == 1 {
			b.want("marker a 2", "1 by marker", "2 by marker")
			b.note(b.m.Again(v))
			b.want("2 refill true", "subscribe a q0 rh0")
		}
	}
	b.want("marker a 3", "1 by marker", "2 by marker")
	gone := b.add("3", "b", View{})
	b.note(b.m.Remove(gone))
	b.got = nil
	b.note(b.m.Again(gone))
	b.want()
}

// If no identifier distinguishes a kept message from a new one, everything is fetched once more.
func TestMachine_ResolvesDoubt(t *testing.T) {
	b := newBed(t, Connection{Marker: "marker", Present: true})
	b.add("1", "a", View{})
	b.granted("a")
	b.m.Message(b.now, Message{Topic: "a", QoS: 1})
	b.marked(1)
	b.want("subscribe a q0 rh0", "marker a 1", "1 refill true", "subscribe a q0 rh0")
	b.granted("a")
	b.m.Message(b.now, Message{Topic: "a", QoS: 1}) // by now no kept messages are left
	b.marked(2)
	b.want("marker a 2", "1 by marker")
}

func TestMachine_SeparateIdentifiersPerFilter(t *testing.T) {
	m := New(&known{}, 0xFFFF_FFFF, "")
	m.Connected(Connection{SubIDs: true})
	used := map[uint32]bool{}
	const count = MaxFilters
	for i := range count {
		actions, err := m.Add(&View{Filter: fmt.Sprint("f/", i)})
		if err != nil {
			t.Fatal(err)
		}
		for len(actions) > 0 {
			w := actions[0].Want
			if used[w.ID] || !subs.Internal(w.ID) || !subs.Internal(w.ID+1) || !fetches(w.ID) {
				t.Fatalf("identifier %d", w.ID)
			}
			used[w.ID] = true
			actions = slices.Clone(m.Subscribed(time.Now(), w.Filter, w.ID))
		}
	}
	if _, err := m.Add(&View{Filter: "more"}); !errors.Is(err, ErrTooManyFilters) {
		t.Error(err)
	}
	if len(used) != count || !strings.HasPrefix(fmt.Sprint(m.Fetches), "10000") {
		t.Errorf("%d identifiers, %d fetches", len(used), m.Fetches)
	}
}
