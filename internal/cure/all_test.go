package cure_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// everything returns all packet identifiers of the log, except the given ones.
func everything(but ...uint16) (ids []uint16) {
	for id := 257; id <= math.MaxUint16; id++ {
		if !slices.Contains(but, uint16(id)) {
			ids = append(ids, uint16(id))
		}
	}
	return ids
}

// parts answers a purge of all identifiers as the server, and returns the purged identifiers.
func (r *rig) parts() (ids []uint16) {
	r.t.Helper()
	for range 10 {
		part := r.purging()
		if len(part) == 0 || len(part) > session.MaxPurge || !r.c.Open() {
			r.t.Fatalf("%d are purged at a time, open %v", len(part), r.c.Open())
		}
		ids = append(ids, part...)
		for _, id := range part {
			r.acknowledge(id)
		}
		if r.step(); !r.c.Open() {
			return ids
		}
	}
	r.t.Fatal("the purge does not end")
	return nil
}

func (r *rig) wantAll(got []uint16, but ...uint16) {
	r.t.Helper()
	if want := everything(but...); !slices.Equal(got, want) {
		r.t.Fatalf("%d were purged, want %d", len(got), len(want))
	}
}

// All identifiers are purged in parts, each once, except those of the messages that the store
// knows.
func TestAll_PurgesEverythingButKnownMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 50)
		r.add(persistence.Normal, 2) // 51, 52
		r.add(persistence.Urgent, 1)
		r.c.All(r.store.LastSeq())
		if !r.c.Open() {
			t.Error("messages may be sent before the purge")
		}
		r.add(persistence.Normal, 1) // 54 is new, and the server may hold its identifier
		r.held[2000] = true
		r.step()
		r.wantAll(r.parts(), session.PacketID(0, 51), session.PacketID(0, 52), session.PacketID(2, 1), 2000)
		r.step()
		r.wantPurging()
	})
}

// If the connection ends during a part, the part is purged again.
func TestAll_RepeatsAnInterruptedPart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5)
		r.c.All(r.store.LastSeq())
		r.step()
		first := r.purging()
		for _, id := range first {
			r.acknowledge(id)
		}
		r.step()
		second := r.purging()
		r.acknowledge(second[0])
		r.connect(true)
		r.step()
		if got := r.purging(); !slices.Equal(got, second) {
			t.Errorf("%d are purged again, want %d", len(got), len(second))
		}
		r.wantAll(append(first, r.parts()...))
	})
}

// The purge ends if it is not needed or if the server does not support it.
func TestAll_Ends(t *testing.T) {
	for name, end := range map[string]func(r *rig){
		"a new session":        func(r *rig) { r.connect(false) },
		"no QoS 2":             func(r *rig) { r.g.Limits.MaximumQoS = 1 },
		"no answer":            func(r *rig) { r.step(); time.Sleep(5 * time.Second) },
		"it ends connections":  func(r *rig) { r.cuts(3) },
		"and after some parts": func(r *rig) { r.step(); r.answerAll(); r.step(); r.cuts(3) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, 5)
				r.c.All(r.store.LastSeq())
				end(r)
				r.step()
				r.wantPurging()
			})
		})
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5)
		r.c.All(r.store.LastSeq())
		r.cuts(2) // one more end may be a coincidence
		r.step()
		r.wantAll(r.parts())
	})
}

// cuts ends connections during a purge.
func (r *rig) cuts(n int) {
	r.t.Helper()
	for range n {
		r.step()
		if len(r.purging()) == 0 {
			r.t.Fatal("nothing is purged")
		}
		r.connect(true)
	}
}

func (r *rig) answerAll() {
	for _, id := range r.purging() {
		r.acknowledge(id)
	}
}

// Some servers end the connection because of a purge. The purge is given up after three
// connections, unless the server has answered part of it.
func TestCure_GivesUpIfConnectionsEnd(t *testing.T) {
	for _, answers := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, 5000)
			last := normal(5000-recent+1, 5000)
			r.c.Refused(r.g, quota)
			for n := range 6 {
				r.step()
				if n >= 3 && !answers {
					r.wantPurging()
					continue
				}
				r.wantPurging(last)
				if answers {
					r.acknowledge(last[0])
				}
				r.connect(true)
			}
		})
	}
}

// If everything was purged and the server still refuses messages, only a new session can help.
// Stuck reports that once an hour.
func TestCure_Stuck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		stuck := func(want bool) {
			t.Helper()
			if got := r.c.Stuck(); got != want {
				t.Errorf("stuck: %v, want %v", got, want)
			}
		}
		for range 2 { // the second one finds nothing to purge
			r.refused(quota)
			r.answer()
		}
		began := time.Now()
		at := func(after time.Duration, want bool) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after)))
			r.refused(quota)
			stuck(want)
		}
		at(time.Second, false)
		at(2*time.Second-1, false) // less than a second later, so it does not count
		at(2*time.Second, false)
		at(9*time.Second-1, false) // a quota may be exceeded for some seconds
		at(9*time.Second, false)
		at(10*time.Second-1, true)
		stuck(false)
		r.refused(quota)
		stuck(false) // within the same hour
		time.Sleep(time.Hour + 1)
		r.refused(quota) // everything is purged again
		r.answer()
		for n := range 3 {
			stuck(false)
			time.Sleep(5 * time.Second)
			r.refused(quota)
			stuck(n == 2)
		}
	})
}

// A server that accepts messages again is not stuck.
func TestCure_IsNotStuckAfterItHasHelped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		for range 2 {
			r.refused(quota)
			r.answer()
		}
		for range 5 {
			r.send(window, 0)
			time.Sleep(5 * time.Second)
			r.refused(quota)
			if r.c.Stuck() {
				t.Error("stuck, and the server has accepted a window of messages")
			}
		}
	})
}

// A server that occasionally refuses a message is not stuck, even if it accepts few messages
// between the refusals.
func TestCure_IsNotStuckByRareRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		for range 2 {
			r.refused(quota)
			r.answer()
		}
		for _, after := range []time.Duration{time.Second, time.Second, 25 * time.Minute, 11 * time.Minute, 11 * time.Minute} {
			time.Sleep(after)
			r.refused(quota)
			if r.c.Open() {
				r.answer()
			}
			if r.c.Stuck() {
				t.Errorf("stuck after a refusal %v after the one before", after)
			}
		}
	})
}

// Refusals during a purge belong to messages that were sent before it.
func TestCure_IsNotStuckByRefusalsBeforeTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		for range 2 {
			r.refused(quota)
			r.answer()
		}
		r.connect(true)
		for range 5 { // the first one starts a purge
			r.refused(quota)
		}
		r.answer()
		if r.c.Stuck() {
			t.Error("stuck after one refusal")
		}
	})
}

// A slow server gets more time while it answers, but not indefinitely.
func TestCure_WaitsForASlowServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5000)
		r.refused(quota)
		ids := r.purging()
		wait := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			r.step()
		}
		for n := range 5 {
			wait(4 * time.Second)
			r.acknowledge(ids[n])
			wait(time.Second)
			r.wantPurging(ids[n+1:])
		}
		wait(5 * time.Second) // nothing was answered
		r.wantPurging()

		r.connect(true)
		r.refused(quota)
		ids = r.purging()
		began := time.Now()
		for n := range ids {
			r.acknowledge(ids[n])
			if wait(4 * time.Second); !r.c.Open() {
				break
			}
		}
		if took := time.Since(began); r.c.Open() || took < 110*time.Second || took > 130*time.Second {
			t.Errorf("open %v after %v, want the end after two minutes", r.c.Open(), took)
		}
	})
}

// The sent watermark may be higher than the number of messages.
func TestCure_WatermarkAboveTheMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.must(r.store.SetSent(persistence.Normal, 500))
		r.refused(quota)
		r.wantPurging(normal(1, 10))
	})
}

// If the connection has ended unnoticed, the purge is made on the next one.
func TestCure_PurgesOnTheNextConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5000)
		r.c.Refused(r.g, quota)
		r.s.Detach(r.g)
		r.step()
		if r.c.Open() {
			t.Error("open without a connection")
		}
		r.connect(true)
		r.step()
		r.wantPurging(normal(5000-recent+1, 5000))

		r = newRig(t, 5)
		r.c.All(r.store.LastSeq())
		r.s.Detach(r.g)
		r.step()
		r.connect(true)
		r.step()
		r.wantAll(r.parts())
	})
}

// Refusals before the server has accepted a window of messages, on any connection, do not count.
func TestCure_IsNotStuckBetweenAcceptedMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		for range 2 {
			r.refused(quota)
			r.answer()
		}
		for range 2 {
			time.Sleep(4 * time.Second)
			r.refused(quota)
		}
		r.connect(true)
		r.send(window, 0)
		time.Sleep(4 * time.Second)
		r.refused(quota)
		r.answer()
		if r.c.Stuck() {
			t.Error("stuck after one refusal")
		}
		for range 2 {
			time.Sleep(4 * time.Second)
			r.refused(quota)
		}
		if !r.c.Stuck() {
			t.Error("not stuck after three")
		}
	})
}

// Identifiers that are unanswered when a purge is given up are counted once.
func TestCure_CountsIdentifiersGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(r *rig, purging []uint16)
		want int
	}{
		"no answer": {func(r *rig, _ []uint16) { time.Sleep(5 * time.Second); r.step() }, session.MaxPurge},
		"a part": {func(r *rig, ids []uint16) {
			r.acknowledge(ids[0])
			time.Sleep(10 * time.Second)
			r.step()
			time.Sleep(5 * time.Second)
			r.step()
		}, session.MaxPurge - 1},
		"it cuts":       {func(r *rig, _ []uint16) { r.cuts(3); r.step() }, session.MaxPurge},
		"it answers":    {func(r *rig, _ []uint16) { r.answerAll(); r.step() }, 0},
		"a new session": {func(r *rig, _ []uint16) { r.connect(false); r.step() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, 5)
				r.c.Unknown()
				r.step()
				purging := r.purging()
				if purging[0] != 1 {
					t.Errorf("the first identifier is %d", purging[0])
				}
				c.end(r, purging)
				if n, again := r.c.GivenUp(), r.c.GivenUp(); n != c.want || again != 0 {
					t.Errorf("%d, then %d, want %d and 0", n, again, c.want)
				}
			})
		})
	}
}
