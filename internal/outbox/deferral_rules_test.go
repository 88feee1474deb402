package outbox_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// The server refuses each message on topic "a" with one code, every time.
func TestRules_EndARefusedMessage(t *testing.T) {
	for _, tt := range []struct {
		rule  deferral.Rule
		code  byte
		sends int // 0: the message does not end
		state outbox.State
	}{
		{deferral.Rule{}, 0x97, 0, outbox.Pending},
		{deferral.Rule{Action: deferral.GiveUp}, 0x97, 1, outbox.Refused},
		{deferral.Rule{Action: deferral.DeadLetter}, 0x97, 1, outbox.DeadLettered},
		{deferral.Rule{Attempts: 3}, 0x97, 3, outbox.Refused},
		{deferral.Rule{For: 3 * time.Second}, 0x97, 3, outbox.Refused}, // sent after 0, 2 and 6 s
		{deferral.Rule{}, 0x99, 0, outbox.Pending},                     // the rule is for a final code
		{deferral.Rule{Codes: []byte{0x80}, Action: deferral.GiveUp}, 0x97, 0, outbox.Pending},
		{deferral.Rule{Codes: []byte{0x80}, Action: deferral.GiveUp}, 0x99, 1, outbox.Refused},
		{deferral.Rule{Filter: "b/#", Action: deferral.GiveUp}, 0x97, 0, outbox.Pending},
		{deferral.Rule{Filter: "+", Action: deferral.GiveUp}, 0x97, 1, outbox.Refused},
		{deferral.Rule{Codes: []byte{0x9B}, Action: deferral.LowerQoS}, 0x97, 0, outbox.Pending},
	} {
		t.Run(fmt.Sprintf("%+v with 0x%02X", tt.rule, tt.code), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, outbox.Config{Retry: fixed, Rules: []deferral.Rule{tt.rule}}, persistence.NewMemory(persistence.Options{}))
				r.connect(false, session.Limits{})
				w := r.add(on("a", 1, 2))
				sends := 0
				for range 60 {
					synctest.Wait()
					for range r.c.take() {
						sends++
						r.ack(wire.PUBREC, r.last().PacketID, tt.code)
					}
					time.Sleep(time.Second / 2)
				}
				if tt.sends != 0 && sends != tt.sends || tt.sends == 0 && sends < 4 {
					t.Errorf("it was sent %d times", sends)
				}
				wantState(t, w, tt.state)
			})
		})
	}
}

// The server announces Maximum QoS 1, or refuses all messages sent at QoS 2.
func TestRules_LowerTheQoS(t *testing.T) {
	rules := []deferral.Rule{{Filter: "a/#", Codes: []byte{0x9B}, Action: deferral.LowerQoS}}
	for _, announced := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, outbox.Config{Retry: fixed, Rules: rules}, persistence.NewMemory(persistence.Options{}))
			limits := session.Limits{MaximumQoS: 2, RetainAvailable: true}
			if announced {
				limits.MaximumQoS = 1
			}
			r.connect(false, limits)
			var all []*outbox.Waiter
			for n := range uint64(3) {
				all = append(all, r.add(on(fmt.Sprint("a/", n), n+1, 2)))
			}
			other := r.add(on("b", 9, 2))
			synctest.Wait()
			for _, f := range r.c.take() {
				v := publishOf(f)
				if want := byte(2); announced && v.QoS != 1 || !announced && v.QoS != want {
					t.Errorf("message %d is sent at QoS %d", indexOf(v), v.QoS)
				}
				if !announced {
					r.ack(wire.PUBREC, v.PacketID, wire.ReasonQoSNotSupported)
				} else {
					r.ack(wire.PUBACK, v.PacketID, 0)
				}
			}
			if wantState(t, other, outbox.Refused); !announced {
				time.Sleep(3 * time.Second)
				synctest.Wait()
				frames := r.c.take()
				for _, f := range frames {
					v := publishOf(f)
					if v.QoS != 1 || v.Dup {
						t.Errorf("message %d is sent again at QoS %d, DUP %v", indexOf(v), v.QoS, v.Dup)
					}
					r.ack(wire.PUBACK, v.PacketID, 0)
				}
				if len(frames) != 3 {
					t.Errorf("%d were sent again", len(frames))
				}
			}
			for _, w := range all {
				wantState(t, w, outbox.Acked)
			}
			w := r.add(on("a", 10, 2))
			r.want("10")
			if v := r.last(); v.QoS != 1 {
				t.Errorf("the next message is sent at QoS %d", v.QoS)
			}
			r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonQoSNotSupported) // at QoS 1, too
			wantState(t, w, outbox.Refused)
		})
	}
}

// A message that ends the connection is a trial of a half-open breaker. Another trial follows it.
func TestBreaker_ContinuesAfterPoison(t *testing.T) {
	bubble(t, func(t *testing.T) {
		breaker := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 2, RecoveryTimeout: time.Minute, SuccessesToClose: 1})
		rules := []deferral.Rule{{Filter: "bad/+", Action: deferral.GiveUp}}
		r := newRig(t, outbox.Config{Retry: fixed, Breaker: breaker, Rules: rules, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		for n := range uint64(2) {
			r.add(on(fmt.Sprint("bad/", n), n+1, 1)) // two topics: one counts once
			synctest.Wait()
			r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonUnspecifiedError)
		}
		r.want("1", "2")
		if s := breaker.Stats(); s.Opened != 1 {
			t.Fatalf("the breaker: %+v", s)
		}
		r.add(on("poisonous", 3, 1))
		r.want()
		time.Sleep(time.Minute + second)
		r.want("3") // the trial
		r.cut(wire.ReasonNotAuthorized)
		r.connect(true, session.Limits{})
		r.add(on("works", 4, 1))
		r.want("4")
	})
}

// A topic that the server always refuses does not open the breaker for a topic that works.
func TestBreaker_StaysClosedForOneRefusedTopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		breaker := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 2})
		r := newRig(t, outbox.Config{Retry: fixed, Breaker: breaker}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		var n uint64
		send := func(topic string) (works bool) {
			if topic != "" {
				n++
				r.add(on(topic, n, 1))
			}
			synctest.Wait()
			for _, f := range r.c.take() {
				v, code := publishOf(f), byte(0)
				if string(v.Topic) == "refused" {
					code = wire.ReasonUnspecifiedError
				}
				works = works || indexOf(v) == n
				r.ack(wire.PUBACK, v.PacketID, code)
			}
			return works
		}
		for range 20 {
			send("refused")
			for range 40 { // it is refused several times in succession
				time.Sleep(second / 2)
				send("")
			}
			if !send("works") {
				t.Fatalf("message %d was not sent at once; the breaker: %+v", n, breaker.Stats())
			}
		}
		if s := breaker.Stats(); s.Opened != 0 {
			t.Errorf("the breaker has opened: %+v", s)
		}
	})
}
