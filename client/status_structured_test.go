package client_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// structured is a client with a structured status topic that it does not listen
// to.
func structured(change ...func(*client.Status)) func(*client.Config) {
	return func(cfg *client.Config) {
		cfg.Presence.Status = &client.Status{Topic: "status/c", Structured: true, Version: "1.4.2", Delay: 5 * time.Second, NoCorrection: true}
		for _, f := range change {
			f(cfg.Presence.Status)
		}
	}
}

// parse is what a payload says.
func parse(t testing.TB, payload []byte) presence.Status {
	t.Helper()
	s, err := presence.Parse(payload)
	if err != nil {
		t.Fatalf("%q: %v", payload, err)
	}
	return s
}

// nextWord is the next packet, which must be a word for this reason.
func (p *peer) nextWord(want string) (wire.Publish, presence.Status) {
	p.t.Helper()
	m := p.nextPublish()
	s := parse(p.t, m.Payload)
	if m.Topic != "status/c" || m.QoS != 1 || !m.Retain || s.Reason != want {
		p.t.Fatalf("%q came on %s, QoS %d, want one for reason %q", m.Payload, m.Topic, m.QoS, want)
	}
	return m, s
}

func (p *peer) accepts(m wire.Publish) { p.ack(wire.PUBACK, m.PacketID, 0, "") }

func TestStatus_StructuredPayload(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		structured(func(s *client.Status) { s.Heartbeat = 1500 * time.Millisecond })(&cfg)
		c := mustStart(t, cfg)
		boot := c.BootID()
		if boot.IsZero() || boot == mustNew(t, cfg).BootID() {
			t.Error("two clients are of one boot")
		}
		for life := range 2 {
			time.Sleep(time.Second)
			p := s.accept(control.Connack{SessionPresent: life > 0})
			if got, want := parse(t, p.connect.Will.Payload), (presence.Status{State: presence.Offline, Boot: boot, Reason: "will", Version: "1.4.2"}); got != want {
				t.Errorf("the will is %+v, want %+v", got, want)
			}
			m, got := p.nextWord("birth")
			want := presence.Status{State: presence.Online, Boot: boot, Time: time.Now().UTC(), Reason: "birth", Version: "1.4.2", Interval: 2 * time.Second}
			if got != want {
				t.Errorf("the birth is %+v, want %+v", got, want)
			}
			p.accepts(m)
			if life == 0 {
				synctest.Wait()
				p.close()
				continue
			}
			time.Sleep(time.Second)
			done := make(chan error, 1)
			go func() { done <- c.Close() }()
			m, got = p.nextWord("close")
			want = presence.Status{State: presence.Offline, Boot: boot, Time: time.Now().UTC(), Reason: "close", Version: "1.4.2"}
			if got != want {
				t.Errorf("the offline status is %+v, want %+v", got, want)
			}
			p.accepts(m)
			must(t, <-done)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	publishing(t, structured(func(s *client.Status) { s.Heartbeat = 10 * time.Second }), control.Connack{}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		began := time.Now()
		m, _ := p.nextWord("birth")
		time.Sleep(4 * time.Second) // the answer is slow; the time counts from the word
		p.accepts(m)
		for i := 1; i <= 3; i++ {
			m, s := p.nextWord("heartbeat")
			if at := time.Since(began); at != time.Duration(i)*10*time.Second || !s.Time.Equal(time.Now()) {
				t.Errorf("heartbeat %d came after %v and says %v", i, at, s.Time)
			}
			if i == 3 { // its answer is late: the next two are left out
				time.Sleep(25 * time.Second)
				p.quiet()
			}
			p.accepts(m)
		}
		m, _ = p.nextWord("heartbeat")
		if at := time.Since(began); at != 60*time.Second {
			t.Errorf("after an answer that was late, a heartbeat came after %v, want a minute", at)
		}
		p.accepts(m)
		synctest.Wait()
		if got, want := c.Stats().Status, (client.StatusStats{Births: 1, Heartbeats: 4, Skipped: 2}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		if n := len(eventsOf[client.StatusFailed](events)); n != 0 {
			t.Errorf("%d StatusFailed events", n)
		}
	})
}

// TestHeartbeat_WaitsForReceiveMaximum: while the server's Receive Maximum leaves none, one
// waits, and others are left out without a word.
func TestHeartbeat_WaitsForReceiveMaximum(t *testing.T) {
	publishing(t, structured(func(s *client.Status) { s.Heartbeat = 10 * time.Second }), control.Connack{ReceiveMaximum: 1}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		m, _ := p.nextWord("birth")
		p.accepts(m)
		synctest.Wait()
		publish(t, c, "t", "x", 1)
		m = p.nextPublish()
		time.Sleep(35 * time.Second)
		p.quiet()
		p.accepts(m)
		m, _ = p.nextWord("heartbeat")
		p.accepts(m)
		synctest.Wait()
		if got, want := c.Stats().Status, (client.StatusStats{Births: 1, Heartbeats: 1, Skipped: 2}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		if n := len(eventsOf[client.StatusFailed](events)); n != 0 {
			t.Errorf("%d StatusFailed events", n)
		}
	})
}

// TestHeartbeat_DetectsStuckServer: a heartbeat without an answer ends the
// connection after AckTimeout, and those that are answered slowly do not.
func TestHeartbeat_DetectsStuckServer(t *testing.T) {
	slow := func(cfg *client.Config) {
		structured(func(s *client.Status) { s.Heartbeat = time.Second })(cfg)
		cfg.Connection.AckTimeout = 4 * time.Second
	}
	publishing(t, slow, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		m, _ := p.nextWord("birth")
		for range 30 {
			time.Sleep(900 * time.Millisecond)
			p.accepts(m)
			m, _ = p.nextWord("heartbeat")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if c.Stats().Connections != 1 || c.Connected() {
			t.Errorf("a server that answers no heartbeat stays: %d connections", c.Stats().Connections)
		}
	})
}

func TestStatus_RetriesBirthAfterQuotaExceeded(t *testing.T) {
	publishing(t, structured(), control.Connack{}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		began := time.Now()
		var at []time.Duration
		for range 9 {
			m, _ := p.nextWord("birth")
			at = append(at, time.Since(began))
			p.ack(wire.PUBACK, m.PacketID, wire.ReasonQuotaExceeded, "")
		}
		sec := time.Second
		if want := []time.Duration{0, sec, 3 * sec, 7 * sec, 15 * sec, 31 * sec, 63 * sec, 123 * sec, 183 * sec}; !slices.Equal(at, want) {
			t.Errorf("births came after %v, want %v", at, want)
		}
		m, _ := p.nextWord("birth")
		p.accepts(m)
		time.Sleep(time.Hour)
		p.quiet()
		if n := len(eventsOf[client.StatusFailed](events)); n != 9 {
			t.Errorf("%d StatusFailed events, want 9", n)
		}
		if got, want := c.Stats().Status, (client.StatusStats{Births: 10, Failed: 9}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// A birth that is forbidden is published again with backoff: an access rule may be wrong for a while.
// No heartbeat and no correction go before it.
func TestStatus_RetriesForbiddenBirth(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		events := &recorder{}
		cfg := testConfig("c", events, s.dial)
		structured(func(s *client.Status) { s.Heartbeat, s.NoCorrection = time.Second, false })(&cfg)
		mustStart(t, cfg)
		p := s.accept(control.Connack{})
		m, _ := p.nextWord("birth")
		p.grantSubscribe()
		p.ack(wire.PUBACK, m.PacketID, wire.ReasonNotAuthorized, "")
		p.publish(wire.Publish{Topic: "status/c", Payload: []byte("offline")})
		for _, delay := range []time.Duration{1, 2, 4} {
			began := time.Now()
			m, _ = p.nextWord("birth")
			if got := time.Since(began); got != delay*time.Second {
				t.Errorf("the birth was resent after %v, want %v", got, delay*time.Second)
			}
			if delay < 4 {
				p.ack(wire.PUBACK, m.PacketID, wire.ReasonNotAuthorized, "")
			}
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		p.nextWord("heartbeat")
		if n := len(eventsOf[client.StatusFailed](events)); n != 3 {
			t.Errorf("%d StatusFailed events, want 3", n)
		}
	})
}

func TestStatus_LeaveToWill(t *testing.T) {
	for name, end := range map[string]func(*client.Client) error{
		"Close": (*client.Client).Close,
		"Drain": func(c *client.Client) error { return c.Drain(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				cfg := testConfig("c", &recorder{}, b.Dial)
				structured(func(s *client.Status) { s.LeaveToWill = true })(&cfg)
				store := persistence.NewMemory(persistence.Options{})
				cfg.Store.Custom = store
				state := func() string {
					synctest.Wait()
					got, _ := b.Retained("status/c")
					s := parse(t, got)
					return s.State.String() + " " + s.Reason
				}
				c := mustStart(t, cfg)
				connect(t, c)
				synctest.Wait()
				must(t, end(c))
				time.Sleep(4 * time.Second)
				if got := state(); got != "online birth" {
					t.Errorf("before the delay has passed it says %s", got)
				}
				cfg.Store.Custom = store.Reopen()
				c = mustStart(t, cfg) // back in time, with the session: no offline
				connect(t, c)
				time.Sleep(10 * time.Second)
				if got := state(); got != "online birth" || b.Stats().WillsPublished != 0 {
					t.Errorf("after a restart it says %s, %d wills", got, b.Stats().WillsPublished)
				}
				must(t, end(c))
				time.Sleep(6 * time.Second)
				if got := state(); got != "offline will" {
					t.Errorf("after the delay it says %s", got)
				}
			})
		})
	}
}

func TestStatus_AtSessionEnd(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, through(p))
		cfg.Session.Expiry = time.Minute
		structured(func(s *client.Status) { s.AtSessionEnd, s.Delay = true, 0 })(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		synctest.Wait()
		p.Refuse(true)
		p.Cut()
		said := func() presence.State {
			synctest.Wait()
			got, _ := b.Retained("status/c")
			return parse(t, got).State
		}
		time.Sleep(59 * time.Second)
		if got := said(); got != presence.Online {
			t.Errorf("while the session stands it says %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := said(); got != presence.Offline || b.Session("c") {
			t.Errorf("when the session has ended it says %v (session: %v)", got, b.Session("c"))
		}
	})
	for expiry, want := range map[time.Duration]uint32{time.Hour: 1<<32 - 1, client.NoSession: 0} {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Session.Expiry = expiry
			structured(func(s *client.Status) { s.AtSessionEnd, s.Delay = true, 0 })(&cfg)
			mustStart(t, cfg)
			if w := s.accept(control.Connack{}).connect.Will; w == nil || w.Delay != want {
				t.Errorf("with a session expiry of %v the will is %+v", expiry, w)
			}
		})
	}
}

// An aborted client publishes no status, and nothing that it receives later makes it
// publish one: the server publishes the will.
func TestStatus_AbortLeavesOfflineToTheWill(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, b.Dial)
		structured(func(s *client.Status) { s.NoCorrection = false })(&cfg)
		c := mustNew(t, cfg)
		ctx, cancel := context.WithCancelCause(t.Context())
		must(t, c.Start(ctx))
		connect(t, c)
		synctest.Wait()
		cancel(client.ErrAbort)
		<-c.Done()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		got, _ := b.Retained("status/c")
		if s := parse(t, got); s.State != presence.Offline || s.Reason != "will" || s.Boot != c.BootID() {
			t.Errorf("it says %+v", s)
		}
	})
}
