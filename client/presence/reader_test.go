package presence_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// reader is a program that goes by the changes alone, as the comments of Kind say.
type reader struct {
	states map[string]presence.State
	byView map[string]bool // Stale by a ViewStale
}

func (r *reader) reported(c presence.Change) {
	switch c.Kind {
	case presence.Changed, presence.Restarted:
		r.states[c.Device.Topic] = c.Device.State
		delete(r.byView, c.Device.Topic)
	case presence.Forgotten:
		delete(r.states, c.Device.Topic)
		delete(r.byView, c.Device.Topic)
	case presence.ViewStale:
		for topic, s := range r.states {
			if s == presence.Online {
				r.states[topic], r.byView[topic] = presence.Stale, true
			}
		}
	case presence.ViewSynced:
		for topic := range r.byView {
			r.states[topic] = presence.Online
		}
		clear(r.byView)
	}
}

// TestTracker_ChangesMatchState knows what a Snapshot says, whatever happens in whatever
// order: exactly where all is known, and where it is not never more than that.
func TestTracker_ChangesMatchState(t *testing.T) {
	for seed := range uint64(500) {
		if t.Failed() {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 1))
		stale := []time.Duration{-1, 5 * time.Second, 15 * time.Second}[rnd.IntN(3)]
		r := newRig(t, presence.Options{StaleAfter: stale, MaxDevices: 4})
		reads := &reader{states: map[string]presence.State{}, byView: map[string]bool{}}
		var log []string
		lost := r.now // at the earliest
		for range 60 {
			topic := fmt.Sprint("d", rnd.IntN(5))
			payload := []string{"online", "offline", "?", "", boot("online", 1), boot("online", 2), boot("offline", 1), boot("offline", 2), beat(1, r.now), beat(3, r.now), closed(1)}[rnd.IntN(11)]
			what := rnd.IntN(12)
			switch {
			case what < 6:
				w := presence.Message{Topic: topic, Payload: []byte(payload), At: r.now, Retained: what < 2, Past: what == 2}
				if c, ok := r.Apply(w); ok {
					reads.reported(c)
				}
				log = append(log, fmt.Sprintf("%s %q retained %t past %t", topic, payload, w.Retained, w.Past))
			case what == 6:
				alive := r.now.Add(-time.Duration(rnd.IntN(3)) * time.Second)
				if alive.Before(lost) {
					alive = lost
				}
				lost = alive
				r.Lost(alive)
				log = append(log, "lost")
			case what == 7:
				r.Resync()
				log = append(log, "resync")
			case what == 8:
				r.Synced(r.now, reads.reported)
				log = append(log, "synced")
			case what == 9:
				if c, ok := r.Forget(topic, r.now); ok {
					reads.reported(c)
				}
				log = append(log, "forget "+topic)
			default:
				d := time.Duration(rnd.IntN(8000)) * time.Millisecond
				r.wait(d)
				log = append(log, d.String())
			}
			r.Expire(r.now, reads.reported)
			counts := r.Counts(r.now)
			var sums [presence.Stale + 1]int
			for _, d := range r.Snapshot(r.now) {
				sums[d.State]++
				got, ok := reads.states[d.Topic]
				cautious := got == presence.Stale && reads.byView[d.Topic] && d.State == presence.Online && !counts.Synced
				if !ok || got != d.State && !cautious {
					t.Errorf("seed %d: %s is %v, by the changes %v; %q", seed, d.Topic, d.State, got, log[max(0, len(log)-20):])
				}
			}
			if sums != [...]int{counts.Unknown, counts.Online, counts.Offline, counts.Stale} || len(reads.states) != counts.Devices {
				t.Errorf("seed %d: %+v, counted %v, by the changes %v; %q", seed, counts, sums, reads.states, log)
			}
			if t.Failed() {
				return
			}
		}
	}
}
