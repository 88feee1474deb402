package client_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// What is to become of a message in flight when its session is lost, from one
// process to the next.

// policed publishes a message with a SessionLostPolicy; its payload names both.
func policed(t *testing.T, c *client.Client, name string, qos client.QoS, policy client.SessionLostPolicy) *client.Delivery {
	t.Helper()
	payload := fmt.Sprintf("%s %d %d", name, qos, policy)
	d, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte(payload), QoS: qos, OnSessionLost: policy})
	must(t, err)
	return d
}

// wantLost wants that the message is given up with its session, by now.
func wantLost(t *testing.T, d *client.Delivery) {
	t.Helper()
	synctest.Wait()
	if o := d.Outcome(); o.State != client.Dropped || !errors.Is(o.Err, client.ErrSessionLost) {
		t.Errorf("the message ended as %+v", o)
	}
}

// inFlight has a process send a message of each policy and QoS, with the last QoS 2
// message released, and accept two more that it does not send. It returns how to
// go on with its store, and what was sent.
func inFlight(t *testing.T, s *script, cfg client.Config, o persistence.Options, kill bool) (store *persistence.Memory, sent []string) {
	t.Helper()
	store = persistence.NewMemory(o)
	cfg.Store.Custom = store
	c := mustStart(t, cfg)
	p := s.accept(control.Connack{})
	for qos := client.AtLeastOnce; qos <= client.ExactlyOnce; qos++ {
		for policy := range client.FailInFlight + 1 {
			policed(t, c, "sent", qos, policy)
			m := p.nextPublish()
			sent = append(sent, string(m.Payload))
			if qos == client.ExactlyOnce && policy == client.FailInFlight {
				p.ack(wire.PUBREC, m.PacketID, 0, "")
				p.nextAck(wire.PUBREL)
			}
		}
	}
	p.close()
	synctest.Wait()
	for policy := client.Republish; policy <= client.FailInFlight; policy++ {
		policed(t, c, "waits", client.AtLeastOnce, policy)
	}
	if !kill {
		must(t, c.Close())
		return store.Reopen(), sent
	}
	next := store.Reopen() // from here on the process does nothing that lasts
	client.Abort(c, errors.New("killed"))
	<-c.Done()
	return next, sent
}

// The choice is stored with the message: a later process that finds the session lost
// does to each what was said when it was accepted, whatever end the first one had.
// What says nothing is at the mercy of the configuration that there is by then.
func TestSessionLost_PolicySurvivesRestart(t *testing.T) {
	for _, config := range []client.SessionLostPolicy{client.AsConfigured, client.Republish, client.FailInFlight} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("config %d, kill %v", config, kill), func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					var events recorder
					store, sent := inFlight(t, s, testConfig("c", &recorder{}, s.dial), persistence.Options{Retention: persistence.Retention{MaxReceipts: 100}}, kill)
					before := store.Stats()
					cfg := testConfig("c", &events, s.dial)
					cfg.Store.Custom, cfg.Session.OnLost = store, config
					c := mustNew(t, cfg)
					policed(t, c, "new", client.AtLeastOnce, client.FailInFlight)
					start(t, c)
					p := s.accept(control.Connack{SessionPresent: false})
					var want, got []string
					failed := 0
					for _, payload := range sent {
						var qos, policy int
						_, err := fmt.Sscanf(payload, "sent %d %d", &qos, &policy)
						must(t, err)
						if p := client.SessionLostPolicy(policy); p == client.FailInFlight || p == client.AsConfigured && config == client.FailInFlight {
							failed++
						} else {
							want = append(want, payload)
						}
					}
					want = append(want, "waits 1 1", "waits 1 2", "new 1 2")
					for range want {
						m := p.nextPublish()
						if got = append(got, string(m.Payload)); m.Dup {
							t.Errorf("%q has DUP in a new session", m.Payload)
						}
					}
					p.quiet()
					if !slices.Equal(got, want) {
						t.Errorf("published were %q, want %q", got, want)
					}
					if e := eventsOf[client.SessionLost](&events); len(e) != 1 || lostCounts(e[0]) != ([3]int{len(sent), len(sent) - failed, failed}) {
						t.Errorf("told: %+v, want %d of %d failed", e, failed, len(sent))
					}
					refused := eventsOf[client.MessageRefused](&events)
					for _, e := range refused {
						r, ok, err := c.Receipt(t.Context(), e.ID)
						if must(t, err); !ok || r.Outcome.State != client.Dropped || e.ID.IsZero() || !errors.Is(e.Err, client.ErrSessionLost) {
							t.Errorf("told %+v, its receipt is %+v, %v", e, r, ok)
						}
					}
					if n := c.Stats().Store.Dropped - before.Dropped; len(refused) != failed || n != uint64(failed) {
						t.Errorf("%d events, %d dropped, want %d", len(refused), n, failed)
					}
					wantAccounts(t, c)
				})
			})
		}
	}
}

// Marks go ahead of what is sent, after a kill even of what was accepted: whatever of
// the killed process may have been sent fails, and nothing that this one accepted.
func TestSessionLost_KeepsMessagesOfNewProcess(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store, _ := inFlight(t, s, testConfig("c", &recorder{}, s.dial), persistence.Options{}, true)
		must(t, store.SetSent(client.Normal, store.LastSeq()+10))
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom, cfg.Session.OnLost = store, client.FailInFlight
		c := mustNew(t, cfg)
		policed(t, c, "new", client.AtLeastOnce, client.FailInFlight)
		start(t, c)
		p := s.accept(control.Connack{SessionPresent: false})
		for _, want := range []string{"sent 1 1", "sent 2 1", "waits 1 1", "new 1 2"} {
			if m := p.nextPublish(); string(m.Payload) != want {
				t.Errorf("%q was published, want %q", m.Payload, want)
			}
		}
		p.quiet()
		if n := c.Stats().Store.Dropped; n != 5 {
			t.Errorf("%d dropped, want 5", n)
		}
	})
}

// resetting is a store that does something instead of, or after, a reset.
type resetting struct {
	persistence.Store
	reset func(clientID string) error
}

func (s *resetting) ResetSession(clientID string) error { return s.reset(clientID) }

// A process that finds the session lost may die at any moment of that: before it is
// durable the next one finds the same, and right after it the outcome.
func TestSessionLost_CrashDuringReset(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("durable %v", durable), func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				cfg := testConfig("c", &recorder{}, s.dial)
				store, sent := inFlight(t, s, cfg, persistence.Options{}, true)
				next := (*persistence.Memory)(nil)
				cfg.Store.Custom = &resetting{store, func(clientID string) error {
					if durable {
						must(t, store.ResetSession(clientID))
					}
					next = store.Reopen() // from here on the process does nothing that lasts
					return persistence.ErrClosed
				}}
				c := mustStart(t, cfg)
				s.accept(control.Connack{SessionPresent: false}).ended()
				client.Abort(c, errors.New("killed"))
				<-c.Done()

				cfg.Store.Custom = next
				c = mustStart(t, cfg)
				p := s.accept(control.Connack{SessionPresent: false})
				for _, want := range []string{sent[0], sent[1], sent[3], sent[4], "waits 1 1", "waits 1 2"} {
					if m := p.nextPublish(); string(m.Payload) != want {
						t.Errorf("%q was published, want %q", m.Payload, want)
					}
				}
				p.quiet()
				if n := c.Stats().Store.Dropped; n != 2 {
					t.Errorf("%d dropped, want 2", n)
				}
				wantAccounts(t, c)
			})
		})
	}
}

// If the reset of the session fails, the client reports nothing until the reset has succeeded. Then it
// reports all messages.
func TestSessionLost_IsReportedAfterDurableReset(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		store := persistence.NewMemory(persistence.Options{})
		fail := false
		cfg.Store.Custom = &resetting{store, func(clientID string) error {
			if fail {
				return errors.New("the disk does not answer")
			}
			return store.ResetSession(clientID)
		}}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		failing := policed(t, c, "sent", client.AtLeastOnce, client.FailInFlight)
		policed(t, c, "sent", client.AtLeastOnce, client.Republish)
		p.nextPublish()
		p.nextPublish()
		fail = true
		p.close()
		s.accept(control.Connack{SessionPresent: false}).ended()
		synctest.Wait()
		if o := failing.Outcome(); o.State != client.Pending || len(eventsOf[client.SessionLost](&events)) > 0 {
			t.Errorf("told before it was durable: %+v", o)
		}
		fail = false
		p = s.accept(control.Connack{SessionPresent: true}) // the one of the failed attempt
		wantLost(t, failing)
		if m := p.nextPublish(); string(m.Payload) != "sent 1 1" {
			t.Errorf("%q was published", m.Payload)
		}
		p.quiet()
		if e := eventsOf[client.SessionLost](&events); len(e) != 1 || lostCounts(e[0]) != ([3]int{2, 1, 1}) || e[0].Server != "mqtt://server:1883" {
			t.Errorf("told: %+v", e)
		}
	})
}

// A store that cannot be read does not say which messages are to fail: then the
// session is not made void, and the next connection tries again.
func TestSessionLost_WaitsForTheDisk(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		store, sent := inFlight(t, s, cfg, persistence.Options{}, true)
		broken := &breakingStore{Store: store}
		cfg.Store.Custom = broken
		c := mustStart(t, cfg)
		synctest.Wait() // the send loop has looked for expired messages
		broken.times = 1
		s.accept(control.Connack{SessionPresent: false}).ended()
		if store.Sent(client.Normal) == 0 || broken.times > 0 {
			t.Fatal("the session is void already")
		}
		p := s.accept(control.Connack{SessionPresent: true})
		if m := p.nextPublish(); string(m.Payload) != sent[0] || m.Dup {
			t.Errorf("%q came, DUP %v", m.Payload, m.Dup)
		}
		synctest.Wait()
		if n := c.Stats().Store.Dropped; n != 2 {
			t.Errorf("%d dropped, want 2", n)
		}
	})
}

// A session that was resumed once and is lost then had in flight what this process
// sent again, and what only the one before it did.
func TestSessionLost_AfterResume(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store, sent := inFlight(t, s, testConfig("c", &recorder{}, s.dial), persistence.Options{}, true)
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: 3}) // besides the PUBREL two have room
		for range 3 {
			<-p.got
		}
		p.close()
		p = s.accept(control.Connack{SessionPresent: false})
		for _, want := range []string{sent[0], sent[1], sent[3], sent[4], "waits 1 1", "waits 1 2"} {
			if m := p.nextPublish(); string(m.Payload) != want || m.Dup {
				t.Errorf("%q was published, want %q", m.Payload, want)
			}
		}
		p.quiet()
		if e := eventsOf[client.SessionLost](&events); len(e) != 1 || lostCounts(e[0]) != ([3]int{len(sent), 4, 2}) {
			t.Errorf("told: %+v", e)
		}
		// What is in flight now is in flight in the new session only.
		p.close()
		p = s.accept(control.Connack{SessionPresent: false, ReceiveMaximum: 1}) // one has room
		p.nextPublish()
		p.quiet()
		p.close()
		s.accept(control.Connack{SessionPresent: false})
		synctest.Wait()
		if e := eventsOf[client.SessionLost](&events); len(e) != 3 || lostCounts(e[1]) != ([3]int{6, 5, 1}) || lostCounts(e[2]) != ([3]int{1, 1, 0}) {
			t.Errorf("told: %+v", e)
		}
		wantAccounts(t, c)
	})
}

// Whoever takes the session over makes an end of it, also for the next process.
func TestTakeover_FailsMessagesInFlight(t *testing.T) {
	for name, policy := range map[string]client.TakeoverPolicy{"stop": client.TakeoverStop, "back off": client.TakeoverBackOff} {
		for _, restart := range []bool{false, true} {
			if policy == client.TakeoverStop && !restart {
				continue
			}
			t.Run(fmt.Sprintf("%s, restart %v", name, restart), func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					var events recorder
					cfg := testConfig("c", &events, s.dial)
					store := persistence.NewMemory(persistence.Options{})
					cfg.Store.Custom, cfg.Session.OnTakeover = store, policy
					c := mustStart(t, cfg)
					p := s.accept(control.Connack{})
					failing := policed(t, c, "sent", client.ExactlyOnce, client.FailInFlight)
					policed(t, c, "sent", client.ExactlyOnce, client.Republish)
					p.nextPublish()
					p.nextPublish()
					p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonSessionTakenOver}))
					wantLost(t, failing)
					if restart {
						_ = c.Close()
						cfg.Store.Custom = store.Reopen()
						c = mustStart(t, cfg)
					}
					p = s.accept(control.Connack{SessionPresent: false})
					if m := p.nextPublish(); string(m.Payload) != "sent 2 1" {
						t.Errorf("%q was published", m.Payload)
					}
					p.quiet()
					if e := eventsOf[client.SessionLost](&events); !restart && (len(e) != 1 || lostCounts(e[0]) != ([3]int{2, 1, 1})) {
						t.Errorf("told: %+v", e)
					}
					wantAccounts(t, c)
				})
			})
		}
	}
}

// A dead letter that is published again keeps its choice.
func TestRedeliver_KeepsSessionLostPolicy(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.DeadLetters, cfg.Publishing.Refusals = 1, finalRefusals
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		policed(t, c, "sent", client.AtLeastOnce, client.FailInFlight)
		p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonNotAuthorized, "")
		synctest.Wait()
		for letter, err := range c.DeadLetters() {
			must(t, err)
			d, err := c.Redeliver(t.Context(), letter)
			must(t, err)
			p.nextPublish()
			p.close()
			p = s.accept(control.Connack{SessionPresent: false})
			wantLost(t, d)
			p.quiet()
			return
		}
		t.Error("there is no dead letter")
	})
}

// doneFails is a store that fails to drop a few times.
type doneFails struct {
	persistence.Store
	times int
}

func (s *doneFails) Done(seq uint64, o persistence.Result) error {
	if o.Kind == persistence.Dropped && s.times > 0 {
		s.times--
		return errVault
	}
	return s.Store.Done(seq, o)
}

// A store that fails while a session is discarded reports each message once.
func TestSessionLost_ReportsEachFailureOnce(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Store.Custom = &doneFails{persistence.NewMemory(persistence.Options{}), 1}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		d := policed(t, c, "x", client.AtLeastOnce, client.FailInFlight)
		p.nextPublish()
		p.close()
		s.accept(control.Connack{}).ended()
		s.accept(control.Connack{}).quiet()
		wantLost(t, d)
		if e := eventsOf[client.SessionLost](&events); len(e) != 1 || e[0].Failed != 1 || e[0].InFlight != 1 {
			t.Errorf("told %+v", e)
		}
		if e := eventsOf[client.MessageRefused](&events); len(e) != 1 {
			t.Errorf("told %+v", e)
		}
	})
}

// slowReader is a store that gives whoever goes through all of it, first of all the
// drainer, the first message only when the session is void.
type slowReader struct {
	persistence.Store
	first sync.Once
	void  chan struct{}
}

func (s *slowReader) Next(at *persistence.Cursor, e *persistence.Entry) (bool, error) {
	all := *at == persistence.Cursor{}
	ok, err := s.Store.Next(at, e)
	if ok && all {
		s.first.Do(func() { <-s.void })
	}
	return ok, err
}

func (s *slowReader) ResetSession(clientID string) error {
	defer close(s.void)
	return s.Store.ResetSession(clientID)
}

// A message that has expired, and that was in flight when the session was lost, has exactly one of the
// two outcomes.
func TestSessionLost_ExpiredMessageHasOneOutcome(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		store := persistence.NewMemory(persistence.Options{})
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom, cfg.Session.OnLost = store, client.FailInFlight
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		expiring(t, c, client.AtLeastOnce, 10*time.Second)
		p.nextPublish()
		next := store.Reopen() // from here on the process does nothing that lasts
		client.Abort(c, errors.New("killed"))
		<-c.Done()
		time.Sleep(time.Minute)

		cfg.Store.Custom, cfg.OnEvent = &slowReader{Store: next, void: make(chan struct{})}, events.add
		c = mustStart(t, cfg)
		s.accept(control.Connack{})
		synctest.Wait()
		lost, over := eventsOf[client.MessageRefused](&events), eventsOf[client.MessageExpired](&events)
		if len(lost)+len(over) != 1 {
			t.Errorf("told %+v and %+v", lost, over)
		}
		wantAccounts(t, c)
	})
}

// lostCounts returns the counts of a SessionLost.
func lostCounts(e client.SessionLost) [3]int { return [3]int{e.InFlight, e.Republished, e.Failed} }
