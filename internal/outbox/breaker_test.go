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

// refuser answers all messages: it refuses some topics and accepts the others.
type refuser struct {
	*rig
	breaker *reliability.Breaker
	refuses func(topic string) bool
	n       uint64
	waiters map[string][]*outbox.Waiter
}

func newRefuser(t *testing.T, rules []deferral.Rule, refuses func(topic string) bool) *refuser {
	b := reliability.NewBreaker(reliability.BreakerOptions{})
	r := newRig(t, outbox.Config{Retry: fixed, Breaker: b, Rules: rules}, persistence.NewMemory(persistence.Options{}))
	r.connect(false, session.Limits{})
	return &refuser{rig: r, breaker: b, refuses: refuses, waiters: map[string][]*outbox.Waiter{}}
}

func (r *refuser) send(topics ...string) {
	for _, topic := range topics {
		r.n++
		r.waiters[topic] = append(r.waiters[topic], r.add(on(topic, r.n, 1)))
	}
	r.answer()
}

// answer answers the sent messages and those that follow from the answers. The client receives the
// answers to one batch together, so the send loop runs after all of them.
func (r *refuser) answer() {
	for {
		synctest.Wait()
		frames := r.c.take()
		if len(frames) == 0 {
			return
		}
		for _, f := range frames {
			v, code := publishOf(f), byte(0)
			if r.refuses(string(v.Topic)) {
				code = wire.ReasonUnspecifiedError
			}
			if err := r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID, Reason: code}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// pass lets time pass and answers the messages sent meanwhile.
func (r *refuser) pass(d time.Duration) {
	for range d / (100 * time.Millisecond) {
		time.Sleep(100 * time.Millisecond)
		r.answer()
	}
}

func (r *refuser) wantAcked(topic string) {
	r.t.Helper()
	for i, w := range r.waiters[topic] {
		if got := w.Result(); got.State != outbox.Acked {
			r.t.Fatalf("message %d on %q: %+v; the breaker: %+v", i, topic, got, r.breaker.Stats())
		}
	}
}

func (r *refuser) wantOpened(n uint64) {
	r.t.Helper()
	if got := r.breaker.Stats().Opened; got != n {
		r.t.Fatalf("the breaker has opened %d times, want %d", got, n)
	}
}

func isBad(topic string) bool { return topic[0] == 'b' }

// A topic whose messages are given up does not stop a topic that works, however their messages
// alternate.
func TestBreaker_StaysClosedForAGivenUpTopic(t *testing.T) {
	for _, bad := range []int{1, 10} {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d to 1, together %v", bad, together), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRefuser(t, finalRefusals, isBad)
					var topics []string
					for range 20 {
						for range bad {
							topics = append(topics, "bad")
						}
						topics = append(topics, "works")
					}
					if together {
						r.send(topics...)
					} else {
						for _, topic := range topics {
							r.send(topic)
						}
					}
					r.wantAcked("works")
					r.wantOpened(0)
				})
			})
		}
	}
}

// Several topics whose messages are given up do not stop a topic that works and is used as often.
func TestBreaker_StaysClosedForGivenUpTopics(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprint(together), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRefuser(t, finalRefusals, isBad)
				var topics []string
				for i := range 20 {
					topics = append(topics, "works", fmt.Sprint("b", i))
				}
				if together {
					r.send(topics...)
				} else {
					for _, topic := range topics {
						r.send(topic)
					}
				}
				r.wantAcked("works")
				r.wantOpened(0)
			})
		})
	}
}

// Topics that are refused repeatedly do not stop a topic that works.
func TestBreaker_StaysClosedForDeferredTopics(t *testing.T) {
	for _, tt := range []struct{ apart, every time.Duration }{{0, second}, {200 * time.Millisecond, 5 * second}} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRefuser(t, nil, isBad)
				for i := range 10 {
					r.send(fmt.Sprint("b", i))
					r.pass(tt.apart)
				}
				for range 100 {
					r.send("works")
					r.wantAcked("works")
					r.pass(tt.every)
				}
				r.wantOpened(0)
			})
		})
	}
}

// A server that refuses all topics opens the breaker, whether the messages are given up or deferred.
func TestBreaker_OpensIfAllTopicsAreRefused(t *testing.T) {
	for _, rules := range [][]deferral.Rule{nil, finalRefusals} {
		t.Run(fmt.Sprint(rules), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				down := false
				r := newRefuser(t, rules, func(string) bool { return down })
				r.send("a", "b", "c", "d", "e")
				for outage := range uint64(2) {
					down = true
					for range 2 {
						r.send("a", "b", "c", "d", "e") // the first refusals may precede the last acknowledgement
					}
					r.pass(40 * second)
					r.wantOpened(outage + 1)
					down = false
					for range 3 {
						r.send("a", "b", "c", "d", "e")
						r.pass(61 * second)
					}
				}
			})
		})
	}
}

// One topic stays refused after an outage. It does not prevent the breaker from closing.
func TestBreaker_ClosesAlthoughATopicIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		down := true
		r := newRefuser(t, finalRefusals, func(topic string) bool { return down || isBad(topic) })
		r.send("bad", "a", "c", "d", "e")
		r.wantOpened(1)
		down = false
		for range 10 {
			r.send("bad", "bad", "works")
		}
		r.pass(61 * second)
		r.wantAcked("works")
		for range 10 {
			r.send("bad", "bad", "works")
			r.wantAcked("works")
		}
		r.wantOpened(1)
	})
}

// A message that ended a connection is no failure for the breaker, even if it is given up for that
// reason.
func TestBreaker_StaysClosedForPoison(t *testing.T) {
	bubble(t, func(t *testing.T) {
		breaker := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 1})
		rules := []deferral.Rule{{Codes: []byte{wire.ReasonUnspecifiedError}, Action: deferral.GiveUp}}
		r := newRig(t, outbox.Config{Retry: fixed, Breaker: breaker, Rules: rules, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		w := r.add(on("bad", 1, 1))
		r.want("1")
		r.cut(wire.ReasonUnspecifiedError)
		r.connect(true, session.Limits{})
		wantState(t, w, outbox.Refused)
		r.add(on("works", 2, 1))
		r.want("2")
		if s := breaker.Stats(); s.Opened != 0 || s.Failed != 0 {
			t.Errorf("the breaker: %+v", s)
		}
	})
}

// Trials that end with their connection are returned to the breaker. When an open breaker allows a
// trial again, the outbox asks for one.
func TestRun_Breaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		breaker := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 1, SuccessesToClose: 2, RecoveryTimeout: time.Minute})
		r := newRig(t, outbox.Config{Breaker: breaker, Rules: finalRefusals}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(message(1, 1))
		r.want("1")
		r.ack(wire.PUBACK, session.PacketID(0, 1), wire.ReasonQuotaExceeded)
		for n := range uint64(4) {
			r.add(message(n+2, 1))
		}
		r.want()
		time.Sleep(time.Minute + 1)
		r.want("2", "3")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want("+2", "+3")
		r.ack(wire.PUBACK, session.PacketID(0, 2), 0)
		r.ack(wire.PUBACK, session.PacketID(0, 3), 0)
		r.want("4", "5")
	})
}

// Each attempt is reported to the breaker exactly once, even if the message is not sent again on
// the next connection.
func TestRun_ReportsEachAttemptOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reports := 0
		breaker := reliability.NewBreaker(reliability.BreakerOptions{Judge: func(error) reliability.Judgment { reports++; return reliability.Ignored }})
		r := newRig(t, outbox.Config{Breaker: breaker}, persistence.NewMemory(persistence.Options{}))
		for n := range uint64(3) {
			r.add(message(n+1, 1))
		}
		for i, window := range []uint16{4, 1, 1} {
			r.connect(i > 0, session.Limits{ReceiveMaximum: window})
			r.cut(0)
		}
		r.connect(true, session.Limits{ReceiveMaximum: 4})
		if reports != 3+2+2 { // with a window of 1, one more attempt finds no room
			t.Errorf("%d reports of 7 attempts", reports)
		}
	})
}
