package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// The acknowledgement races with Publish. Each Delivery must resolve with the server's answer.
func TestDelivery_OutcomeBeforePublishReturns(t *testing.T) {
	publishing(t, func(cfg *client.Config) { cfg.Publishing.Refusals = finalRefusals }, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		refuse := func(payload []byte) bool { return len(payload)%3 == 0 }
		const messages = 3000
		served := make(chan struct{})
		go func() {
			defer close(served)
			for range messages {
				m := p.nextPublish()
				code := byte(0)
				if refuse(m.Payload) {
					code = wire.ReasonNotAuthorized
				}
				p.ack(wire.PUBACK, m.PacketID, code, "")
			}
		}()
		var all sync.WaitGroup
		for g := range 10 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(g)))
				for range messages / 10 {
					payload := strings.Repeat("x", random.IntN(20))
					want := client.Acked
					if refuse([]byte(payload)) {
						want = client.Refused
					}
					wantState(t, publish(t, c, "t", payload, client.AtLeastOnce), want)
				}
			})
		}
		all.Wait()
		<-served
		wantAccounts(t, c)
	})
}

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := client.NewDelivery(time.Second)
		var timeout *reliability.TimeoutError
		if o, err := d.Wait(t.Context()); !errors.As(err, &timeout) || o.State != client.Pending {
			t.Errorf("Wait returned %v, %v, want a *reliability.TimeoutError", o.State, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if o, err := d.Wait(ctx); err != why || o.State != client.Pending {
			t.Errorf("Wait returned %v, %v, want the context's cause", o.State, err)
		}
		waited := make(chan error, 1)
		go func() { _, err := d.Wait(context.Background()); waited <- err }()
		synctest.Wait()
		d.Waiter().Resolve(outbox.Result{State: outbox.Dropped, Err: client.ErrSessionLost})
		d.Waiter().Resolve(outbox.Result{State: outbox.Acked}) // only the first call counts
		if err := <-waited; err != client.ErrSessionLost {
			t.Errorf("Wait returned %v", err)
		}
		<-d.Done()
		if o, err := d.Wait(ctx); o.State != client.Dropped || err != client.ErrSessionLost {
			t.Errorf("Wait of what is known returned %v, %v", o.State, err)
		}
		late := client.NewDelivery(0)
		late.Waiter().Resolve(outbox.Result{State: outbox.Acked})
		<-late.Done()
	})
	for s := client.Pending; s <= client.Abandoned; s++ {
		if s.String() == "" {
			t.Errorf("state %d has no name", s)
		}
	}
}

func TestState_String(t *testing.T) {
	if got := fmt.Sprint(client.Acked, client.DeadLettered, client.State(200)); got != "acked dead-lettered state(200)" {
		t.Error(got)
	}
}
