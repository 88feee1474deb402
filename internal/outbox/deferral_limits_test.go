package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// limited returns a rig with room for ten messages, at most five of them deferred. Five messages of
// the topic "refused" are deferred.
func limited(t *testing.T, full outbox.FullPolicy) *rig {
	o := persistence.Options{Limits: persistence.Limits{MaxMessages: 10}}
	cfg := outbox.Config{Retry: reliability.Backoff{Min: time.Hour, Max: time.Hour}, WhenFull: full, MaxDeferred: 5}
	if full == outbox.DropOldest {
		cfg.StoreDrops, o.Limits.WhenFull = true, persistence.DropOldest
	}
	r := newRig(t, cfg, persistence.NewMemory(o))
	r.connect(false, session.Limits{ReceiveMaximum: 100, MaximumQoS: 2, RetainAvailable: true})
	r.add(on("refused", 1, 1))
	r.want("1")
	r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonNotAuthorized)
	for n := range uint64(4) {
		r.add(on("refused", 2+n, 1))
	}
	synctest.Wait()
	if d := r.o.Deferred(); d.Messages != 5 {
		t.Fatalf("%d messages are deferred", d.Messages)
	}
	return r
}

// wantFull wants the error for a message that would be deferred.
func wantFull(t *testing.T, err error) {
	t.Helper()
	var full *outbox.DeferredFullError
	if !errors.As(err, &full) || !errors.Is(err, persistence.ErrFull) || full.Code != wire.ReasonNotAuthorized || full.Max != 5 {
		t.Errorf("Add returned %v: %+v", err, full)
	}
}

// A refused topic takes half of the store, and a working topic can use all of the rest.
func TestAdd_RejectsBeyondTheDeferredLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := limited(t, outbox.Reject)
		wantFull(t, r.o.Add(context.Background(), on("refused", 6, 1), new(outbox.Waiter)))
		for n := range uint64(5) {
			r.add(on("works", 10+n, 1))
		}
		err := r.o.Add(context.Background(), on("works", 15, 1), new(outbox.Waiter))
		if full := (*outbox.DeferredFullError)(nil); !errors.Is(err, persistence.ErrFull) || errors.As(err, &full) {
			t.Errorf("Add to a full store returned %v", err)
		}
		r.want("10", "11", "12", "13", "14")
	})
}

// A call that waits for room for deferred messages does not prevent others from using the free
// room.
func TestAdd_BlocksBeyondTheDeferredLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := limited(t, outbox.Block)
		added := make(chan string, 3)
		add := func(topic string, n uint64) {
			if err := r.o.Add(t.Context(), on(topic, n, 1), new(outbox.Waiter)); err == nil {
				added <- fmt.Sprint(topic, n)
			} else {
				added <- err.Error()
			}
		}
		go add("refused", 6)
		synctest.Wait()
		for n := range uint64(5) {
			r.add(on("works", 10+n, 1))
		}
		r.want("10", "11", "12", "13", "14")
		go add("works", 15) // the store is full now
		synctest.Wait()
		if len(added) > 0 {
			t.Fatalf("accepted: %v", <-added)
		}
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		if got := <-added; got != "works15" {
			t.Errorf("accepted: %v", got)
		}
		r.want("15")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		synctest.Wait()
		if len(added) > 0 {
			t.Fatalf("accepted: %v", <-added)
		}
		time.Sleep(time.Hour)
		r.want("1")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		if got := <-added; got != "refused6" {
			t.Errorf("accepted: %v", got)
		}
	})
}

func TestAdd_DropsOldestBeyondTheDeferredLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := limited(t, outbox.DropOldest)
		for n := range uint64(20) {
			r.add(on("refused", 6+n, 1))
			synctest.Wait()
		}
		r.add(on("works", 30, 1))
		r.want("30")
		if d, st := r.o.Deferred(), r.store.Stats(); d.Messages != 5 || st.Deferred != 5 || st.Dropped != 20 || len(r.ended) != 20 {
			t.Errorf("%+v, %+v; %d have ended", d, st, len(r.ended))
		}
		for i, e := range r.ended {
			if e.State != outbox.Dropped || e.Cause != outbox.StoreFull || e.ID[7] != byte(1+i) || e.Topic != "refused" {
				t.Errorf("end %d is %+v", i, e)
			}
		}
		if open := r.o.Open(); open != 6 {
			t.Errorf("%d messages are open", open)
		}
	})
}

func TestAdd_DropsNewestBeyondTheDeferredLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := limited(t, outbox.DropNewest)
		w := r.add(on("refused", 6, 1))
		wantState(t, w, outbox.Dropped)
		wantState(t, r.add(on("works", 7, 1)), outbox.Pending)
		r.want("7")
		if d := r.o.Deferred(); d.Messages != 5 {
			t.Errorf("%+v", d)
		}
	})
}

// 100,000 messages of 10,000 topics are deferred. They take little memory, and cause no work while
// none is due.
func TestOutbox_ManyDeferredMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("defers 100,000 messages: run it without -short")
	}
	const topics, each = 10_000, 10
	bubble(t, func(t *testing.T) {
		cfg := outbox.Config{Retry: reliability.Backoff{Min: time.Hour, Max: time.Hour}}
		r := newRig(t, cfg, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 65_535, MaximumQoS: 2, RetainAvailable: true})
		var n uint64
		addAll := func(times int) {
			for range times {
				for topic := range topics {
					n++
					r.add(on(fmt.Sprint("refused/", topic), n, 1))
				}
			}
			synctest.Wait()
		}
		addAll(1)
		for _, f := range r.c.take() {
			if err := r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: publishOf(f).PacketID, Reason: wire.ReasonNotAuthorized}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		addAll(each - 1)
		r.want()
		if d := r.o.Deferred(); d.Messages != topics*each || d.Topics != topics {
			t.Fatalf("%+v", d)
		}
		before := r.store.Stats()
		time.Sleep(59 * time.Minute)
		r.want()
		if after := r.store.Stats(); after.BytesWritten != before.BytesWritten {
			t.Errorf("%d bytes were written while nothing was due", after.BytesWritten-before.BytesWritten)
		}
		r.cut(0)
		r.stop()
		r.store = r.store.Reopen()
		r.o, r.s, r.ended = nil, nil, nil
		heapBefore := heap()
		r.start()
		r.connect(true, session.Limits{ReceiveMaximum: 20, MaximumQoS: 2, RetainAvailable: true})
		r.want()
		per := (int64(heap()) - int64(heapBefore)) / (topics * each)
		t.Logf("%d bytes of heap per deferred message in the outbox", per)
		if per > 400 {
			t.Errorf("%d bytes per deferred message", per)
		}
		time.Sleep(2 * time.Minute)
		sent := 0
		for { // all are due now
			synctest.Wait()
			frames := r.c.take()
			if len(frames) == 0 {
				break
			}
			for _, f := range frames {
				sent++
				if err := r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: publishOf(f).PacketID}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if st := r.store.Stats(); sent != topics*each || st.Pending != 0 {
			t.Errorf("%d were sent, %d are pending", sent, st.Pending)
		}
	})
}
