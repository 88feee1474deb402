package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Another goroutine can commit a message, and the server can acknowledge it, before Add registers
// the message.
func TestAdd_MessageEndsBeforeItIsRegistered(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(r *rig)
		want   outbox.State
		ends   int
	}{
		"acknowledged": {func(r *rig) { r.ack(wire.PUBACK, session.PacketID(0, 1), 0) }, outbox.Acked, 1},
		"refused":      {func(r *rig) { r.ack(wire.PUBACK, session.PacketID(0, 1), 0x97) }, outbox.Refused, 1},
		"damaged":      {func(r *rig) { r.o.Damaged(1, errors.New("damaged")) }, outbox.Dropped, 1},
		"damaged, not sent": {func(r *rig) {
			must(t, r.store.Done(1, persistence.Result{Kind: persistence.Dropped})) // the log does not return a damaged message
			r.o.Damaged(1, errors.New("damaged"))
		}, outbox.Dropped, 1},
		"acknowledged, closed": {func(r *rig) { r.ack(wire.PUBACK, session.PacketID(0, 1), 0); r.o.Close(errors.New("x")) }, outbox.Acked, 1},
		"closed":               {func(r *rig) { r.o.Close(errors.New("closed")) }, outbox.Abandoned, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, store := hookedRig(t, outbox.Config{Rules: finalRefusals}, persistence.Options{})
				r.connect(false, session.Limits{})
				store.enqueued = func(ticket persistence.Ticket) {
					if name != "damaged, not sent" {
						if err := store.Wait(context.Background(), ticket); err != nil {
							t.Error(err)
						}
						r.o.Wake()
						r.want("1")
					}
					tt.before(r)
				}
				d := message(1, 1)
				w := r.add(d)
				wantState(t, w, tt.want)
				synctest.Wait()
				if len(r.ended) != tt.ends || tt.ends > 0 && r.ended[0].ID != d.ID {
					t.Errorf("reported %+v", r.ended)
				}
				if n := r.o.Open(); n != 0 {
					t.Errorf("%d messages are open", n)
				}
			})
		})
	}
}

// With Block, each end of a message lets one call continue.
func TestAdd_BlocksForRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{WhenFull: outbox.Block}, persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxMessages: 2}}))
		for n := range uint64(2) {
			r.add(message(n+1, 1))
		}
		why, stopped := errors.New("why"), errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		results := make(chan error, 5)
		for n := range uint64(5) {
			go func() {
				own := t.Context()
				if n == 4 {
					own = ctx
				}
				results <- r.o.Add(own, message(n+3, 1), new(outbox.Waiter))
			}()
		}
		synctest.Wait()
		cancel(why)
		if err := <-results; err != why {
			t.Errorf("Add returned %v after its context ended", err)
		}
		r.connect(false, session.Limits{})
		for range 2 {
			r.ack(wire.PUBACK, publishOf(r.c.take()[0]).PacketID, 0)
			if err := <-results; err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if len(results) > 0 {
				t.Error("the end of one message let two in")
			}
		}
		r.o.Stop(stopped)
		for range 2 {
			if err := <-results; err != stopped {
				t.Errorf("Add returned %v after Stop", err)
			}
		}
		if err := r.o.Add(t.Context(), message(9, 1), new(outbox.Waiter)); err != stopped {
			t.Errorf("Add returned %v after Stop", err)
		}
	})
}

// The numbers of a stream have the order of the log and no gaps. They continue after a restart.
func TestAdd_NumbersStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxPacketBytes: 100}}))
		var mu sync.Mutex
		numbers := map[uint64]uint64{} // by n
		numbered := func(n uint64, stream string, size int) *outbox.Draft {
			d := message(n, 1)
			d.StreamName = stream
			d.Encode = func(dst []byte, number uint64) []byte {
				mu.Lock()
				defer mu.Unlock()
				numbers[n] = number
				return append(wire.AppendPublish(dst, &wire.Publish{Topic: stream, QoS: 1}), make([]byte, size)...)
			}
			return d
		}
		for life := range uint64(2) {
			var adding sync.WaitGroup
			for g := range uint64(4) {
				adding.Go(func() {
					for i := range uint64(50) {
						r.add(numbered(1000*life+100*g+i+1, fmt.Sprint("s", i%3), 10))
						if err := r.o.Add(t.Context(), numbered(9999, "s0", 100), new(outbox.Waiter)); !errors.Is(err, persistence.ErrPacketTooLarge) {
							t.Errorf("Add returned %v", err)
						}
					}
				})
			}
			adding.Wait()
			r.stop()
			r.o.Close(errors.New("closed"))
			r.store = r.store.Reopen()
			r.start()
		}
		next, c := map[string]uint64{}, persistence.Cursor{}
		for e := (persistence.Entry{}); ; c.Pass(&e) {
			if ok, err := r.store.Next(&c, &e); err != nil || !ok {
				break
			}
			stream, n := string(e.Packet[4:6]), uint64(e.ID[6])<<8|uint64(e.ID[7])
			if next[stream]++; numbers[n] != next[stream] {
				t.Fatalf("message %d of %s has the number %d, want %d", n, stream, numbers[n], next[stream])
			}
		}
		if fmt.Sprint(next) != "map[s0:136 s1:136 s2:128]" {
			t.Errorf("the last numbers are %v", next)
		}
	})
}

// Results are correct even if the server answers before Add returns.
func TestAdd_Concurrently(t *testing.T) {
	store := persistence.NewMemory(persistence.Options{})
	r := newRig(t, outbox.Config{Rules: finalRefusals}, store)
	r.attach(false, session.Limits{})
	acks := make(chan wire.Ack, 10_000)
	r.c.onSend = func(v wire.PublishView) {
		a := wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID}
		if indexOf(v)%3 == 0 {
			a.Reason = wire.ReasonNotAuthorized
		}
		acks <- a
	}
	go func() {
		for a := range acks {
			if err := r.g.HandleAck(a); err != nil {
				t.Error(err)
			}
		}
	}()
	r.o.Connected(r.g)
	var adding sync.WaitGroup
	var next atomic.Uint64
	for g := range 8 {
		adding.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for range 500 {
				n, w := next.Add(1), new(outbox.Waiter)
				if err := r.o.Add(t.Context(), message(n, 1), w); err != nil {
					t.Error(err)
				}
				if random.IntN(2) == 0 {
					<-w.Done()
				}
				if state := w.Result().State; state != outbox.Pending && (state == outbox.Refused) != (n%3 == 0) {
					t.Errorf("message %d ended as %d", n, state)
				}
			}
		})
	}
	adding.Wait()
	if err := r.o.WaitIdle(t.Context()); err != nil {
		t.Error(err)
	}
	close(acks)
	if n := r.o.Open(); n != 0 || len(r.ended) != 4000 {
		t.Errorf("%d messages are open, %d ended", n, len(r.ended))
	}
}
