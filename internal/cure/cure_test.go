package cure_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/cure"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

const (
	quota  = wire.ReasonQuotaExceeded
	inUse  = wire.ReasonPacketIDInUse
	recent = session.Recent
	window = 20 // the server's Receive Maximum
)

func TestCure_ReasonCodes(t *testing.T) {
	for code := range 256 {
		want := byte(code) == quota || byte(code) == inUse
		if got := cure.Helps(byte(code)); got != want {
			t.Errorf("0x%02X: %v", code, got)
		}
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.step()
		r.wantPurging() // without a reason
		r.refused(0x80)
		r.wantPurging()
		r.refused(inUse)
		r.wantPurging(normal(1, 10))
	})
}

// In a session that began on this connection, the server holds no stale exchanges.
func TestCure_DoesNothingInANewSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.connect(false)
		r.refused(quota)
		r.wantPurging()
		r.c.Refused(nil, quota)
		r.connect(true)
		r.step()
		r.wantPurging()
	})
}

// Each consecutive purge goes back further, up to a whole lap.
func TestCure_GoesBackFurtherEachTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 70_000
		r := newRig(t, n)
		lap := session.Lap(uint8(persistence.Normal))
		low := uint64(n)
		for i, size := range []uint64{0, 2048, 4096, 8192, 8192, 8192, 8192, 8192, 8192, 8192} {
			r.refused(quota)
			last := normal(n-recent+1, n)
			if i == 0 {
				low = n - recent
				r.wantPurging(last)
			} else {
				before := low
				low = max(low-size, n-lap)
				r.wantPurging(last, normal(low+1, before))
			}
			if wait := r.step(); wait != 5*time.Second {
				t.Errorf("waits for %v", wait)
			}
			r.answer()
		}
		if low != n-lap {
			t.Fatalf("the lap is not over: %d", low)
		}
		r.refused(quota) // everything was purged
		r.wantPurging(normal(n-recent+1, n))
		r.answer()
		r.refused(quota) // it no longer helps
		r.wantPurging()
		time.Sleep(59 * time.Minute)
		r.refused(quota) // only the most recent ones
		r.wantPurging(normal(n-recent+1, n))
		r.answer()
		r.refused(quota)
		r.wantPurging()
		time.Sleep(time.Minute + time.Second)
		r.refused(quota) // everything again
		r.wantPurging(normal(n-recent+1, n), normal(n-recent-2048+1, n-recent))
	})
}

// The first purge covers Recent identifiers before the first pending message, and all identifiers
// after it except those of pending messages.
func TestCure_SparesIdentifiersInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2000)
		r.add(persistence.Normal, 100) // 2001 to 2100
		r.add(persistence.High, 10)    // their numbers are 1 to 10
		for seq := uint64(2003); seq <= 2100; seq++ {
			r.done(seq)
		}
		r.done(2101) // number 1 of High
		r.held[session.PacketID(0, 1500)] = true
		r.held[session.PacketID(0, 2050)] = true
		flight := r.offer()                                                                            // its identifier belongs to another lap
		_, err := r.store.Enqueue(context.Background(), &persistence.Message{Packet: []byte{0x34, 0}}) // not sent
		r.must(err)
		r.must(r.store.Sync())
		r.refused(quota)
		r.wantPurging(normal(2001-recent+1, 2100, 1500, 2001, 2002, 2050), numbers(persistence.High, 1, 1))
		if slices.Contains(r.purging(), flight) {
			t.Error("an identifier in flight is purged")
		}
	})
}

// The sent watermark bounds the messages that can have been sent, also for High and Urgent, whose
// laps are short.
func TestCure_PurgesAllPriorities(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		for _, p := range []persistence.Priority{persistence.High, persistence.Urgent} {
			first := r.store.LastSeq()
			r.add(p, 500)
			for n := range uint64(500) {
				r.done(first + n + 1)
			}
		}
		r.refused(quota)
		lap := session.Lap(uint8(persistence.High))
		r.wantPurging(normal(1, 10), numbers(persistence.High, 501-lap, 500), numbers(persistence.Urgent, 501-lap, 500))
		r.answer()
		r.refused(quota) // there is nothing else to purge
		r.wantPurging(normal(1, 10), numbers(persistence.High, 501-lap, 500), numbers(persistence.Urgent, 501-lap, 500))
		r.answer()
		r.refused(quota)
		r.wantPurging()
	})
}

// If the connection ends during a purge, the next connection repeats the purge. It does not go back
// further.
func TestCure_RepeatsAnInterruptedPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20_000
		r := newRig(t, n)
		r.refused(quota)
		first := normal(n-recent+1, n)
		r.wantPurging(first)
		r.connect(true)
		if r.c.Answered(r.g) {
			t.Error("answered by another connection")
		}
		r.step()
		r.wantPurging(first)
		r.answer()
		r.refused(quota)
		second := normal(n-recent-2048+1, n-recent)
		r.wantPurging(first, second)
		for range 2 {
			r.connect(true)
			r.step()
			r.wantPurging(first, second)
		}
		r.answer()
		r.refused(quota)
		r.wantPurging(first, normal(n-recent-2048-4096+1, n-recent-2048))
	})
}

// If the server does not answer a purge within five seconds, it is given up. Its identifiers are
// free, and nothing is purged until there is another reason.
func TestCure_GivesUpAnUnansweredPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20_000
		r := newRig(t, n)
		r.refused(quota)
		id := r.purging()[0]
		time.Sleep(3 * time.Second)
		if wait := r.step(); wait != 2*time.Second || !r.c.Open() {
			t.Errorf("after three seconds it waits for %v", wait)
		}
		time.Sleep(2*time.Second - 1)
		r.step()
		r.wantPurging(normal(n-recent+1, n))
		time.Sleep(time.Nanosecond)
		if wait := r.step(); wait != 0 {
			t.Errorf("after five seconds it waits for %v", wait)
		}
		r.wantPurging()
		if got := r.g.Offer(1, id, 2); got != session.Admitted {
			t.Errorf("its identifier is not free: %v", got)
		}
		r.refused(quota)
		r.wantPurging()
		r.connect(true)
		r.refused(quota)
		r.wantPurging(normal(n-recent+1, n)) // on another connection, the most recent ones
		r.answer()
		r.refused(quota)
		r.wantPurging() // only these within an hour
	})
}

// During a purge, a refusal belongs to a message that was sent before.
func TestCure_IgnoresRefusalsBeforeTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5000)
		r.refused(quota)
		r.refused(quota)
		r.c.Refused(r.g, quota)
		r.answer()
		r.step()
		r.wantPurging()
	})
}

// A further purge needs a reason: the server refuses messages although few are in flight.
func TestCure_PurgesMoreOnlyWithALowWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 20_000)
		r.refused(quota)
		r.answer()
		for range window / 2 {
			r.offer()
		}
		r.refused(quota)
		r.wantPurging()
		r.connect(true)
		for range window/2 - 1 {
			r.offer()
		}
		r.refused(quota)
		r.wantPurging(normal(20_000-recent+1, 20_000), normal(20_000-recent-2048+1, 20_000-recent))
	})
}

// A purge has helped if the server has accepted a window of messages after it. Then the next
// sequence starts from the beginning, on the same connection only after a minute.
func TestCure_RestartsAfterItHasHelped(t *testing.T) {
	for _, tt := range []struct {
		accepted  int
		later     time.Duration
		reconnect bool
		want      []uint16
	}{
		{window, time.Second, false, nil},
		{window, time.Minute + 1, false, normal(19_977, 21_000)},
		{window, time.Second, true, normal(19_977, 21_000)},
		{window - 1, time.Second, false, append(normal(19_977, 21_000), normal(19_977-2048, 19_976)...)},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, 21_000)
			r.refused(quota)
			r.answer()
			r.send(tt.accepted, 0)
			time.Sleep(tt.later)
			if tt.reconnect {
				r.connect(true)
			}
			r.refused(quota)
			r.wantPurging(tt.want)
		})
	}
}

// If the server refused a message on the previous connection, this connection is held and the purge
// comes first.
func TestCure_PurgesAHeldConnectionFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 5000)
		last, more := normal(5000-recent+1, 5000), normal(5000-recent-2048+1, 5000-recent)
		r.send(1, quota)
		r.connect(true)
		if !r.g.Held() {
			t.Fatal("the connection is not held")
		}
		r.step()
		r.wantPurging(last)
		r.answer()
		r.must(r.g.Unhold())
		r.send(1, quota)
		r.connect(true)
		r.step()
		r.wantPurging(last, more) // it has not helped
		r.answer()
		r.must(r.g.Unhold())
		r.send(window, 0)
		r.send(1, quota)
		r.connect(true)
		r.step()
		r.wantPurging(last) // it has helped
	})
}

// If the server has lost the session, it has lost its exchanges too.
func TestCure_ForgetsTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 20_000)
		last := normal(20_000-recent+1, 20_000)
		r.refused(quota)
		r.answer()
		r.c.Refused(r.g, quota)
		r.c.Lost()
		if r.c.Open() {
			t.Error("open after the session was lost")
		}
		r.connect(true)
		r.step()
		r.wantPurging()
		r.refused(quota)
		r.wantPurging(last) // the first step again
	})
}

// If the store fails, the cure uses it again later.
func TestCure_ReturnsErrorsOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.c.Refused(r.g, quota)
		closed := persistence.NewMemory(persistence.Options{})
		r.must(closed.Close())
		if _, err := r.c.Step(r.g, closed, func(uint16) bool { return false }, false); err == nil {
			t.Error("no error of a closed store")
		}
		r.wantPurging()
		r.step()
		r.wantPurging(normal(1, 10))
	})
}

// If there are no identifiers to purge, no purge is open, and messages continue.
func TestCure_HasNothingToPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.refused(quota)
		r.wantPurging()
		if wait := r.step(); wait != 0 {
			t.Errorf("waits for %v", wait)
		}
		r.refused(quota)
		r.wantPurging()
		r.add(persistence.Normal, 10)
		for seq := range uint64(10) {
			r.done(seq + 1)
		}
		r.refused(quota) // the last purge did not help
		r.wantPurging()
		time.Sleep(time.Minute + 1)
		r.refused(quota)
		r.wantPurging(normal(1, 10))
	})
}
