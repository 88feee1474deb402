package deferral_test

import (
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
)

const unspecified = 0x80

// isolate defers message seq, with the identifier 50 + seq, because a connection ended.
func (r *rig) isolate(topic string, seq uint64, code byte) (until time.Duration, attempts int) {
	at, attempts := r.Isolate(topic, message(seq), uint16(50+seq), deferral.Refusal{Seq: seq, Code: code, Alone: true}, r.now)
	return at.Sub(r.begin), attempts
}

// alone checks which message is sent alone now, if nothing else is in flight. 0: none.
func (r *rig) alone(want uint64) (x deferral.Item) {
	r.t.Helper()
	x, ok, hold := r.PickAlone(r.now, true, true)
	if x.Seq != want || ok != (want != 0) || ok && (!x.Alone || !hold || r.Trial() != want) {
		r.t.Fatalf("after %v: picked %+v, %v, hold %v; want %d", r.now.Sub(r.begin), x, ok, hold, want)
	}
	return x
}

// isolated checks whether messages of a topic are isolated, and whether all are.
func (r *rig) isolated(topic string, want, wantAll bool) {
	r.t.Helper()
	if one, all := r.Isolated([]byte(topic), persistence.Normal); one != want || all != wantAll {
		r.t.Errorf("%q: isolated %v, all %v; want %v, %v", topic, one, all, want, wantAll)
	}
}

// A message that ends connections keeps its identifier and is sent alone. Other messages of its
// topic continue.
func TestIsolate_OneMessage(t *testing.T) {
	r := newRig(t)
	r.isolated("a", false, false)
	until, attempts := r.isolate("a", 1, unspecified)
	wants(t, "until", until, 2*time.Second)
	wants(t, "attempts", attempts, 1)
	r.isolated("a", true, false)
	r.isolated("b", false, false)
	if one, _ := r.Isolated([]byte("a"), persistence.High); one {
		t.Error("another priority is isolated")
	}
	wants(t, "held", r.Holds(51, 0), true)
	wants(t, "waits", r.Waits(1), true)
	wants(t, "state", r.Describe(), deferral.State{Messages: 1, Bytes: 10, Oldest: r.begin, Code: unspecified, Newest: r.begin})
	r.pass(2*time.Second - 1)
	r.alone(0)
	r.pass(1)
	for _, tt := range []struct{ may, quiet, hold bool }{{false, true, false}, {false, false, false}, {true, false, true}} {
		if x, ok, hold := r.PickAlone(r.now, tt.may, tt.quiet); ok || hold != tt.hold {
			t.Errorf("%+v: picked %+v, %v, hold %v", tt, x, ok, hold)
		}
	}
	wants(t, "trial", r.Trial(), uint64(0))
	r.picks()
	wants(t, "identifier", r.alone(1).ID, 51)
	wants(t, "waits", r.Waits(1), false)
	wants(t, "state", r.Describe(), deferral.State{Messages: 1, Bytes: 10, Oldest: r.begin, Code: unspecified, Newest: r.begin})
	if _, ok, hold := r.PickAlone(r.now, true, true); ok || !hold {
		t.Error("others may be sent beside it")
	}
	until, attempts = r.isolate("a", 1, unspecified) // once more
	wants(t, "until", until, 6*time.Second)
	wants(t, "attempts", attempts, 2)
	wants(t, "trial", r.Trial(), uint64(0))
	r.pass(4 * time.Second)
	r.alone(1)
	r.acked(1)
	r.isolated("a", false, false)
	r.empty()
}

// The message whose time comes first is sent first.
func TestIsolate_MessagesOfSeveralTopics(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 1, unspecified)
	r.isolate("a", 1, unspecified) // until 4 s
	r.pass(time.Second)
	r.isolate("b", 2, unspecified) // until 3 s
	r.pass(9 * time.Second)
	r.alone(2)
	r.acked(2)
	r.alone(1)
	r.acked(1)
	r.alone(0)
	r.empty()
}

// If a second message of a topic ends connections, the topic is the cause. All its messages are
// sent alone, in order, until one is acknowledged.
func TestIsolate_ATopic(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 3, unspecified)
	r.pass(time.Second)
	until, attempts := r.isolate("a", 2, unspecified)
	wants(t, "attempts", attempts, 2)
	wants(t, "until", until, 5*time.Second)
	wants(t, "oldest", r.Describe().Oldest, r.begin)
	r.isolated("a", true, true)
	r.follow("a", 4)
	r.pass(time.Minute)
	r.picks()
	r.alone(2)
	until, attempts = r.isolate("a", 2, 0) // once more
	wants(t, "attempts", attempts, 3)
	wants(t, "until", until, 69*time.Second)
	r.isolated("a", true, true)
	r.pass(8 * time.Second)
	r.alone(2)
	r.acked(2)
	wants(t, "the topic queue is open", r.Blocks([]byte("a"), 0), true)
	r.picks(3, 4)
	r.acked(3, 4)
	r.empty()
}

// A topic queue that already waits becomes one whose messages are sent alone. It waits for the
// longer of both times.
func TestIsolate_WaitingTopic(t *testing.T) {
	r := newRig(t)
	r.follow("a", 1, 2, 3, 4)
	r.picks(1, 2, 3, 4)
	r.isolate("a", 2, unspecified)
	r.isolate("a", 2, unspecified) // until 4 s
	r.refuse("a", 1, 1, quota)     // until 2 s
	until, attempts := r.isolate("a", 3, unspecified)
	wants(t, "attempts", attempts, 2)
	wants(t, "until", until, 4*time.Second)
	r.pass(4 * time.Second)
	r.acked(4) // sent before, so it proves nothing
	r.isolated("a", true, true)
	r.picks()
	r.alone(1)
	r.refuse("a", 1, 51, quota) // an answer does
	r.isolated("a", false, false)
	r.alone(0)
	r.pass(8 * time.Second)
	r.picks(1)
	r.acked(1)
	r.picks(2, 3)
	r.acked(2, 3)
	r.empty()
}

// A whole topic is isolated at once if another of its messages was given up for the same reason.
func TestIsolate_AllOfATopicAtOnce(t *testing.T) {
	r := newRig(t)
	r.follow("a", 2)
	at, _ := r.Isolate("a", message(1), 51, deferral.Refusal{Seq: 1, Code: 0x99, Alone: true, Topic: true}, r.now)
	r.isolated("a", true, true)
	r.follow("a", 3)
	r.picks()
	r.now = at
	r.alone(1)
	r.Ended(1, true, false, r.now) // it is given up
	r.picks(2, 3)
	r.acked(2, 3)
	r.empty()
}

// When the server acknowledges a message of an isolated topic, all its messages are released.
func TestIsolate_EndsWithAnAcknowledgement(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 1, unspecified)
	r.isolate("a", 2, unspecified)
	r.follow("a", 3)
	r.Keep("a", message(4), 54, r.now)
	wants(t, "the kept one holds its identifier", r.Holds(54, 0), true)
	r.pass(time.Minute)
	r.alone(1)
	r.acked(1)
	x, ok := r.Pick(r.now)
	if !ok || x.Seq != 2 || x.ID != 52 || x.Alone {
		t.Errorf("picked %+v, %v", x, ok)
	}
	x, ok = r.Pick(r.now)
	if !ok || x.Seq != 3 || x.ID != 0 {
		t.Errorf("picked %+v, %v", x, ok)
	}
	x, ok = r.Pick(r.now)
	if !ok || x.Seq != 4 || x.ID != 54 {
		t.Errorf("picked %+v, %v", x, ok)
	}
	r.acked(2, 3, 4)
	r.empty()
}

// If connections end without a reason code, the cause may be the link. Other messages of the topic
// wait until the message was tried three times.
func TestIsolate_WithoutAReasonCode(t *testing.T) {
	for _, ends := range []int{4, 2} { // at the last end, the server gives a reason
		r := newRig(t)
		r.follow("b", 9) // an unrelated message
		for n := 1; n < ends; n++ {
			_, attempts := r.isolate("a", 1, 0)
			wants(t, "attempts", attempts, n)
			r.isolated("a", true, true)
			if n == 1 {
				r.follow("a", 2, 3)
			}
			r.pass(time.Minute)
			r.alone(1)
		}
		code := byte(0)
		if ends == 2 {
			code = unspecified
		}
		_, attempts := r.isolate("a", 1, code)
		wants(t, "attempts", attempts, ends)
		r.isolated("a", true, false)
		r.picks(9, 2, 3)
		r.pass(time.Minute)
		r.alone(1)
		r.acked(1, 2, 3, 9)
		r.empty()
	}
}

// A message for which the server has sent PUBREC proves that its topic works, before the message
// has ended.
func TestIsolate_EndsWithPubrec(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 1, unspecified)
	r.isolate("a", 2, unspecified)
	r.pass(time.Minute)
	r.Released(1, r.now) // it was not sent alone
	r.isolated("a", true, true)
	r.alone(1)
	r.Released(2, r.now)
	wants(t, "trial", r.Trial(), uint64(1))
	r.Released(1, r.now)
	wants(t, "trial", r.Trial(), uint64(0))
	r.isolated("a", false, false)
	r.inFlight(1)
	r.picks(2)
	r.acked(1, 2)
	r.empty()
}

// When the session is lost, isolated messages lose their identifiers, and the trial ends.
func TestIsolate_SessionLost(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 1, unspecified)
	r.isolate("b", 2, unspecified)
	r.isolate("b", 3, unspecified)
	at, _ := r.Isolate("c", message(4, expires(1000)), 54, deferral.Refusal{Seq: 4, Code: unspecified}, r.now)
	wants(t, "expired", len(r.Expired(time.UnixMilli(5000), r.now)), 0)
	r.now = at
	first, ok, _ := r.PickAlone(r.now, true, true)
	wants(t, "picked", ok, true)
	r.SessionLost(r.now)
	wants(t, "trial", r.Trial(), uint64(0))
	for id := uint16(51); id < 55; id++ {
		wants(t, "held", r.Holds(id, 0), false)
	}
	wants(t, "Next", r.Next(time.UnixMilli(5000), r.now, r.now), 1)
	if got := r.Expired(time.UnixMilli(5000), r.now); !slices.Equal(got, []uint64{4}) {
		t.Errorf("expired: %v", got)
	}
	r.pass(time.Minute)
	seen := map[uint64]bool{}
	for range 2 {
		x, ok, _ := r.PickAlone(r.now, true, true)
		if !ok || x.ID != 0 || seen[x.Seq] {
			t.Fatalf("picked %+v, %v (%d was sent before)", x, ok, first.Seq)
		}
		seen[x.Seq] = true
		r.acked(x.Seq)
	}
	if seen[3] { // it follows 2, which was acknowledged
		t.Error("3 is sent before 2")
	}
	r.picks(3)
	r.acked(3)
	r.empty()
}

// A trial that was not sent is the next one again.
func TestIsolate_UnpicksATrial(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 1, unspecified)
	r.pass(time.Minute)
	x := r.alone(1)
	r.Under(1, 51)
	r.Unpick(x, r.now)
	wants(t, "trial", r.Trial(), uint64(0))
	wants(t, "held", r.Holds(51, 0), true) // it may have been sent under it before
	r.alone(1)
	r.Gone(1, r.now)
	wants(t, "trial", r.Trial(), uint64(0))
	r.empty()
}

// After a restart it is known which messages are sent alone, and whether all messages of a topic
// are.
func TestIsolate_Restores(t *testing.T) {
	r := newRig(t)
	restore := func(topic string, seq uint64, attempts int, code byte, released bool) {
		e := message(seq)
		e.Released = released
		e.Deferral = persistence.Deferral{Since: r.begin.Add(-time.Minute), Until: r.begin.Add(time.Second), Attempts: attempts, Code: code, Alone: true, PacketID: uint16(50 + seq)}
		r.Restore(topic, e, time.Second, r.now)
	}
	restore("a", 1, 4, unspecified, false)
	restore("b", 2, 1, unspecified, false)
	restore("b", 3, 2, unspecified, false)
	restore("c", 4, 2, 0, false)          // without a reason, so other messages of the topic wait
	restore("d", 5, 4, 0, false)          // they no longer wait
	restore("e", 6, 1, unspecified, true) // the server has accepted it
	for topic, want := range map[string][2]bool{"a": {true, false}, "b": {true, true}, "c": {true, true}, "d": {true, false}, "e": {false, false}} {
		r.isolated(topic, want[0], want[1])
	}
	wants(t, "oldest", r.Describe().Oldest, r.begin.Add(-time.Minute))
	wants(t, "held", r.Holds(53, 0), true)
	r.inFlight(6)
	r.alone(0)
	r.pass(time.Second)
	r.follow("e", 7)
	r.follow("c", 8)
	r.picks(7)
	var got []uint64
	for range 5 {
		x, ok, _ := r.PickAlone(r.now, true, true)
		if !ok || x.ID != uint16(50+x.Seq) {
			t.Fatalf("picked %+v, %v", x, ok)
		}
		got = append(got, x.Seq)
		if x.Seq == 3 {
			t.Error("3 is sent before 2")
		}
		if x.Seq == 1 {
			until, attempts := r.isolate("a", 1, unspecified)
			wants(t, "attempts", attempts, 5)
			wants(t, "until", until, 9*time.Second)
			_, ok, _ := r.PickAlone(r.now.Add(8*time.Second-1), true, true)
			wants(t, "another is tried at once", ok, false)
			wants(t, "next", r.Next(r.now, r.now, r.now), 8*time.Second)
			r.pass(8 * time.Second)
		} else {
			r.acked(x.Seq)
		}
		if len(got) == 4 {
			break
		}
	}
	if slices.Sort(got); !slices.Equal(got, []uint64{1, 2, 4, 5}) {
		t.Errorf("sent alone: %v", got)
	}
	r.picks(3, 8)
}
