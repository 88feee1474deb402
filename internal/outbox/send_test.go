package outbox_test

import (
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file tests what the send loop checks before it sends a message: that the packet identifier is
// free, and that the message is still pending.

// A packet identifier is not reused while the last message that used it is pending. It is not
// reused either before the end of that message is durable.
func TestRun_PacketIdentifierWaitsForItsLastUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		r.connect(false, session.Limits{})
		lap := session.Lap(uint8(persistence.High))
		high := func(n uint64) *outbox.Waiter {
			d := message(n, 1)
			d.Priority = persistence.High
			return r.add(d)
		}
		stuck := high(1)
		r.want("1")
		for n := uint64(2); n <= lap; n++ {
			high(n)
			r.want(fmt.Sprint(n))
			r.ack(wire.PUBACK, session.PacketID(1, n), 0)
		}
		syncs := store.syncs
		high(lap + 1)
		high(lap + 2)
		r.want()
		r.add(message(lap+3, 1)) // another priority continues
		r.want(fmt.Sprint(lap + 3))
		if store.syncs > syncs {
			t.Error("the store is synced for a message that waits")
		}
		r.ack(wire.PUBACK, session.PacketID(1, 1), 0)
		wantState(t, stuck, outbox.Acked)
		r.want(fmt.Sprint(lap+1), fmt.Sprint(lap+2))
		if store.syncs == syncs {
			t.Error("an identifier is reused before the end of its last user is durable")
		}
	})
}

// A newer message replaces a message that the send loop has read and is about to send.
func TestRun_DoesNotSendADroppedMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		keyed := func(n uint64) *outbox.Waiter {
			d := message(n, 2)
			d.Key = "k"
			return r.add(d)
		}
		old := keyed(1)
		var newer *outbox.Waiter
		store.marking = func() {
			store.marking = nil
			newer = keyed(2)
		}
		r.connect(false, session.Limits{})
		r.want("2")
		wantState(t, old, outbox.Dropped)
		wantState(t, newer, outbox.Pending)
	})
}
