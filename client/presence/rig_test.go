package presence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

var begin = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rig is a Tracker with a clock that the test moves.
type rig struct {
	*presence.Tracker
	t   *testing.T
	now time.Time
}

// newRig creates a rig with a tracker. In o, StaleAfter 0 means 15 s, and -1 means 0.
func newRig(t *testing.T, o presence.Options) *rig {
	switch o.StaleAfter {
	case 0:
		o.StaleAfter = 15 * time.Second
	case -1:
		o.StaleAfter = 0
	}
	return &rig{Tracker: presence.NewTracker(o), t: t, now: begin}
}

// live, retained and past are the ways in which a word comes; say is the change
// in short, empty for none.
func (r *rig) live(topic, payload string) string { return r.word(topic, payload, false, false) }

func (r *rig) retained(topic, payload string) string {
	return r.word(topic, payload, true, false)
}

func (r *rig) past(topic, payload string) string { return r.word(topic, payload, false, true) }

func (r *rig) word(topic, payload string, retained, past bool) string {
	c, ok := r.Apply(presence.Message{Topic: topic, Payload: []byte(payload), At: r.now, Retained: retained, Past: past})
	if !ok {
		return ""
	}
	return short(c)
}

func short(c presence.Change) string {
	switch c.Kind {
	case presence.Changed, presence.Restarted, presence.Forgotten:
		s := fmt.Sprintf("%s %v>%v", c.Device.Topic, c.From, c.Device.State)
		if c.Initial {
			s += " initial"
		}
		if c.Kind != presence.Changed {
			s += " " + c.Kind.String()
		}
		if c.Absent {
			s += " absent"
		}
		return s
	}
	return c.Kind.String()
}

func (r *rig) expire() (list []string) {
	r.Expire(r.now, func(c presence.Change) { list = append(list, short(c)) })
	return list
}

func (r *rig) sync() (list []string) {
	r.Synced(r.now, func(c presence.Change) { list = append(list, short(c)) })
	return list
}

func (r *rig) wait(d time.Duration) { r.now = r.now.Add(d) }

func (r *rig) state(topic string) presence.State {
	d, _ := r.Get(topic, r.now)
	return d.State
}

func (r *rig) want(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("got %q, want %q", got, want)
	}
}

func (r *rig) wantList(got []string, want ...string) {
	r.t.Helper()
	if !slices.Equal(got, want) {
		r.t.Errorf("got %q, want %q", got, want)
	}
}

// boot is a status with a boot.
func boot(state string, n byte) string {
	s := presence.Status{State: presence.StateOf(state), Boot: presence.BootID{0: 1, 15: n}}
	return string(s.Append(nil))
}
