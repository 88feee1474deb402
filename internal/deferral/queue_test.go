package deferral_test

import (
	"math"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
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
