package deferral_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
)

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
