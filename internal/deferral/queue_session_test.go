package deferral_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
)

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
