package outbox_test

import (
	"errors"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A kept Waiter gets its result even if its neighbors were not kept and have been collected.
func TestWaiter_OutlivesItsNeighbors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Rules: finalRefusals}, persistence.NewMemory(persistence.Options{}))
		kept := map[uint64]*outbox.Waiter{}
		const n = 300
		for i := uint64(1); i <= n; i++ {
			if w := r.add(message(i, 1)); i%70 == 0 {
				kept[i] = w
			}
			if i%50 == 0 {
				runtime.GC()
				runtime.GC()
			}
		}
		r.connect(false, session.Limits{})
		for i := uint64(1); i <= n; i++ {
			reason := byte(0)
			if i == 140 {
				reason = wire.ReasonNotAuthorized
			}
			r.ack(wire.PUBACK, session.PacketID(0, i), reason)
		}
		for i, w := range kept {
			want := outbox.Acked
			if i == 140 {
				want = outbox.Refused
			}
			<-w.Done()
			wantState(t, w, want)
		}
		if open := r.o.Open(); open != 0 {
			t.Errorf("%d messages are open", open)
		}
	})
}

// Waiters of different bubbles can share a result.
func TestWaiter_InManyBubbles(t *testing.T) {
	for range 2 {
		bubble(t, func(*testing.T) {
			var w outbox.Waiter
			w.Resolve(outbox.Result{State: outbox.Acked})
			<-w.Done()
		})
	}
}

func TestWaiter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w, late outbox.Waiter
		done := make(chan struct{})
		go func() { <-w.Done(); close(done) }()
		synctest.Wait()
		wantState(t, &w, outbox.Pending)
		why := errors.New("why")
		w.Resolve(outbox.Result{State: outbox.Dropped, Err: why})
		w.Resolve(outbox.Result{State: outbox.Acked}) // only the first result counts
		<-done
		<-w.Done()
		if r := wantState(t, &w, outbox.Dropped); r.Err != why {
			t.Errorf("the error is %v", r.Err)
		}
		late.Resolve(outbox.Result{State: outbox.Acked})
		<-late.Done()
	})
}
