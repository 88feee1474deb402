package status

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

// planRig drives a plan without a connection.
type planRig struct {
	*plan
	t    *testing.T
	now  time.Duration
	sent int
}

func newPlanRig(t *testing.T, heartbeat time.Duration) *planRig {
	r := &planRig{plan: newPlan(heartbeat), t: t, now: time.Hour}
	r.connected()
	return r
}

// send publishes a message successfully.
func (r *planRig) send(reason string) *message {
	return r.publish(r.now, reason, func() []byte { r.sent++; return fmt.Append(nil, r.sent) })
}

// due checks that the next message has this reason and is due after exactly this time, and
// publishes it.
func (r *planRig) due(reason string, after time.Duration) *message {
	r.t.Helper()
	began := r.now
	for range 100 {
		got, wait := r.next(r.now)
		if got == "" && wait < never {
			r.now += wait
			continue
		}
		if got != reason || r.now-began != after {
			r.t.Errorf("%q is due after %v, want %q after %v", got, r.now-began, reason, after)
		}
		return r.send(got)
	}
	r.t.Fatal("the plan neither waits nor publishes")
	return nil
}

// quiet checks that no message is due, ever.
func (r *planRig) quiet() {
	r.t.Helper()
	if reason, wait := r.next(r.now); reason != "" || wait < never-r.now {
		r.t.Errorf("%q is due after %v, want nothing", reason, wait)
	}
}

func (r *planRig) want(stats Stats, open int) {
	r.t.Helper()
	if got := r.snapshot(); got != stats || len(r.open) != open {
		r.t.Errorf("counted %+v with %d unanswered, want %+v with %d", got, len(r.open), stats, open)
	}
}

func TestPlan_HeartbeatsCountFromTheLastMessage(t *testing.T) {
	r := newPlanRig(t, 10*sec)
	m := r.send(presence.ReasonBirth)
	r.now += 4 * sec // the answer is slow
	r.accepted(m)
	m = r.due(presence.ReasonHeartbeat, 6*sec)
	r.accepted(m)
	m = r.due(presence.ReasonHeartbeat, 10*sec)
	r.now += 25 * sec // two are omitted meanwhile
	if reason, wait := r.next(r.now); reason != "" || wait != 5*sec {
		t.Errorf("%q after %v while a message is unanswered", reason, wait)
	}
	r.accepted(m)
	r.accepted(r.due(presence.ReasonHeartbeat, 5*sec))
	r.want(Stats{Births: 1, Heartbeats: 3, Skipped: 2}, 0)
}

func TestPlan_HeartbeatWithoutRoomIsSkipped(t *testing.T) {
	r := newPlanRig(t, 10*sec)
	r.accepted(r.send(presence.ReasonBirth))
	m := r.due(presence.ReasonHeartbeat, 10*sec)
	if r.unsent(r.now, m, true) {
		t.Error("it is reported")
	}
	r.due(presence.ReasonHeartbeat, 10*sec)
	r.want(Stats{Births: 1, Heartbeats: 1, Skipped: 1}, 1)
}

func TestPlan_RefusedBirths(t *testing.T) {
	r := newPlanRig(t, 0)
	r.refused(r.now, r.send(presence.ReasonBirth))
	for _, delay := range []time.Duration{sec, 2 * sec, 4 * sec, 8 * sec, 16 * sec, 32 * sec, 60 * sec, 60 * sec} {
		r.refused(r.now, r.due(presence.ReasonBirth, delay))
	}
	r.accepted(r.due(presence.ReasonBirth, 60*sec))
	r.quiet()
	r.want(Stats{Births: 10, Failed: 9}, 0)
	r.connected() // the delays start again
	r.refused(r.now, r.send(presence.ReasonBirth))
	r.due(presence.ReasonBirth, sec)

	r = newPlanRig(t, 500*ms)
	r.refused(r.now, r.send(presence.ReasonBirth)) // no heartbeat and no correction precedes the birth
	r.received(r.now, presence.Offline, false)
	r.due(presence.ReasonBirth, sec)
	r.want(Stats{Births: 2, Failed: 1}, 1)
}

func TestPlan_UnsentBirth(t *testing.T) {
	r := newPlanRig(t, 0)
	if !r.unsent(r.now, r.send(presence.ReasonBirth), true) {
		t.Error("a birth without room is not reported")
	}
	r.accepted(r.due(presence.ReasonBirth, sec))
	r.quiet()
	r.want(Stats{Births: 1, Failed: 1}, 0)
}

// A deferred birth is due when it may be sent, and is reported once per connection.
func TestPlan_DeferredBirth(t *testing.T) {
	r := newPlanRig(t, 10*sec)
	for n := range 2 {
		r.connected()
		if !r.deferred(r.send(presence.ReasonBirth), r.now+3*sec) {
			t.Error("it is not reported")
		}
		if r.deferred(r.due(presence.ReasonBirth, 3*sec), r.now+sec) {
			t.Error("it is reported twice")
		}
		r.want(Stats{Failed: uint64(n + 1)}, 0)
	}
	r.accepted(r.due(presence.ReasonBirth, sec))
	r.due(presence.ReasonHeartbeat, 10*sec)
}

// The plan does not wait for a heartbeat whose connection has ended.
func TestPlan_UnsentMessageIsForgotten(t *testing.T) {
	r := newPlanRig(t, 10*sec)
	r.accepted(r.send(presence.ReasonBirth))
	m := r.due(presence.ReasonHeartbeat, 10*sec)
	r.forgotten(m)
	r.connected()
	r.accepted(r.send(presence.ReasonBirth))
	r.accepted(r.due(presence.ReasonHeartbeat, 10*sec))
	r.want(Stats{Births: 2, Heartbeats: 2}, 0)
}

func TestPlan_Corrections(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(r *planRig, birth *message)
		want time.Duration // delay of the correction; 0: no correction
	}{
		"offline after the birth": {func(r *planRig, m *message) { r.accepted(m); r.received(r.now, presence.Offline, false) }, 250 * ms},
		"its own late will":       {func(r *planRig, m *message) { r.accepted(m); r.received(r.now, presence.Offline, true) }, 250 * ms},
		"offline, then online": {func(r *planRig, m *message) {
			r.accepted(m)
			r.received(r.now, presence.Offline, false)
			r.received(r.now, presence.Online, false)
		}, 0},
		"offline, then the echo": {func(r *planRig, m *message) {
			r.accepted(m)
			r.received(r.now, presence.Offline, false)
			r.received(r.now, presence.Online, true)
		}, 0},
		"while the birth is open":      {func(r *planRig, m *message) { r.now++; r.received(r.now, presence.Offline, false) }, 0},
		"before the birth is accepted": {func(r *planRig, m *message) { r.now++; r.received(r.now, presence.Offline, false); r.accepted(m) }, 250 * ms},
		"before the birth is published": {func(r *planRig, m *message) {
			r.received(r.now-1, presence.Offline, false)
			r.accepted(m)
		}, 0},
		"on the last connection": {func(r *planRig, m *message) {
			r.accepted(m)
			r.received(r.now, presence.Offline, false)
			r.connected()
			r.accepted(r.send(presence.ReasonBirth))
		}, 0},
		"after the end": {func(r *planRig, m *message) { r.accepted(m); r.end(); r.received(r.now, presence.Offline, false) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlanRig(t, 0)
			tt.do(r, r.send(presence.ReasonBirth))
			if tt.want == 0 {
				r.quiet()
			} else {
				r.due(presence.ReasonCorrection, tt.want)
			}
		})
	}
}

// Another process answers each online message with an offline message. The corrections become rare,
// and start again after a minute without one.
func TestPlan_CorrectionsAreLimited(t *testing.T) {
	r := newPlanRig(t, 0)
	r.accepted(r.send(presence.ReasonBirth))
	correct := func(after time.Duration) {
		t.Helper()
		r.received(r.now, presence.Online, true)
		r.received(r.now, presence.Offline, false)
		r.accepted(r.due(presence.ReasonCorrection, after))
	}
	for _, after := range []time.Duration{250 * ms, 1 * sec, 2 * sec, 4 * sec, 8 * sec, 16 * sec, 32 * sec, 60 * sec, 60 * sec, 60 * sec} {
		correct(after)
	}
	r.now += 2 * time.Minute
	correct(250 * ms)
	correct(1 * sec)
}

// While a correction is unanswered, no other one follows. When its echo arrives, no further
// correction is needed.
func TestPlan_OneCorrectionAtATime(t *testing.T) {
	r := newPlanRig(t, 0)
	r.accepted(r.send(presence.ReasonBirth))
	r.received(r.now, presence.Offline, false)
	m := r.due(presence.ReasonCorrection, 250*ms)
	r.now += sec
	r.received(r.now, presence.Offline, false)
	r.now += 10 * sec
	r.quiet()
	r.received(r.now, presence.Online, true)
	r.accepted(m)
	r.quiet()
}

func TestPlan_Contested(t *testing.T) {
	r := newPlanRig(t, 0)
	r.accepted(r.send(presence.ReasonBirth))
	if r.received(r.now, presence.Online, false) {
		t.Error("a message that precedes the birth is reported")
	}
	r.received(r.now, presence.Online, true)
	var reported []time.Duration
	for range 130 {
		r.now += sec
		if r.received(r.now, presence.Online, false) {
			reported = append(reported, r.now-time.Hour)
		}
	}
	if fmt.Sprint(reported) != "[1s 1m1s 2m1s]" || r.snapshot().Contested != 130 {
		t.Errorf("reported at %v of %d", reported, r.snapshot().Contested)
	}
	r.quiet() // it is not answered
}

// No message is ever answered, and connections come and go. A connection must resend at most
// maxOpen messages. The newest of them is this client's newest message.
func TestPlan_UnansweredMessagesDoNotAccumulate(t *testing.T) {
	r := newPlanRig(t, 20*sec)
	for life := range 100 {
		r.connected()
		r.send(presence.ReasonBirth)
		for end := r.now + time.Duration(life%50)*sec; r.now < end; {
			reason, wait := r.next(r.now)
			if reason != "" {
				r.send(reason)
			}
			r.now += min(wait+1, end-r.now)
		}
		if len(r.open) > maxOpen || r.open[r.last.number] != r.last {
			t.Fatalf("life %d: %d messages are unanswered", life, len(r.open))
		}
	}
	for _, m := range r.open {
		r.accepted(m)
	}
	if !r.born {
		t.Error("the last one is accepted, and the plan waits for it")
	}
}

// For a minute, the next connection resends an unacknowledged birth instead of publishing another
// one. The answer applies to both.
func TestPlan_ARecentBirthReplacesTheNext(t *testing.T) {
	r := newPlanRig(t, 10*sec)
	first := r.send(presence.ReasonBirth)
	for range 3 {
		r.now += 19 * sec
		r.connected()
		if m := r.send(presence.ReasonBirth); string(m.payload) != string(first.payload) || r.sent != 1 || len(r.open) != 1 {
			t.Fatalf("after %v the birth is a new message", r.now-first.at)
		}
	}
	// An offline message that arrived before the resent birth needs no correction.
	r.received(r.now, presence.Offline, false)
	r.now += sec
	r.connected()
	r.accepted(r.send(presence.ReasonBirth))
	r.due(presence.ReasonHeartbeat, 10*sec)

	r = newPlanRig(t, 10*sec)
	old := r.send(presence.ReasonBirth)
	r.now += time.Minute
	r.connected()
	m := r.send(presence.ReasonBirth)
	if r.sent != 2 || len(r.open) != 2 {
		t.Error("after a minute the birth is not a new message")
	}
	r.accepted(old)
	r.quiet() // the new one is unanswered
	r.accepted(m)
	r.due(presence.ReasonHeartbeat, 10*sec)
}

// In random histories, the plan never publishes after its end, has at most maxOpen+1 messages open,
// and always corrects a wrong status that stays.
func TestPlan_RandomHistories(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(1, seed))
		r := newPlanRig(t, time.Duration(random.IntN(3))*10*sec)
		open := []*message{r.send(presence.ReasonBirth)}
		for range 60 {
			r.now += time.Duration(random.IntN(20_000)) * ms
			switch k := random.IntN(10); {
			case k < 3:
				if reason, _ := r.next(r.now); reason != "" {
					open = append(open, r.send(reason))
				}
			case k < 5 && len(open) > 0:
				r.accepted(open[0])
				open = open[1:]
			case k < 6 && len(open) > 0:
				r.refused(r.now, open[0])
				open = open[1:]
			case k < 7 && len(open) > 0:
				r.forgotten(open[0])
				open = open[1:]
			case k < 8:
				r.received(r.now, presence.Offline, random.IntN(2) == 0)
			case k < 9:
				r.received(r.now, presence.Online, random.IntN(2) == 0)
			default:
				r.connected()
				open = append(open, r.send(presence.ReasonBirth))
			}
			if len(r.open) > maxOpen {
				t.Fatalf("seed %d: %d messages are unanswered", seed, len(r.open))
			}
		}
		// The server accepts all messages on a new connection.
		r.connected()
		open = append(open, r.send(presence.ReasonBirth))
		for _, m := range open {
			r.accepted(m)
		}
		r.received(r.now+1, presence.Offline, false)
		for n := 0; ; n++ {
			reason, wait := r.next(r.now)
			if reason == presence.ReasonCorrection {
				break
			}
			if n > 100 || reason == "" && wait > 2*correctionMax {
				t.Fatalf("seed %d: nothing corrects the topic", seed)
			}
			if r.now += wait; reason != "" {
				r.accepted(r.send(reason))
				r.received(r.now, presence.Offline, false)
			}
		}
		r.end()
		r.received(r.now, presence.Offline, false)
		r.now += time.Hour
		if reason, _ := r.next(r.now); reason != "" {
			t.Fatalf("seed %d: %q is due after the end", seed, reason)
		}
	}
}
