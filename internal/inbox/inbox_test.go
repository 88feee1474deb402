package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/ordering"
)

type (
	config   = inbox.Config[*message]
	delivery = inbox.Delivery[*message]
)

// on returns messages with these numbers on one topic, with one QoS.
func on(topic string, qos byte, numbers ...int) (list []*message) {
	for _, n := range numbers {
		list = append(list, &message{Number: n, Topic: topic, QoS: qos, Bytes: 100})
	}
	return list
}

// with returns a message with a function that replaces its handler.
func with(m *message, f func(ctx context.Context, d *delivery) error) *message {
	m.InHandler = f
	return m
}

func gated(m *message) (_ *message, open func()) {
	gate := make(chan struct{})
	return with(m, func(ctx context.Context, _ *delivery) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}), func() { close(gate) }
}

func TestInbox_AcknowledgesInOrderOfReceipt(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.server.connect()
		topics := r.apart(4)
		slow, open := gated(on(topics[0], 1, 1)[0])
		r.send(slow)
		r.send(on(topics[1], 1, 2)...)
		r.send(on(topics[2], 2, 3)...)
		r.send(on(topics[3], 0, 4)...)
		r.wantAcks()
		if got := r.facts.take(); len(got) != 3 {
			t.Errorf("%v, want all but the first", got)
		}
		open()
		r.wantAcks("1", "2", "3")
		r.wantFacts("handled 1")
		if st := r.box.Stats(); st.Received != 4 || st.Handled != 4 || st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestInbox_RetriesAndRefuses(t *testing.T) {
	no := errors.New("no")
	for _, tt := range []struct {
		name  string
		fails []error // errors of the attempts
		ack   string
		facts []string
		took  time.Duration
	}{
		{"an error is retried", []error{no, no}, "1", []string{"failed 1 no retried", "failed 1 no retried", "handled 1"}, 2 * time.Second},
		{"the last attempt refuses", []error{no, no, no}, "1 0x80 handler failed",
			[]string{"failed 1 no retried", "failed 1 no retried", "failed 1 no refused"}, 2 * time.Second},
		{"a refusal is not retried", []error{fmt.Errorf("wrapped: %w", &refused{code: 0x87, reason: "not you"})}, "1 0x87 not you",
			[]string{"failed 1 wrapped: refused refused"}, 0},
		{"a code that PUBACK does not have", []error{&refused{code: 0x9C}}, "1 0x80 ", []string{"failed 1 refused refused"}, 0},
		{"a code of success", []error{&refused{}}, "1 0x80 ", []string{"failed 1 refused refused"}, 0},
	} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprint(tt.name, " QoS ", qos), func(t *testing.T) {
				inBubble(t, nil, func(r *rig) {
					r.server.connect()
					began, took := time.Now(), time.Duration(0)
					r.send(with(on("t", qos, 1)[0], func(_ context.Context, d *delivery) error {
						took = time.Since(began)
						if d.Attempt > len(tt.fails) {
							return nil
						}
						return tt.fails[d.Attempt-1]
					}))
					time.Sleep(time.Minute)
					r.wantAcks(tt.ack)
					r.wantFacts(tt.facts...)
					if took != tt.took {
						t.Errorf("took %v, want %v", took, tt.took)
					}
					if n := r.box.Stats().Bytes; n != 0 {
						t.Errorf("%d bytes are left", n)
					}
				})
			})
		}
	}
}

func TestInbox_SanitizesReasonStrings(t *testing.T) {
	long := strings.Repeat("ä", 100_000)
	for _, tt := range []struct{ text, want string }{
		{"bad \xff and \x00", "bad \uFFFD and "},
		{long, long[:1024]},
		{"x" + long, "x" + long[:1022]},
	} {
		inBubble(t, nil, func(r *rig) {
			r.server.connect()
			r.send(with(on("t", 1, 1)[0], func(context.Context, *delivery) error { return &refused{code: 0x83, reason: tt.text} }))
			r.wantAcks("1 0x83 " + tt.want)
		})
	}
}

// A panic or a runtime.Goexit fails the call. The worker continues with the next messages.
func TestInbox_SurvivesPanicsAndGoexit(t *testing.T) {
	for name, crash := range map[string]func(){
		"panic":  func() { panic("boom") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(cfg *config) { cfg.Workers = 1 }, func(r *rig) {
				r.server.connect()
				inside := false
				r.send(with(on("t", 1, 1)[0], func(_ context.Context, d *delivery) error {
					if d.Attempt < 3 {
						crash()
					}
					return nil
				}))
				r.send(with(on("t", 1, 2)[0], func(context.Context, *delivery) error { crash(); return nil }))
				r.send(with(on("t", 1, 3)[0], func(context.Context, *delivery) error { inside = r.guard.Inside(); return nil }))
				time.Sleep(time.Minute)
				r.wantAcks("1", "2 0x80 handler failed", "3")
				if st := r.box.Stats(); st.Failed != 5 || st.Handled != 2 || st.Refused != 1 || st.Bytes != 0 {
					t.Errorf("%+v", st)
				}
				if !inside {
					t.Error("the guard does not know the worker")
				}
				for _, f := range r.facts.take() {
					if strings.HasPrefix(f, "failed") && !strings.Contains(f, "panicked: "+map[string]string{"panic": "boom", "Goexit": "runtime.Goexit"}[name]) {
						t.Errorf("reported %q", f)
					}
				}
			})
		})
	}
}

// A Goexit outside the handler and the cache does not finish the message a second time.
func TestInbox_SurvivesGoexitInTheObserver(t *testing.T) {
	inBubble(t, func(cfg *config) { cfg.Workers = 1 }, func(r *rig) {
		r.facts.onUnhandled = runtime.Goexit
		r.server.connect()
		r.send(&message{Number: 1, Topic: "t", QoS: 1, None: true})
		r.send(on("t", 1, 2)...)
		r.box.Connected()
		time.Sleep(time.Minute)
		r.wantAcks("1 0x83 no handler for this topic", "2")
		r.wantFacts("unhandled 1 waiting", "handled 2", "unhandled 1 refused")
	})
}

// A message for several handlers is acknowledged after the last one. If any handler refuses it, it
// is refused.
func TestInbox_AcknowledgesAfterAllHandlers(t *testing.T) {
	for _, first := range []error{nil, &refused{code: 0x87, reason: "not you"}} {
		inBubble(t, nil, func(r *rig) {
			r.server.connect()
			slow, open := gated(on("t", 2, 3)[0])
			m := on("t", 2, 1)[0]
			m.Targets = []*message{with(on("t", 2, 2)[0], func(context.Context, *delivery) error { return first }), slow}
			r.send(m)
			r.wantAcks()
			if n := r.box.Stats().Bytes; n != 100 {
				t.Errorf("%d bytes are taken, want 100", n)
			}
			open()
			if r.wantAcks(map[bool]string{true: "1", false: "1 0x87 not you"}[first == nil]); r.box.Stats().Bytes != 0 {
				t.Error("bytes are left")
			}
			r.wantFacts(map[bool]string{true: "handled 2", false: "failed 2 refused refused"}[first == nil], "handled 3")
		})
	}
}

func TestInbox_DropsQoS0WhenTheQueueIsFull(t *testing.T) {
	inBubble(t, func(cfg *config) { cfg.QoS0Queue = 3 }, func(r *rig) {
		r.server.connect()
		first, open := gated(on("t", 0, 1)[0])
		r.send(first)
		synctest.Wait() // the handler has it
		r.send(on("t", 0, 2, 3, 4, 5, 6)...)
		r.send(on("t", 1, 7)...) // never dropped
		r.wantAcks()
		open()
		r.wantAcks("7")
		r.wantFacts("QoS 0 dropped 5", "QoS 0 dropped 6", "handled 1", "handled 2", "handled 3", "handled 4", "handled 7")
		if st := r.box.Stats(); st.DroppedQoS0 != 2 || st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Stop waits for handlers during the grace period. Unhandled messages are not acknowledged.
func TestInbox_Stop(t *testing.T) {
	for _, tt := range []struct {
		name         string
		grace, takes time.Duration
		acks         string
	}{
		{"a handler that finishes", 10 * time.Second, 5 * time.Second, "[1]"},
		{"a handler that takes too long", 2 * time.Second, 5 * time.Second, "[]"},
		{"at once", 0, 5 * time.Second, "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.server.connect()
				r.send(with(on("t", 1, 1)[0], func(ctx context.Context, _ *delivery) error {
					select {
					case <-time.After(tt.takes):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}))
				r.send(on("t", 1, 2)...) // queued after message 1, so not begun
				r.send(on("t", 0, 5)...)
				synctest.Wait()
				began := time.Now()
				if left, want := r.stop(tt.grace), 2-len(strings.Fields(strings.Trim(tt.acks, "[]"))); left != want {
					t.Errorf("Stop reports %d messages that were not handled, want %d", left, want)
				}
				if took := time.Since(began); took != min(tt.grace, tt.takes) {
					t.Errorf("Stop took %v", took)
				}
				r.server.connect()
				r.send(on("u", 1, 3)...) // pushed after Stop
				r.send(on("u", 0, 4)...)
				synctest.Wait()
				if n := r.box.Stats().DroppedQoS0; n != 2 {
					t.Errorf("%d messages of QoS 0 are dropped", n)
				}
				if got := fmt.Sprint(r.acked()); got != tt.acks {
					t.Errorf("acknowledged %v, want %v", got, tt.acks)
				}
				for _, f := range r.facts.take() {
					if f != "handled 1" && f != "QoS 0 dropped 4" && f != "QoS 0 dropped 5" {
						t.Errorf("reported %q", f)
					}
				}
			})
		})
	}
}

// A waiting retry does not delay Stop.
func TestInbox_StopInterruptsABackoff(t *testing.T) {
	inBubble(t, func(cfg *config) { cfg.Backoff = func(int) time.Duration { return time.Hour } }, func(r *rig) {
		r.server.connect()
		r.send(with(on("t", 1, 1)[0], func(context.Context, *delivery) error { return errors.New("no") }))
		synctest.Wait()
		began := time.Now()
		r.stop(time.Hour)
		if took := time.Since(began); took != 0 {
			t.Errorf("Stop took %v", took)
		}
		r.wantAcks()
	})
}

func TestInbox_RestoresTheOrder(t *testing.T) {
	numbered := func(n int, seq uint64) *message {
		return &message{Number: n, Topic: "t", QoS: 1, Bytes: 100, Stream: "s", Seq: seq, ID: fmt.Sprint(seq)}
	}
	for _, tt := range []struct {
		name  string
		late  ordering.LatePolicy
		seqs  []uint64 // 0: time passes, and the gap is given up
		facts string
		stats inbox.Stats
	}{
		{"swapped", ordering.DeliverLate, []uint64{1, 3, 2}, "[handled 1 handled 3 handled 2]", inbox.Stats{Handled: 3}},
		{"a duplicate", ordering.DeliverLate, []uint64{1, 1}, "[handled 1]", inbox.Stats{Handled: 1, Duplicates: 1}},
		{"a gap", ordering.DeliverLate, []uint64{1, 4, 0}, "[handled 1 gap s 2-3 handled 2]", inbox.Stats{Handled: 2, Gaps: 1}},
		{"two gaps", ordering.DeliverLate, []uint64{1, 3, 5, 0}, "[handled 1 gap s 2-2 handled 2 gap s 4-4 handled 3]", inbox.Stats{Handled: 3, Gaps: 2}},
		{"a late message", ordering.DeliverLate, []uint64{1, 3, 0, 2}, "[handled 1 gap s 2-2 handled 2 handled 4]", inbox.Stats{Handled: 3, Gaps: 1, OutOfOrder: 1}},
		{"a late message is dropped", ordering.DropLate, []uint64{1, 3, 0, 2}, "[handled 1 gap s 2-2 handled 2 late dropped 4]", inbox.Stats{Handled: 2, Gaps: 1, Late: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(cfg *config) {
				cfg.Ordering = &ordering.Options{GapTimeout: 3 * time.Second, Late: tt.late}
			}, func(r *rig) {
				r.server.connect()
				var want []string
				for i, seq := range tt.seqs {
					if seq == 0 {
						synctest.Wait()
						time.Sleep(4 * time.Second)
						continue
					}
					r.send(numbered(i+1, seq))
					want = append(want, fmt.Sprint(i+1))
				}
				r.wantAcks(want...)
				if got := fmt.Sprint(r.facts.take()); got != tt.facts {
					t.Errorf("got %v, want %v", got, tt.facts)
				}
				tt.stats.Received = uint64(len(want))
				if st := r.box.Stats(); st != tt.stats {
					t.Errorf("got %+v, want %+v", st, tt.stats)
				}
			})
		})
	}
	t.Run("functions of the application", func(t *testing.T) {
		var calls []string
		inBubble(t, func(cfg *config) {
			cfg.Workers = 1
			cfg.Position = func(m *message) (string, uint64, uint64, ordering.ID) {
				return m.Stream, 1 + m.Seq/10, m.Seq % 10, ordering.ID{}
			}
			cfg.Ordering = &ordering.Options{
				GapTimeout: time.Second,
				OnGap:      func(g ordering.Gap) { calls = append(calls, fmt.Sprint("gap ", g.From)); panic("boom") },
				OnEpoch:    func(_ string, from, to uint64) { calls = append(calls, fmt.Sprint("epoch ", from, to)) },
			}
		}, func(r *rig) {
			r.server.connect()
			r.send(numbered(1, 1), numbered(2, 3))
			time.Sleep(2 * time.Second)
			r.send(numbered(3, 11))
			r.wantAcks("1", "2", "3")
			got := r.facts.take()
			if len(got) != 5 || got[1] != "gap s 2-2" || !strings.Contains(got[2], "boom") || fmt.Sprint(calls) != "[gap 2 epoch 1 2]" {
				t.Errorf("reported %q, called %q", got, calls)
			}
		})
	})
	for name, cache := range map[string]dedupe.Cache{"without cache": nil, "with a cache": dedupe.NewMemory(dedupe.Options{})} {
		t.Run("a number of two messages "+name, func(t *testing.T) {
			inBubble(t, func(cfg *config) { cfg.Ordering, cfg.Dedupe = &ordering.Options{}, cache }, func(r *rig) {
				r.server.connect()
				var all []*message
				for i, id := range []string{"a", "b", "b", ""} {
					m := numbered(i+1, 1)
					m.ID = id
					all = append(all, m)
				}
				r.send(all...)
				r.wantAcks("1", "2", "3", "4")
				r.wantFacts("handled 1", "number reused 2", "handled 2", "number repeated 4")
				if st := r.box.Stats(); st.Duplicates != 1 || st.Handled != 2 || st.OutOfOrder != 1 || st.Reused != 1 || st.Repeated != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
	t.Run("stopped while messages are ready", func(t *testing.T) {
		inBubble(t, func(cfg *config) { cfg.Ordering, cfg.Workers = &ordering.Options{}, 1 }, func(r *rig) {
			release := make(chan struct{})
			second := numbered(3, 2)
			second.InHandler = func(context.Context, *delivery) error { <-release; return nil }
			r.server.connect()
			r.send(numbered(1, 1), numbered(2, 3), second)
			synctest.Wait() // 2 is handled, and 3 is ready
			time.AfterFunc(time.Second, func() { close(release) })
			if n := r.stop(time.Minute); n != 1 {
				t.Errorf("%d messages are left, want 1", n)
			}
			r.wantFacts("handled 1", "handled 3")
		})
	})
	t.Run("restored", func(t *testing.T) {
		asked := 0
		inBubble(t, func(cfg *config) {
			cfg.Ordering = &ordering.Options{}
			cfg.Restored = func(*message) (ordering.Position, bool) {
				asked++
				return ordering.Position{Epoch: 1, Last: 7, IDs: []ordering.ID{ordering.HashID("7")}}, asked == 1
			}
		}, func(r *rig) {
			r.server.connect()
			r.send(numbered(1, 7), numbered(2, 9), numbered(3, 8))
			r.wantAcks("1", "2", "3")
			r.wantFacts("handled 3", "handled 2")
		})
	})
}
