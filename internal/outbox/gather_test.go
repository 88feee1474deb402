package outbox_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// syncs is a store that counts the operations that sync the disk.
type syncs struct {
	*persistence.Memory
	n int
}

func (s *syncs) Sync() error {
	s.n++
	return s.Memory.Sync()
}

// gathering returns a rig whose window is full of deferred messages, which were sent just now.
// Another 100 deferred messages wait.
func gathering(t *testing.T, window uint16) (*rig, *syncs, []uint16) {
	store := &syncs{Memory: persistence.NewMemory(persistence.Options{})}
	r := newRig(t, outbox.Config{Retry: fixed, Store: store}, store.Memory)
	r.connect(false, session.Limits{ReceiveMaximum: window})
	r.add(on("a", 1, 1))
	synctest.Wait()
	r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonUnspecifiedError)
	for n := range uint64(window) + 100 {
		r.add(on("a", n+2, 1))
	}
	time.Sleep(2 * second)
	synctest.Wait()
	r.c.take()
	r.ack(wire.PUBACK, r.last().PacketID, 0)
	return r, store, r.took(t, int(window))
}

// took returns the packet identifiers of the messages sent since the last call.
func (r *rig) took(t *testing.T, want int) (ids []uint16) {
	t.Helper()
	synctest.Wait()
	for _, f := range r.c.take() {
		ids = append(ids, publishOf(f).PacketID)
	}
	if len(ids) != want {
		t.Fatalf("%d messages were sent, want %d", len(ids), want)
	}
	return ids
}

// While a large window is at least half full, deferred messages are sent together, 20 ms after the
// last ones, because each batch costs a sync of the disk.
func TestGather_SendsDeferredMessagesTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store, ids := gathering(t, 40)
		before := store.n
		for i := range 4 {
			time.Sleep(4 * time.Millisecond)
			r.ack(wire.PUBACK, ids[i], 0)
			r.took(t, 0)
		}
		time.Sleep(4*time.Millisecond - 1)
		r.took(t, 0)
		time.Sleep(time.Nanosecond)
		more := r.took(t, 4)
		if n := store.n - before; n != 1 {
			t.Errorf("%d syncs, want 1", n)
		}
		time.Sleep(20 * time.Millisecond)
		r.ack(wire.PUBACK, more[0], 0) // the last batch was sent long ago
		r.took(t, 1)
	})
}

func TestGather_DoesNotWaitInASmallOrEmptyWindow(t *testing.T) {
	for _, tt := range []struct {
		window uint16
		acked  int
	}{{40, 20}, {31, 1}, {2, 1}} {
		bubble(t, func(t *testing.T) {
			r, _, ids := gathering(t, tt.window)
			time.Sleep(time.Millisecond)
			for i := range tt.acked { // received together
				if err := r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: ids[i]}); err != nil {
					t.Fatal(err)
				}
			}
			r.took(t, tt.acked)
		})
	}
}

// New messages do not wait for deferred ones.
func TestGather_DoesNotDelayOtherMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, ids := gathering(t, 40)
		time.Sleep(time.Millisecond)
		r.add(on("b", 900, 1))
		r.ack(wire.PUBACK, ids[0], 0)
		r.want("900")
	})
}

// If the birth may be poison, a connection waits for its acknowledgement. It purges packet
// identifiers before, because the birth waits for the purge.
func TestReady_PurgesBeforeItWaitsForABirth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.cut(0)
		birth := message(99, 1).Encode(nil, 0)
		r.attach(true, session.Limits{ReceiveMaximum: 20})
		if err := r.g.PublishUnstored(birth, func(byte, string, error) {}); err != nil {
			t.Fatal(err)
		}
		r.o.Connected(r.g)
		r.add(on("a", 6, 2))
		r.want("99", "6")
		if err := r.g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: r.last().PacketID, Reason: wire.ReasonQuotaExceeded}); err != nil {
			t.Fatal(err)
		}
		r.cut(wire.ReasonQuotaExceeded) // before the birth is acknowledged
		r.attach(true, session.Limits{ReceiveMaximum: 20})
		if err := r.g.ResendUnstored(); err != nil {
			t.Fatal(err)
		}
		r.o.Connected(r.g)
		r.answer(r.purged())
		r.want("+99")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		r.want("6")
	})
}
