package deferral_test

import (
	"math"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// A refused message comes first in its topic queue. While the queue is closed, one message is tried
// at a time. When it is acknowledged, the others follow in the order of the log.
func TestQueue_KeepsTheOrderOfTheLog(t *testing.T) {
	r := newRig(t)
	r.follow("a", 7) // 5 was sent before it, and its refusal arrives later
	until, attempts := r.refuse("a", 5, 1, quota)
	wants(t, "until", until, 2*time.Second)
	wants(t, "attempts", attempts, 1)
	r.follow("a", 8, 6)
	r.pass(2*time.Second - 1)
	r.picks()
	r.pass(1)
	r.picks(5)
	r.inFlight(5)
	r.follow("a", 9)
	r.picks()
	r.acked(5)
	r.picks(6, 7, 8, 9)
	wants(t, "the topic queue blocks its topic", r.Blocks([]byte("a"), 0), true)
	r.acked(6, 9, 7, 8)
	wants(t, "the topic queue blocks its topic at its end", r.Blocks([]byte("a"), 0), false)
	r.empty()
}

// Each topic queue is for one topic and one priority.
func TestQueue_BlocksOneTopicAndPriority(t *testing.T) {
	r := newRig(t)
	wants(t, "an empty queue blocks", r.Blocks([]byte("a"), 0), false)
	r.refuse("a", 1, 1, quota)
	r.Refuse("b", message(2, urgent), 2, quota, r.now)
	for _, tt := range []struct {
		topic string
		p     persistence.Priority
		want  bool
	}{{"a", persistence.Normal, true}, {"a", persistence.Urgent, false}, {"b", persistence.Urgent, true}, {"b", persistence.Normal, false}, {"c", 0, false}} {
		wants(t, tt.topic, r.Blocks([]byte(tt.topic), tt.p), tt.want)
	}
	r.acked(1)
	wants(t, "a, after its last message has ended", r.Blocks([]byte("a"), 0), false)
	wants(t, "b", r.Blocks([]byte("b"), persistence.Urgent), true)
}

// The delay grows with each consecutive refusal and starts again when the server has accepted a
// message. Messages that were sent together and refused together are one attempt.
func TestQueue_BacksOff(t *testing.T) {
	r := newRig(t)
	r.follow("a", 1, 2, 3)
	r.picks(1, 2, 3)
	for seq := range uint64(3) {
		until, attempts := r.refuse("a", seq+1, uint16(seq+1), quota)
		wants(t, "until", until, 2*time.Second)
		wants(t, "attempts", attempts, 1)
	}
	at := 2 * time.Second
	for n, delay := range []time.Duration{4 * time.Second, 8 * time.Second, 8 * time.Second} {
		r.now = r.begin.Add(at)
		r.picks(1)
		until, attempts := r.refuse("a", 1, uint16(10+n), quota)
		at += delay
		wants(t, "until", until, at)
		wants(t, "attempts", attempts, n+2)
	}
	r.now = r.begin.Add(at)
	r.picks(1)
	r.acked(1)
	r.picks(2, 3)
	until, attempts := r.refuse("a", 3, 3, quota)
	wants(t, "until, after an acknowledgement", until, at+2*time.Second)
	wants(t, "attempts, after an acknowledgement", attempts, 1)
	r.acked(2) // sent before: it opens the queue, because the server accepts messages again
	r.picks(3)
	r.acked(3)
	r.empty()
}

// Longest is twice the longest delay.
func TestQueue_Longest(t *testing.T) {
	wants(t, "Longest", newRig(t).Longest(), 16*time.Second)
	wants(t, "Longest of the default", deferral.New(reliability.Backoff{Rand: func() float64 { return 1 }}).Longest(), 2*time.Minute)
}

// Due topic queues take turns.
func TestQueue_TopicsTakeTurns(t *testing.T) {
	r := newRig(t)
	r.refuse("b", 4, 4, quota)
	r.pass(time.Second)
	r.refuse("a", 1, 1, quota)
	r.follow("a", 2, 3)
	r.follow("b", 5, 6)
	r.pass(time.Second)
	r.picks(4)
	r.pass(time.Second)
	r.picks(1)
	r.acked(4, 1)
	r.picks(5, 2, 6, 3)
}

// A message that waits for no other creates an open topic queue. It only needs another packet
// identifier.
func TestQueue_FollowWithoutATopicQueue(t *testing.T) {
	r := newRig(t)
	r.follow("a", 1, 2)
	r.picks(1, 2)
	r.acked(1, 2)
	r.empty()
}

// An acknowledgement makes the topic queues due that wait because of the same code, because the
// server or its quota works again. The code 0x87 is about one topic.
func TestQueue_AcknowledgementMakesOthersDue(t *testing.T) {
	for _, tt := range []struct {
		first, second byte
		due           bool
	}{{quota, quota, true}, {quota, 0x83, false}, {denied, denied, false}} {
		r := newRig(t)
		r.refuse("a", 1, 1, tt.first)
		r.pass(time.Second)
		r.refuse("b", 2, 2, tt.second)
		r.pass(time.Second)
		r.picks(1)
		r.acked(1)
		if tt.due {
			r.picks(2)
		} else {
			r.picks()
		}
	}
	r := newRig(t) // a message that was not refused proves nothing
	r.refuse("b", 2, 2, quota)
	r.follow("a", 1)
	r.picks(1)
	r.acked(1)
	r.picks()
	r.follow("c", 3)
	r.picks(3)
	r.refuse("c", 3, 3, quota)
	r.Ended(3, true, false, r.now) // given up: the server has not accepted it
	r.picks()
}

// A refusal that ends a message opens its topic queue, because it was about that message.
func TestQueue_AnswerOpensTheTopic(t *testing.T) {
	for _, answered := range []bool{true, false} {
		r := newRig(t)
		r.refuse("a", 1, 1, quota)
		r.follow("a", 2, 3)
		r.pass(2 * time.Second)
		r.picks(1)
		r.Ended(1, answered, false, r.now)
		if answered {
			r.picks(2, 3)
		} else { // it has expired or was dropped
			r.picks(2)
		}
	}
}

// A message that has ended leaves the queue, wherever it is.
func TestQueue_RemovesEndedMessages(t *testing.T) {
	for _, sent := range []bool{false, true} {
		r := newRig(t)
		r.refuse("a", 1, 1, quota)
		r.follow("a", 2, 3)
		r.pass(2 * time.Second)
		if sent {
			r.picks(1)
			r.Under(1, 50)
		}
		r.Gone(1, r.now)
		wants(t, "the identifier is held", r.Holds(50, 0), false)
		wants(t, "messages", r.Messages(), 2)
		r.Gone(9, r.now) // it is not here
		r.Ended(9, true, true, r.now)
		r.picks(2)
		r.Gone(3, r.now)
		r.acked(2)
		r.empty()
	}
}

// Take returns each refusal once.
func TestQueue_TakesRefusalsOnce(t *testing.T) {
	r := newRig(t)
	wants(t, "of an empty queue", len(r.Take()), 0)
	r.Note(deferral.Refusal{Seq: 1, Code: quota, Text: "x"})
	r.Note(deferral.Refusal{Seq: 2, Code: denied, Alone: true})
	wants(t, "Any", r.Any(), true)
	list := r.Take()
	if len(list) != 2 || list[0].Seq != 1 || list[0].Text != "x" || list[1].Code != denied || !list[1].Alone {
		t.Errorf("taken: %+v", list)
	}
	wants(t, "taken again", len(r.Take()), 0)
	r.empty()
}

// A message holds the packet identifier under which it was sent until it is answered.
func TestQueue_HoldsIdentifiers(t *testing.T) {
	r := newRig(t)
	wants(t, "an empty queue holds", r.Holds(1, 0), false)
	r.follow("a", 1, 2)
	r.picks(1, 2)
	r.Under(1, 51)
	r.Under(2, 52)
	r.Under(3, 53) // it is not in flight
	for id, by := range map[uint16]uint64{51: 1, 52: 2} {
		wants(t, "held", r.Holds(id, 0), true)
		wants(t, "held by itself", r.Holds(id, by), false)
		wants(t, "held by another", r.Holds(id, by+1), true)
	}
	wants(t, "held", r.Holds(53, 0), false)
	r.refuse("a", 1, 51, quota)
	wants(t, "held after a refusal", r.Holds(51, 0), false)
	r.acked(2)
	wants(t, "held after an acknowledgement", r.Holds(52, 0), false)
}

// After 0x91, the message never uses the refused identifier again, whatever happens.
func TestQueue_RemembersTheRefusedIdentifier(t *testing.T) {
	r := newRig(t)
	e := message(1)
	refuse := func(id uint16, code byte) {
		r.Refuse("a", e, id, code, r.now)
		if code == inUse {
			e.Deferral.RefusedID = id // as the store does
		}
		r.pass(time.Minute)
	}
	pick := func(want uint16) {
		t.Helper()
		x, ok := r.Pick(r.now)
		if !ok || x.Refused != want || x.ID != 0 {
			t.Fatalf("picked %+v, %v; want one that was refused under %d", x, ok, want)
		}
	}
	refuse(50, quota)
	pick(0)
	refuse(51, inUse)
	pick(51)
	refuse(52, quota)
	pick(51)
	refuse(53, inUse)
	pick(53)
	r.SessionLost(r.now)
	pick(53)
	r = newRig(t)
	r.Restore("a", e, 0, r.now)
	pick(53)
}

// A message that was picked and not sent is first again.
func TestQueue_Unpick(t *testing.T) {
	r := newRig(t)
	r.refuse("a", 1, 1, quota)
	r.follow("a", 2)
	r.pass(2 * time.Second)
	x, ok := r.Pick(r.now)
	wants(t, "picked", ok && x.Seq == 1, true)
	r.Under(1, 50)
	r.Unpick(x, r.now)
	wants(t, "the identifier is held", r.Holds(50, 0), false)
	r.inFlight()
	r.picks(1)
	r.acked(1)
	r.Unpick(x, r.now) // it has ended
	r.picks(2)
	r.acked(2)
	r.empty()
}

// When the session is lost, no message is in flight and no identifier is held.
func TestQueue_ForgetsTheSession(t *testing.T) {
	r := newRig(t)
	r.follow("a", 1, 2, 3)
	r.picks(1, 2, 3)
	r.Under(1, 51)
	r.Under(2, 52)
	r.refuse("b", 4, 4, quota)
	r.Restore("c", &persistence.Entry{Seq: 5, Packet: make([]byte, 10), Deferral: persistence.Deferral{Since: r.now, Until: r.now, PacketID: 55}}, 0, r.now)
	r.inFlight(1, 2, 3, 5)
	r.SessionLost(r.now)
	r.inFlight()
	for id := uint16(51); id < 56; id++ {
		wants(t, "held", r.Holds(id, 0), false)
	}
	wants(t, "messages", r.Messages(), 5)
	seen := map[uint64]uint64{}
	for range 4 {
		x, ok := r.Pick(r.now)
		if !ok || x.ID != 0 {
			t.Fatalf("picked %+v, %v", x, ok)
		}
		group := x.Seq / 4 // 1 to 3 are on one topic
		if group == 0 && x.Seq < seen[group] {
			t.Errorf("%d comes after %d", x.Seq, seen[group])
		}
		seen[group] = x.Seq
	}
	r.picks()
	r.acked(1, 2, 3, 5)
	r.pass(2 * time.Second)
	r.picks(4)
	r.acked(4)
	r.empty()
}

func TestQueue_Waits(t *testing.T) {
	r := newRig(t)
	wants(t, "in an empty queue", r.Waits(1), false)
	r.refuse("a", 1, 1, quota)
	wants(t, "after a refusal", r.Waits(1), true)
	wants(t, "another", r.Waits(2), false)
	r.pass(2 * time.Second)
	r.picks(1)
	wants(t, "in flight", r.Waits(1), false)
	r.refuse("a", 1, 1, quota)
	wants(t, "refused again", r.Waits(1), true)
}

// Due makes the topic queues with the given codes due.
func TestQueue_Due(t *testing.T) {
	r := newRig(t)
	r.refuse("a", 1, 1, quota)
	r.refuse("b", 2, 2, inUse)
	r.refuse("c", 3, 3, 0x83)
	r.Refuse("d", message(4, urgent), 4, quota, r.now)
	r.Due(r.now, func(code byte) bool { return code == quota || code == inUse }, false)
	got := map[uint64]bool{}
	for {
		x, ok := r.Pick(r.now)
		if !ok {
			break
		}
		got[x.Seq] = true
	}
	if len(got) != 3 || got[3] {
		t.Errorf("picked %v", got)
	}
	r.pass(2 * time.Second)
	r.picks(3)
}

// Waiting messages expire, unless the server may hold them.
func TestQueue_Expired(t *testing.T) {
	r := newRig(t)
	wants(t, "of an empty queue", len(r.Expired(time.UnixMilli(1000), r.now)), 0)
	r.Refuse("a", message(1, expires(1000)), 1, quota, r.now)
	r.Follow("a", message(2, expires(3000)), r.now)
	r.Follow("a", message(3), r.now)
	r.Follow("b", message(4, expires(2000)), r.now)
	r.Follow("b", message(5, expires(2500)), r.now)
	x, _ := r.Pick(r.now)
	wants(t, "in flight", x.Seq, 4)
	r.Under(4, 44)
	expire := func(ms int64, want ...uint64) {
		t.Helper()
		got := r.Expired(time.UnixMilli(ms), r.now)
		if len(got) != len(want) {
			t.Fatalf("at %d: %v, want %v", ms, got, want)
		}
		for i := range want {
			wants(t, "expired", got[i], want[i])
		}
	}
	expire(999)
	wants(t, "Next", r.Next(time.UnixMilli(900), r.now, r.now.Add(time.Hour)), 100*time.Millisecond)
	expire(1000, 1)
	wants(t, "messages", r.Messages(), 4)
	wants(t, "bytes", r.Describe().Bytes, 40)
	expire(2499) // 4 is in flight
	expire(2500, 5)
	expire(2999)
	expire(3000, 2)
	expire(math.MaxInt64 / 2)
	r.SessionLost(r.now)
	expire(2000, 4) // the server no longer holds it
	r.pass(2 * time.Second)
	r.picks(3)
	r.acked(3)
	r.empty()
}

// Next returns when the next topic queue is due or a message expires. Queues that were due at the
// last look wait for something else.
func TestQueue_Next(t *testing.T) {
	r := newRig(t)
	clock := time.UnixMilli(10_000)
	next := func(want time.Duration, looked time.Time) {
		t.Helper()
		wants(t, "Next", r.Next(clock, r.now, looked), want)
	}
	next(math.MaxInt64, r.now)
	r.refuse("a", 1, 1, quota)
	r.pass(500 * time.Millisecond)
	next(1500*time.Millisecond, r.begin)
	r.refuse("b", 2, 2, quota)
	next(1500*time.Millisecond, r.begin)
	r.pass(1500 * time.Millisecond)
	next(1, r.begin)           // it has become due since
	next(math.MaxInt64, r.now) // it was due already
	r.pass(time.Second)
	r.Refuse("c", message(3, expires(10_300)), 3, quota, r.now)
	next(300*time.Millisecond, r.now)
	clock = time.UnixMilli(20_000)
	next(1, r.now)
}

func TestQueue_Describe(t *testing.T) {
	r := newRig(t)
	r.refuse("a", 1, 1, quota)
	r.pass(time.Second)
	r.refuse("b", 2, 2, denied)
	r.Refuse("b", message(3, urgent), 3, 0x83, r.now)
	r.follow("a", 4)
	wants(t, "code", r.Describe().Code, quota)
	want := deferral.State{Messages: 4, Bytes: 40, Topics: 3, Oldest: r.begin, Code: quota, Newest: r.now}
	wants(t, "state", r.Describe(), want)
	r.pass(time.Minute)
	for range 3 {
		r.Pick(r.now)
	}
	r.inFlight(1, 2, 3)
	wants(t, "state with messages in flight", r.Describe(), want)
	r.acked(1)
	r.picks(4)
	r.acked(4)
	wants(t, "state", r.Describe(), deferral.State{Messages: 2, Bytes: 20, Topics: 2, Oldest: want.Newest, Code: r.Describe().Code, Newest: want.Newest})
	wants(t, "messages", r.Messages(), 2)
}

// Full considers only the waiting topics.
func TestQueue_Full(t *testing.T) {
	r := newRig(t)
	full := func(topic string, messages int, bytes int64, want bool, code byte) {
		t.Helper()
		if got, c := r.Full(topic, 0, messages, bytes); got != want || c != code {
			t.Errorf("%q with %d messages and %d bytes: %v, 0x%02X; want %v, 0x%02X", topic, messages, bytes, got, c, want, code)
		}
	}
	full("a", 0, 0, false, 0)
	r.refuse("a", 1, 1, quota)
	r.follow("a", 2)
	r.Refuse("b", message(3, urgent), 3, denied, r.now)
	full("a", 4, 31, false, 0)
	full("a", 3, 31, true, quota)
	full("a", 4, 30, true, quota)
	full("b", 3, 30, false, 0) // another priority
}

// TakeOldest takes only a message that the server cannot hold.
func TestQueue_TakesTheOldest(t *testing.T) {
	r := newRig(t)
	take := func(want uint64) {
		t.Helper()
		wants(t, "taken", r.TakeOldest("a", 0, r.now), want)
	}
	take(0)
	r.refuse("a", 1, 1, quota)
	r.follow("a", 2, 3)
	r.Refuse("a", message(4, urgent), 4, quota, r.now)
	r.pass(2 * time.Second)
	x, _ := r.Pick(r.now)
	r.Under(x.Seq, 50)
	if x.Seq == 4 {
		x, _ = r.Pick(r.now)
		r.Under(x.Seq, 50)
	}
	take(2)
	take(3)
	take(0)
	wants(t, "messages", r.Messages(), 2)
	r.acked(1, 4)
	r.empty()
}

// Messages that an earlier process has deferred wait as before. Their topic queues keep their time,
// code and age.
func TestQueue_Restores(t *testing.T) {
	r := newRig(t)
	at := func(d time.Duration) time.Time { return r.begin.Add(d) }
	restore := func(topic string, seq uint64, d persistence.Deferral, released bool) {
		e := message(seq)
		e.Deferral, e.Released = d, released
		r.Restore(topic, e, d.Until.Sub(r.now), r.now)
	}
	r.pass(time.Minute)
	restore("a", 1, persistence.Deferral{Since: at(0), Until: at(70 * time.Second), Attempts: 3, Code: quota}, false)
	restore("a", 2, persistence.Deferral{Since: at(10 * time.Second), Until: at(10 * time.Second)}, false)
	restore("b", 3, persistence.Deferral{Since: at(30 * time.Second), Until: at(50 * time.Second), Attempts: 1, Code: 0x83, PacketID: 53}, false)
	restore("b", 4, persistence.Deferral{Since: at(31 * time.Second), Until: at(31 * time.Second)}, false)
	restore("c", 5, persistence.Deferral{Since: at(40 * time.Second), Until: at(80 * time.Second), Attempts: 1, Code: 0x83, PacketID: 55}, true)
	restore("d", 6, persistence.Deferral{Since: at(20 * time.Second), Until: at(20 * time.Second)}, false)
	wants(t, "state", r.Describe(), deferral.State{Messages: 6, Bytes: 60, Topics: 4, Oldest: at(0), Code: quota, Newest: at(40 * time.Second)})
	r.inFlight(3, 5)
	wants(t, "3 holds its identifier", r.Holds(53, 0), true)
	wants(t, "5 holds its identifier", r.Holds(55, 0), true)
	r.picks(6) // 4 waits for the answer to 3
	r.acked(3)
	r.picks(4)
	r.follow("c", 7)
	r.picks(7) // the server has accepted 5, so nothing waits for it
	r.pass(10*time.Second - 1)
	r.picks()
	r.pass(1)
	r.picks(1)
	until, attempts := r.refuse("a", 1, 1, quota)
	wants(t, "attempts", attempts, 4)
	wants(t, "until", until, 78*time.Second)
	r.acked(4, 5, 6, 7)
	r.pass(8 * time.Second)
	r.picks(1)
	r.acked(1)
	r.picks(2)
	r.acked(2)
	r.empty()
}

// If a message that was sent before is refused later, the time of its topic queue moves, and other
// queues come first.
func TestQueue_LaterRefusalMovesATopic(t *testing.T) {
	r := newRig(t)
	r.follow("a", 1, 2)
	r.picks(1, 2)
	r.refuse("a", 1, 1, quota) // until 2 s
	r.pass(time.Second)
	r.refuse("b", 3, 3, quota) // until 3 s
	r.pass(1500 * time.Millisecond)
	until, _ := r.refuse("a", 2, 2, quota)
	wants(t, "until", until, 6500*time.Millisecond)
	r.pass(500 * time.Millisecond)
	r.picks(3)
}

// A reserved identifier is held, although its message is not in the Queue.
func TestQueue_Reserves(t *testing.T) {
	r := newRig(t)
	r.Reserve(0, 1)
	wants(t, "Any", r.Any(), false)
	r.Reserve(51, 1)
	r.Reserve(52, 2)
	wants(t, "identifiers", r.Identifiers(), 2)
	r.follow("a", 3)
	r.picks(3)
	r.acked(3)
	wants(t, "held", r.Holds(51, 0), true)
	wants(t, "held by itself", r.Holds(51, 1), false)
	r.Release(51, 2) // of another message
	wants(t, "held", r.Holds(51, 0), true)
	r.Release(51, 1)
	wants(t, "held", r.Holds(51, 0), false)
	wants(t, "held", r.Holds(52, 0), true)
	r.Release(52, 2)
	wants(t, "identifiers", r.Identifiers(), 0)
}

// A message that keeps its identifier is resent under it, even if its topic has no queue.
func TestQueue_Keeps(t *testing.T) {
	r := newRig(t)
	r.Keep("a", message(1), 51, r.now)
	wants(t, "held", r.Holds(51, 0), true)
	x, ok := r.Pick(r.now)
	if !ok || x.Seq != 1 || x.ID != 51 {
		t.Errorf("picked %+v, %v", x, ok)
	}
	r.refuse("b", 2, 2, quota)
	r.pass(2 * time.Second)
	r.picks(2)
	r.Keep("a", message(2), 52, r.now) // moved from another topic queue
	wants(t, "b blocks", r.Blocks([]byte("b"), 0), false)
	r.acked(1)
	r.picks(2)
	r.acked(2)
	r.empty()
}
