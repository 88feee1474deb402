package outbox_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

func TestWaitIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
		idle := make(chan error, 1)
		wait := func(ctx context.Context) { idle <- r.o.WaitIdle(ctx) }
		wait(t.Context())
		if err := <-idle; err != nil {
			t.Error(err)
		}
		busy := func(what string) {
			t.Helper()
			if synctest.Wait(); len(idle) > 0 {
				t.Errorf("WaitIdle returned %v while %s", <-idle, what)
			}
		}
		refused := errors.New("draining")
		d := message(1, 1)
		encode := d.Encode
		d.Encode = func(dst []byte, number uint64) []byte {
			r.o.Refuse(refused, nil)
			go wait(t.Context())
			busy("Add is running")
			return encode(dst, number)
		}
		r.add(d)
		busy("a message is pending")
		if err := r.o.Add(t.Context(), message(2, 1), new(outbox.Waiter)); err != refused || r.o.Refused() != refused {
			t.Errorf("Add returned %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if err := r.o.WaitIdle(ctx); err != why {
			t.Errorf("WaitIdle returned %v after its context ended", err)
		}
		r.connect(false, session.Limits{})
		r.ack(wire.PUBACK, session.PacketID(0, 1), 0)
		if err := <-idle; err != nil {
			t.Error(err)
		}
	})
}
