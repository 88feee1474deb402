package deferral_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A message that is given up leaves its topic queue and holds its identifier until it has ended.
func TestGiveUp(t *testing.T) {
	r := newRig(t)
	r.isolate("a", 1, unspecified)
	r.follow("b", 2, 3)
	r.picks(2, 3)
	r.Under(2, 52)
	r.pass(time.Minute)
	r.alone(1)
	wants(t, "given up", len(r.GivenUp()), 0)
	r.GiveUp(message(2), 52, 0x99, r.now)
	r.GiveUp(message(1), 51, 0x99, r.now)
	r.GiveUp(message(4, urgent), 54, 0x95, r.now) // it was in no topic queue
	wants(t, "trial", r.Trial(), uint64(0))
	r.isolated("a", false, false)
	r.inFlight(3)
	list := r.GivenUp()
	if len(list) != 3 || list[0].Seq != 1 || list[0].ID != 51 || list[1].Seq != 2 || list[2].Seq != 4 {
		t.Errorf("given up: %+v", list)
	}
	for _, seq := range []uint64{1, 2, 4} {
		wants(t, "waits", r.Waits(seq), true)
		wants(t, "held", r.Holds(uint16(50+seq), 0), true)
	}
	wants(t, "state", r.Describe(), deferral.State{Messages: 4, Bytes: 40, Topics: 1, Oldest: r.begin, Newest: r.now})
	r.acked(3)
	wants(t, "state", r.Describe().Oldest, r.now)
	r.picks()
	r.alone(0)
	r.Ended(1, false, false, r.now)
	r.Gone(2, r.now)
	wants(t, "held", r.Holds(51, 0) || r.Holds(52, 0), false)
	r.SessionLost(r.now)
	wants(t, "held after the session", r.Holds(54, 0), false)
	if list := r.GivenUp(); len(list) != 1 || list[0].ID != 0 {
		t.Errorf("given up: %+v", list)
	}
	wants(t, "any", r.Any(), true)
	r.Ended(4, false, false, r.now)
	r.empty()

	r = newRig(t)
	e := message(7)
	e.Deferral = persistence.Deferral{Since: r.now, Until: r.now, Code: 0x99, PacketID: 57, GivenUp: true}
	r.Restore("a", e, 0, r.now)
	wants(t, "restored", len(r.GivenUp()), 1)
	wants(t, "held", r.Holds(57, 0), true)
	wants(t, "code", r.Describe().Code, 0x99)
	r.picks()
	r.Ended(7, false, false, r.now)
	r.empty()
}
