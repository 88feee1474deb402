package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// small is a Config whose store takes three messages.
func small(s *script, events *recorder, policy client.FullPolicy) client.Config {
	cfg := testConfig("c", events, s.dial)
	cfg.Store.WhenFull, cfg.Store.Options.Limits.MaxMessages = policy, 3
	return cfg
}

// wantDropped checks that a message was dropped for this cause, and that an event reported it.
func wantDropped(t *testing.T, events *recorder, d *client.Delivery, cause error) {
	t.Helper()
	var dropped *client.DroppedError
	if o := wantState(t, d, client.Dropped); !errors.As(o.Err, &dropped) || dropped.ID != d.ID || !errors.Is(o.Err, cause) || len(o.Err.Error()) < 40 {
		t.Errorf("the outcome is %+v, want a *DroppedError for %v", o, cause)
	}
	if list := eventsOf[client.MessageDropped](events); !slices.ContainsFunc(list, func(e client.MessageDropped) bool { return e.ID == d.ID && errors.Is(e.Cause, cause) }) {
		t.Errorf("no event tells that %v was dropped: %v", d.ID, list)
	}
}

func TestWhenFull_Reject(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, small(s, &recorder{}, client.Reject))
		for range 3 {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		var full *persistence.FullError
		if d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}); d != nil || !errors.As(err, &full) || full.Limit != "MaxMessages" {
			t.Errorf("Publish returned %v, %v", d, err)
		}
	})
}

func TestWhenFull_Block(t *testing.T) {
	for name, sequenced := range map[string]bool{"plain": false, "sequenced": true} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				cfg := small(s, &recorder{}, client.Block)
				cfg.Publishing.Sequenced = sequenced
				c := mustStart(t, cfg)
				for range 3 {
					publish(t, c, "t", "x", client.AtLeastOnce)
				}
				why := errors.New("why")
				ctx, cancel := context.WithCancelCause(t.Context())
				results := make(chan error, 5)
				for i := range 5 {
					go func() {
						own := t.Context()
						if i == 4 {
							own = ctx
						}
						_, err := c.Publish(own, client.Message{Topic: "t", QoS: 1})
						results <- err
					}()
				}
				synctest.Wait()
				if len(results) > 0 {
					t.Fatalf("Publish did not wait: %v", <-results)
				}
				cancel(why)
				if err := <-results; !errors.Is(err, why) {
					t.Errorf("Publish returned %v when its context ended", err)
				}
				p := s.accept(control.Connack{})
				p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
				must(t, <-results)
				synctest.Wait()
				if len(results) > 0 {
					t.Error("room for one let two in")
				}
				must(t, c.Close())
				for range 3 {
					if err := <-results; !errors.Is(err, client.ErrClosed) {
						t.Errorf("Publish returned %v when the client was closed", err)
					}
				}
				if n := c.Stats().Store.Accepted; n != 4 {
					t.Errorf("%d were accepted, want 4", n)
				}
			})
		})
	}
}

// MaxDiskBytes obeys Block as the other limits do: Publish waits until acknowledged messages free a
// segment.
func TestWhenFull_BlockWaitsForTheDisk(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.WhenFull, cfg.Store.Options.Limits.MaxDiskBytes = client.Block, 64<<10
		c := mustStart(t, cfg)
		accepted := make(chan error, 200)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer close(accepted)
			for range cap(accepted) {
				_, err := c.Publish(ctx, client.Message{Topic: "t", QoS: 1, Payload: make([]byte, 1000)})
				accepted <- err
			}
		}()
		synctest.Wait()
		full := len(accepted)
		if full < 20 || full > 64 {
			t.Fatalf("%d messages of 1,000 bytes fit into 64 KiB", full)
		}
		p := s.accept(control.Connack{})
		for range cap(accepted) {
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
			must(t, <-accepted)
		}
	})
}

// TestMessage_Block checks that a message with Block waits for room after WhenFull has been applied,
// and that other messages do not wait.
func TestMessage_Block(t *testing.T) {
	for _, policy := range []client.FullPolicy{client.Reject, client.DropOldest, client.DropNewest} {
		withScript(t, func(t *testing.T, s *script) {
			cfg := small(s, &recorder{}, policy)
			cfg.Store.Options.Limits.Reserved = 34 // one message
			c := mustStart(t, cfg)
			alarm := client.Message{Topic: "alarm", QoS: client.AtLeastOnce, Priority: client.High, Block: true}
			reading := client.Message{Topic: "reading", QoS: client.AtLeastOnce}
			for range 3 {
				if _, err := c.Publish(t.Context(), alarm); err != nil {
					t.Fatal(err)
				}
			}
			results := make(chan error, 1)
			why := errors.New("why")
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				_, err := c.Publish(ctx, alarm)
				results <- err
			}()
			synctest.Wait()
			if len(results) > 0 {
				t.Fatalf("policy %d: Publish did not wait: %v", policy, <-results)
			}
			if d, err := c.Publish(t.Context(), reading); policy == client.DropNewest {
				wantState(t, d, client.Dropped)
			} else if !errors.Is(err, persistence.ErrFull) {
				t.Errorf("policy %d: a message without Block: %v", policy, err)
			}
			cancel(why)
			if err := <-results; !errors.Is(err, why) {
				t.Errorf("policy %d: Publish returned %v when its context ended", policy, err)
			}
			go func() {
				_, err := c.Publish(t.Context(), alarm)
				results <- err
			}()
			p := s.accept(control.Connack{})
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
			must(t, <-results)
			must(t, c.Close())
		})
	}
	// With DropOldest, an alarm takes the room of telemetry and does not wait.
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustNew(t, small(s, &events, client.DropOldest))
		oldest := publish(t, c, "reading", "x", client.AtLeastOnce)
		for range 3 {
			if _, err := c.Publish(t.Context(), client.Message{Topic: "alarm", QoS: client.AtLeastOnce, Priority: client.High, Block: true}); err != nil {
				t.Fatal(err)
			}
		}
		wantDropped(t, &events, oldest, persistence.ErrFull)
	})
}

func TestWhenFull_DropNewest(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustNew(t, small(s, &events, client.DropNewest))
		var all []*client.Delivery
		for range 5 {
			all = append(all, publish(t, c, "t", "x", client.ExactlyOnce))
		}
		for i, d := range all {
			if i < 3 && d.Outcome().State != client.Pending {
				t.Errorf("message %d ended as %v", i, d.Outcome().State)
			} else if i >= 3 {
				wantDropped(t, &events, d, persistence.ErrFull)
			}
		}
		if st := c.Stats(); st.PolicyDrops != 2 || st.Store.DroppedNewest != 2 || st.Store.Accepted != 3 {
			t.Errorf("the counters are %+v", st)
		}
	})
}

func TestWhenFull_DropOldest(t *testing.T) {
	for name, sequenced := range map[string]bool{"plain": false, "sequenced": true} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				var c *client.Client
				cfg := small(s, &events, client.DropOldest)
				cfg.Publishing.Sequenced = sequenced
				var once sync.Once
				cfg.OnEvent = func(e client.Event) {
					events.add(e)
					if _, ok := e.(client.MessageDropped); ok { // an application may publish that, on the same topic
						once.Do(func() { publish(t, c, "t", "told", client.AtLeastOnce) })
					}
				}
				c = mustNew(t, cfg)
				alarm := send(t, c, "alarm", client.ExactlyOnce, client.Urgent)
				var all []*client.Delivery
				for range 4 { // and what the event publishes
					all = append(all, publish(t, c, "t", "x", client.ExactlyOnce))
				}
				for i, d := range all {
					if i < 3 {
						wantDropped(t, &events, d, persistence.ErrFull)
					}
				}
				if alarm.Outcome().State != client.Pending {
					t.Errorf("the alarm is %v", alarm.Outcome().State)
				}
				if st := c.Stats(); st.PolicyDrops != 3 || st.Store.DroppedOldest != 3 || st.Store.Dropped != 3 || st.Store.Pending != 3 {
					t.Errorf("the counters are %+v", st)
				}
				wantAccounts(t, c)
				_ = c.Close()
			})
		})
	}
}

// droppingStore is a store that drops the oldest message.
func droppingStore(max int) *persistence.Memory {
	return persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxMessages: max, WhenFull: persistence.DropOldest}})
}

// TestWhenFull_SentMessageIsNotDropped: the server may hold its packet identifier, and
// would take the next message under it for a repetition.
func TestWhenFull_SentMessageIsNotDropped(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := droppingStore(10)
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 4})
		connect(t, c)
		ids := map[string]uint16{}
		for i := range 4 {
			send(t, c, fmt.Sprint("s", i), client.ExactlyOnce, client.Normal)
			ids[fmt.Sprint("s", i)] = p.wantPublishes(false, fmt.Sprint("s", i))[0]
		}
		waiting := send(t, c, "w", client.ExactlyOnce, client.Normal)
		p.quiet()
		store = store.Reopen() // the process is killed
		_ = c.Close()
		wantState(t, waiting, client.Abandoned)
		cfg.Store.Custom = store
		c = mustNew(t, cfg)
		var all []*client.Delivery
		for i := range 20 {
			all = append(all, send(t, c, fmt.Sprint("n", i), client.ExactlyOnce, client.Normal))
		}
		for i, d := range all {
			if i < 14 {
				wantDropped(t, &events, d, persistence.ErrFull)
			} else if d.Outcome().State != client.Pending {
				t.Errorf("message %d ended as %v", i, d.Outcome().State)
			}
		}
		start(t, c)
		p = s.accept(control.Connack{SessionPresent: true})
		got, again := p.take(10)
		if want := "[+s0 +s1 +s2 +s3 n14 n15 n16 n17 n18 n19]"; fmt.Sprint(got) != want {
			t.Errorf("%v came, want %v", got, want)
		}
		for m, id := range ids {
			if again[m] != id {
				t.Errorf("%s was resent under %d, was %d", m, again[m], id)
			}
		}
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}); !errors.Is(err, persistence.ErrFull) {
			t.Errorf("with everything in flight Publish returned %v, want ErrFull", err)
		}
		wantAccounts(t, c)
	})
}

// TestWhenFull_DropOldestExactlyOnce: through cuts and kills, what was acknowledged came
// once and what was dropped never.
func TestWhenFull_DropOldestExactlyOnce(t *testing.T) {
	inBubble(t, mqtttest.Options{ReceiveMaximum: 20}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
		in := newInbox()
		receiver := mustStart(t, testConfig("r", &recorder{}, b.Dial))
		connect(t, receiver)
		must1(receiver.Subscribe(t.Context(), "#", client.ExactlyOnce, in))
		store := droppingStore(50)
		var all []*client.Delivery
		const lives, each = 5, 400
		for life := range lives {
			cfg := testConfig("c", &recorder{}, through(proxy))
			cfg.Store.Custom = store
			c := mustStart(t, cfg)
			for i := range each {
				d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 2, Payload: fmt.Append(nil, life*each+i)})
				for errors.Is(err, persistence.ErrFull) { // all of it may have been sent
					time.Sleep(time.Millisecond)
					d, err = c.Publish(t.Context(), client.Message{Topic: "t", QoS: 2, Payload: fmt.Append(nil, life*each+i)})
				}
				must(t, err)
				all = append(all, d)
				if i%20 == 0 {
					time.Sleep(time.Millisecond)
				}
				if i%90 == 89 {
					proxy.Cut()
				}
			}
			if life == lives-1 {
				must(t, c.Drain(t.Context()))
				break
			}
			next := store.Reopen()
			_ = c.Close()
			store = next
		}
		synctest.Wait()
		times := map[string]int{}
		for _, m := range in.messages() {
			times[m.ID.String()]++
		}
		acked, dropped := 0, 0
		for i, d := range all {
			n := times[d.ID.String()]
			switch state := d.Outcome().State; {
			case state == client.Acked && n == 1:
				acked++
			case state == client.Dropped && n == 0:
				dropped++
			case state == client.Abandoned && n <= 1:
			default:
				t.Errorf("message %d ended as %v and came %d times", i, state, n)
			}
		}
		if acked < 100 || dropped < 100 {
			t.Errorf("%d acknowledged, %d dropped: the test tests little", acked, dropped)
		}
	})
}

func TestConflate_KeepsNewestUnsentMessage(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Publishing.Sequenced, cfg.Connection.AckTimeout = true, time.Hour
		c := mustStart(t, cfg)
		conflate := func(topic, payload string, p client.Priority) *client.Delivery {
			d, err := c.Publish(t.Context(), client.Message{Topic: topic, Payload: []byte(payload), QoS: client.ExactlyOnce, Priority: p, Conflate: true})
			must(t, err)
			return d
		}
		p := s.accept(control.Connack{})
		connect(t, c)
		for i := range 30 { // marks are made ahead by now, if anything
			publish(t, c, "t", fmt.Sprint(i), client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		first := conflate("t", "sent", client.Normal)
		id := p.wantPublishes(false, "sent")[0]
		p.close()
		synctest.Wait()
		long := strings.Repeat("l", 5000)
		var gone, kept []*client.Delivery
		for i := range 10 {
			for _, topic := range []string{"t", "u", long} {
				d := conflate(topic, fmt.Sprint(topic[:1], i), client.Normal)
				if i < 9 {
					gone = append(gone, d)
				} else {
					kept = append(kept, d)
				}
			}
		}
		publish(t, c, "t", "plain", client.ExactlyOnce)
		conflate("u", "u-alarm", client.Urgent)
		p = s.accept(control.Connack{SessionPresent: true})
		if again := p.wantPublishes(true, "sent"); again[0] != id {
			t.Errorf("what was sent came under %d, was %d", again[0], id)
		}
		p.wantPublishes(false, "u-alarm", "t9")
		if m := p.nextPublish(); string(m.Payload) != "l9" || userProperty(m, client.PropSeq) != "" {
			t.Errorf("%q came with the number %q", m.Payload, userProperty(m, client.PropSeq))
		}
		if m := p.nextPublish(); string(m.Payload) != "plain" || userProperty(m, client.PropSeq) != "31" {
			t.Errorf("%q came with the number %q, want 31", m.Payload, userProperty(m, client.PropSeq))
		}
		if o := first.Outcome(); o.State != client.Pending {
			t.Errorf("what was sent ended as %v", o.State)
		}
		for _, d := range append(gone, kept[1]) {
			wantDropped(t, &events, d, client.ErrConflated)
		}
		if st := c.Stats(); st.PolicyDrops != 28 || st.Store.Dropped != 28 || st.Store.Conflated < 20 {
			t.Errorf("the counters are %+v, want 28", st)
		}
		wantAccounts(t, c)
	})
}

// TestMessageDropped_NamesPriorityAndLimit checks the events and the log lines of dropped messages.
// Telemetry and alarms have separate lines, so telemetry cannot hide an alarm in a summary.
func TestMessageDropped_NamesPriorityAndLimit(t *testing.T) {
	for limit, limits := range map[string]persistence.Limits{
		"MaxMessages":  {MaxMessages: 3},
		"MaxBytes":     {MaxBytes: 3000},
		"MaxDiskBytes": {MaxDiskBytes: 64 << 10},
	} {
		withScript(t, func(t *testing.T, s *script) {
			lines := defaultLog(t)
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Store.WhenFull, cfg.Store.Options.Limits = client.DropOldest, limits
			cfg.Logger = nil
			c := mustNew(t, cfg)
			add := func(p client.Priority) {
				t.Helper()
				_, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1, Priority: p, Payload: make([]byte, 700)})
				must(t, err)
			}
			for len(lines.of("message-dropped")) == 0 {
				add(client.Normal)
			}
			if n := len(lines.of("urgent-dropped")); n > 0 {
				t.Errorf("%s: %d lines about alarms", limit, n)
			}
			for len(lines.of("urgent-dropped")) == 0 {
				add(client.High)
			}
			for kind, priority := range map[string]client.Priority{"message-dropped": client.Normal, "urgent-dropped": client.High} {
				if l := lines.of(kind)[0]; l.attrs["priority"] != priority.String() || l.attrs["limit"] != limit {
					t.Errorf("%s: the line is %v", limit, l)
				}
				synctest.Wait()
				if !slices.ContainsFunc(eventsOf[client.MessageDropped](&events), func(e client.MessageDropped) bool { return e.Priority == priority && e.Limit == limit }) {
					t.Errorf("%s: no event for priority %v: %v", limit, priority, eventsOf[client.MessageDropped](&events))
				}
			}
			if st := c.Stats(); st.PolicyDrops != st.Store.DroppedOldest {
				t.Errorf("%s: %d drops in Stats, %d in the store", limit, st.PolicyDrops, st.Store.DroppedOldest)
			}
		})
	}
}
