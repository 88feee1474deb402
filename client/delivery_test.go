package client

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

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// TestAnOutcomeMayComeBeforePublishReturns races the two: each Delivery must
// resolve exactly as the server said.
func TestAnOutcomeMayComeBeforePublishReturns(t *testing.T) {
	publishing(t, nil, control.Connack{}, func(t *testing.T, c *Client, p *peer, _ *recorder) {
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
					want := Acked
					if refuse([]byte(payload)) {
						want = Refused
					}
					wantState(t, publish(t, c, "t", payload, AtLeastOnce), want)
				}
			})
		}
		all.Wait()
		<-served
		wantAccounts(t, c)
		c.pending.mu.Lock()
		defer c.pending.mu.Unlock()
		if n := len(c.pending.open); n != 0 {
			t.Errorf("%d entries are left of messages that are done", n)
		}
	})
}

func TestPendingMessagesInEveryOrder(t *testing.T) {
	outcome := Outcome{State: Acked}
	for name, steps := range map[string]string{
		"added, sent, settled":       "ats",
		"sent before added":          "tas",
		"settled before added":       "tsa",
		"settled and never sent":     "sa",
		"added, settled, never sent": "as",
		"abandoned after":            "tsxa",
		"added and abandoned":        "ax",
		"abandoned before added":     "xa",
		"sent, abandoned, added":     "txa",
	} {
		t.Run(name, func(t *testing.T) {
			var p pendingMessages
			p.init(0, 10)
			var d *Delivery
			reports := 0
			for _, step := range steps {
				switch step {
				case 'a':
					d, _ = p.add(11, &Message{ID: MessageID{1}})
				case 't':
					p.sent(11, MessageID{1}, func(error) { reports++ })
				case 's':
					m := p.settle(11)
					if m.report != nil {
						m.report(nil)
					}
					m.delivery.resolve(outcome)
				case 'x':
					p.abandon(ErrClosed)
				}
			}
			want := Acked
			if !strings.Contains(steps, "s") {
				want = Abandoned
			}
			if got := d.Outcome().State; got != want {
				t.Errorf("the outcome is %v, want %v", got, want)
			}
			if len(p.open) != 0 {
				t.Errorf("an entry is left: %v", p.open)
			}
			if sent := strings.Contains(steps, "t") && strings.Contains(steps, "s"); sent && reports != 1 {
				t.Errorf("the breaker was told %d times", reports)
			}
		})
	}
}

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Delivery{timeout: time.Second}
		var timeout *reliability.TimeoutError
		if o, err := d.Wait(t.Context()); !errors.As(err, &timeout) || o.State != Pending {
			t.Errorf("Wait returned %v, %v, want a *reliability.TimeoutError", o.State, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if o, err := d.Wait(ctx); err != why || o.State != Pending {
			t.Errorf("Wait returned %v, %v, want the context's cause", o.State, err)
		}
		waited := make(chan error, 1)
		go func() { _, err := d.Wait(context.Background()); waited <- err }()
		synctest.Wait()
		d.resolve(Outcome{State: Dropped, Err: ErrSessionLost})
		d.resolve(Outcome{State: Acked}) // only the first counts
		if err := <-waited; err != ErrSessionLost {
			t.Errorf("Wait returned %v", err)
		}
		<-d.Done()
		if o, err := d.Wait(ctx); o.State != Dropped || err != ErrSessionLost {
			t.Errorf("Wait of what is known returned %v, %v", o.State, err)
		}
		late := &Delivery{}
		late.resolve(Outcome{State: Acked})
		<-late.Done()
	})
	for s := Pending; s <= Abandoned; s++ {
		if s.String() == "" {
			t.Errorf("state %d has no name", s)
		}
	}
}

func TestStatesHaveNames(t *testing.T) {
	if got := fmt.Sprint(Acked, DeadLettered, State(200)); got != "acked dead-lettered state(200)" {
		t.Error(got)
	}
}
