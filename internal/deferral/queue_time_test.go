package deferral_test

import (
	"math"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/reliability"
)

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
