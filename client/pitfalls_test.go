package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// The tests named TestPitfall recreate, one by one, what the wrapped library
// does on its own that would break mooring's promises: the same situation, the
// right outcome. Those of the publish path are in this file.

func TestPitfall01_ServerLosesSession(t *testing.T) {
	lost := func(t *testing.T, policy client.SessionLostPolicy, expiry time.Duration, test func(s *script, events *recorder, once, exactly *client.Delivery)) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Session.OnLost, cfg.Session.Expiry = policy, expiry
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{})
			once, exactly := publish(t, c, "t", "1", client.AtLeastOnce), publish(t, c, "t", "2", client.ExactlyOnce)
			p.nextPublish()
			p.nextPublish()
			p.close()
			test(s, &events, once, exactly)
			wantAccounts(t, c)
			if pending := c.Stats().Store.Pending; pending != 0 {
				t.Errorf("%d messages are pending, want none", pending)
			}
		})
	}
	republished := func(s *script, _ *recorder, once, exactly *client.Delivery) {
		p := s.accept(control.Connack{SessionPresent: false})
		for _, d := range []*client.Delivery{once, exactly} {
			m := p.nextPublish()
			if m.Dup {
				s.t.Error("DUP is set in a new session, where nothing was sent before")
			}
			if id := userProperty(m, client.PropID); id != d.ID.String() {
				s.t.Errorf("the message came as %q, want its own ID %v", id, d.ID)
			}
			if m.QoS == 1 {
				p.ack(wire.PUBACK, m.PacketID, 0, "")
				continue
			}
			p.ack(wire.PUBREC, m.PacketID, 0, "")
			p.nextAck(wire.PUBREL)
			p.ack(wire.PUBCOMP, m.PacketID, 0, "")
		}
		wantState(s.t, once, client.Acked)
		wantState(s.t, exactly, client.Acked)
	}
	t.Run("republish", func(t *testing.T) { lost(t, client.Republish, 0, republished) })
	t.Run("session expiry 0", func(t *testing.T) { lost(t, client.Republish, client.NoSession, republished) })
	t.Run("fail", func(t *testing.T) {
		lost(t, client.FailInFlight, 0, func(s *script, events *recorder, once, exactly *client.Delivery) {
			p := s.accept(control.Connack{SessionPresent: false})
			for _, d := range []*client.Delivery{once, exactly} {
				if o := wantState(t, d, client.Dropped); !errors.Is(o.Err, client.ErrSessionLost) {
					t.Errorf("the error is %v, want ErrSessionLost", o.Err)
				}
			}
			p.quiet()
			if n := len(eventsOf[client.MessageRefused](events)); n != 2 {
				t.Errorf("%d MessageRefused events, want one for each", n)
			}
			if got := eventsOf[client.SessionLost](events); len(got) != 1 || got[0].InFlight != 2 {
				t.Errorf("SessionLost events are %v, want one with 2 in flight", got)
			}
		})
	})
}

func TestPitfall02_QoS1RefusalIsAnOutcome(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Publishing.Refusals = finalRefusals // by default it is sent again
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		for _, code := range []byte{wire.ReasonNotAuthorized, wire.ReasonQuotaExceeded} {
			d := publish(t, c, "t", "x", client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, code, "because")
			wantRefused(t, d, code, "because")
		}
		if n := len(eventsOf[client.MessageRefused](&events)); n != 2 {
			t.Errorf("%d MessageRefused events, want 2", n)
		}
		if got := c.Stats().Store.Refused; got != 2 {
			t.Errorf("%d refused in the accounts, want 2", got)
		}
	})
}

func wantRefused(t *testing.T, d *client.Delivery, code byte, text string) {
	t.Helper()
	_, err := d.Wait(t.Context())
	var refused *client.RefusedError
	if !errors.As(err, &refused) || refused.Code != code || refused.Reason != text {
		t.Errorf("Wait returned %v, want a *RefusedError with 0x%02X and %q", err, code, text)
	}
	if o := d.Outcome(); o.State != client.Refused || o.Reason != code {
		t.Errorf("the outcome is %+v, want refused with 0x%02X", o, code)
	}
}

func TestPitfall03_QoS2RefusalIsAnError(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Publishing.Refusals = finalRefusals // by default it is sent again
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		d := publish(t, c, "t", "x", client.ExactlyOnce)
		p.ack(wire.PUBREC, p.nextPublish().PacketID, wire.ReasonNotAuthorized, "not you")
		wantRefused(t, d, wire.ReasonNotAuthorized, "not you")
		p.quiet() // no PUBREL for what was refused [MQTT-4.3.3-4]
	})
}

func TestPitfall04_ResendsRespectReceiveMaximum(t *testing.T) {
	for _, maximum := range []uint16{1, 2, 5} {
		t.Run(fmt.Sprint(maximum), func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				c := mustStart(t, testConfig("c", &recorder{}, s.dial))
				p := s.accept(control.Connack{ReceiveMaximum: 40})
				for i := range 50 {
					publish(t, c, "t", fmt.Sprint(i), client.AtLeastOnce)
				}
				synctest.Wait()
				sent := len(p.got)
				p.close()

				p = s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: maximum})
				for i := range 50 {
					synctest.Wait()
					if n := len(p.got); n == 0 || n > int(maximum) {
						t.Fatalf("%d messages are in flight after %d acknowledgements, the Receive Maximum is %d", n, i, maximum)
					}
					m := p.nextPublish()
					if string(m.Payload) != fmt.Sprint(i) {
						t.Fatalf("message %q came, want %d", m.Payload, i)
					}
					if again := i < sent; m.Dup != again {
						t.Errorf("message %d has DUP %v, want %v", i, m.Dup, again)
					}
					p.ack(wire.PUBACK, m.PacketID, 0, "")
				}
				p.quiet()
			})
		})
	}
}

func TestPitfall06_IgnoresAcknowledgementsOfOldConnection(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		const messages = 20
		var all []*client.Delivery
		for i := range messages {
			all = append(all, publish(t, c, "t", fmt.Sprint(i), client.ExactlyOnce))
		}
		// Each connection ends directly after a PUBREC. The PUBREC may be lost with the connection, or
		// it may be processed.
		released := map[uint16]bool{}
		for round := range 2 * messages {
			p := s.accept(control.Connack{SessionPresent: round > 0})
			for answered := false; !answered; {
				select {
				case f, ok := <-p.got:
					if !ok { // all are released, and the client gave up waiting for PUBCOMP
						answered = true
						continue
					}
					if f.Type() == wire.PUBREL {
						continue // its PUBCOMP is lost with the connection
					}
					v, err := wire.ParsePublish(f)
					if err != nil {
						t.Fatal(err)
					}
					if released[v.PacketID] {
						t.Fatalf("the message %d was resent after its PUBREC [MQTT-4.3.3-6]", v.PacketID)
					}
					answered = true
					p.ack(wire.PUBREC, v.PacketID, 0, "")
					if round%2 == 1 {
						synctest.Wait()
						released[v.PacketID] = true
					}
					p.close()
				case <-time.After(time.Hour):
					t.Fatal("the connection is up and nothing arrives")
				}
			}
			p.ended()
		}
		p := s.accept(control.Connack{SessionPresent: true})
		for range messages {
			p.ack(wire.PUBCOMP, p.nextAck(wire.PUBREL).PacketID, 0, "")
		}
		for _, d := range all {
			wantState(t, d, client.Acked)
		}
		if n := c.Stats().InFlight; n != 0 {
			t.Errorf("%d packet identifiers leaked", n)
		}
		p.quiet()
	})
}

func TestPitfall09_OutboxKeepsOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Dir: dir}
	const messages = 1000
	for part := range 2 {
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range messages / 2 {
			publish(t, c, "t", fmt.Sprint(part*messages/2+i), client.AtLeastOnce)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		// Neither a foreign file nor the times of the files mean anything.
		if err := os.WriteFile(filepath.Join(dir, "README"), []byte("not a segment"), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			when := time.Unix(1_000_000-int64(i)*1000, 0)
			if err := os.Chtimes(f, when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Dir = dir
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		for i := range messages {
			m := p.nextPublish()
			if string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %q came, want %d", m.Payload, i)
			}
			p.ack(wire.PUBACK, m.PacketID, 0, "")
		}
		if err := c.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPitfall10_PacketIdentifierSurvivesCrash(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		// Each life of the process ends without a word to the store.
		store := persistence.NewMemory(persistence.Options{})
		crash := func(c *client.Client) {
			store = store.Reopen()
			_ = c.Close()
		}
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		d := publish(t, c, "t", "x", client.ExactlyOnce)
		first := p.nextPublish()
		crash(c)

		cfg.Store.Custom = store
		c = mustStart(t, cfg)
		p = s.accept(control.Connack{SessionPresent: true})
		again := p.nextPublish()
		if again.PacketID != first.PacketID || !again.Dup || userProperty(again, client.PropID) != d.ID.String() {
			t.Errorf("after the crash it came as %d with DUP %v, want %d with DUP", again.PacketID, again.Dup, first.PacketID)
		}
		p.ack(wire.PUBREC, again.PacketID, 0, "")
		p.nextAck(wire.PUBREL)
		crash(c)

		cfg.Store.Custom = store
		c = mustStart(t, cfg)
		p = s.accept(control.Connack{SessionPresent: true})
		if a := p.nextAck(wire.PUBREL); a.PacketID != first.PacketID {
			t.Errorf("PUBREL %d came, want %d", a.PacketID, first.PacketID)
		}
		p.ack(wire.PUBCOMP, first.PacketID, 0, "")
		synctest.Wait()
		if n := c.Stats().Store.Pending; n != 0 {
			t.Errorf("%d messages are pending", n)
		}
		p.quiet()
	})
}

func TestPitfall13_OutboxHasLimitsAndExpiry(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Store.Options.Limits.MaxMessages = 3
		c := mustNew(t, cfg)
		send := func(expiry time.Duration) *client.Delivery {
			t.Helper()
			d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce, Expiry: expiry})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		short, long, forever := send(10*time.Second), send(time.Minute), send(0)
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce}); !errors.Is(err, persistence.ErrFull) {
			t.Errorf("a message above the limit: %v, want ErrFull", err)
		}
		time.Sleep(20*time.Second + 400*time.Millisecond)
		start(t, c)
		p := s.accept(control.Connack{})
		m := p.nextPublish()
		if !m.HasExpiry || m.MessageExpiry != 40 {
			t.Errorf("the Message Expiry Interval is %d s after 20.4 s of 60 s, want 40", m.MessageExpiry)
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		if m = p.nextPublish(); m.HasExpiry {
			t.Errorf("a message without expiry was given %d s", m.MessageExpiry)
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		wantState(t, long, client.Acked)
		wantState(t, forever, client.Acked)
		o := wantState(t, short, client.Expired)
		if e := (*client.ExpiredError)(nil); !errors.As(o.Err, &e) || e.ID != short.ID {
			t.Errorf("the error is %v, want an *ExpiredError", o.Err)
		}
		if got := eventsOf[client.MessageExpired](&events); len(got) != 1 || got[0].ID != short.ID {
			t.Errorf("MessageExpired events are %v", got)
		}
		wantAccounts(t, c)
	})
}

// countingConn counts writes, and the packets in each.
type countingConn struct {
	net.Conn
	writes chan int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes <- len(b)
	return c.Conn.Write(b)
}

func TestPitfall14_PeerThatReadsNothing(t *testing.T) {
	t.Run("does not hold up Publish", func(t *testing.T) {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, _ *mqtttest.Broker, p *mqtttest.Proxy) {
			var events recorder
			cfg := testConfig("c", &events, through(p))
			cfg.Connection.WriteTimeout = 3 * time.Second
			c := mustStart(t, cfg)
			connect(t, c)
			synctest.Wait()
			p.Stall()
			began := time.Now()
			payload := strings.Repeat("x", 64<<10)
			for range 64 { // more than the proxy buffers
				publish(t, c, "t", payload, client.AtLeastOnce)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("Publish waited %v for a peer that takes nothing", took)
			}
			awaitEvents[client.Disconnected](t, &events, 1, time.Minute)
			if took := time.Since(began); took > cfg.Connection.WriteTimeout+time.Second {
				t.Errorf("the connection was given up after %v, the write timeout is %v", took, cfg.Connection.WriteTimeout)
			}
			p.Resume()
			if err := c.Drain(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("one write for a packet", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			writes := make(chan int, 64)
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) { return &countingConn{s.dial(), writes}, nil }
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{})
			synctest.Wait()
			if n := len(writes); n != 1 {
				t.Errorf("CONNECT took %d writes", n)
			}
			<-writes
			publish(t, c, "t", "x", client.AtLeastOnce)
			f := p.next(wire.PUBLISH)
			if n := <-writes; n != len(f.Raw) || len(writes) != 0 {
				t.Errorf("PUBLISH of %d bytes was written as %d bytes and %d more pieces", len(f.Raw), n, len(writes))
			}
		})
	})
}

func TestPitfall17_RejectsLongStrings(t *testing.T) {
	c := mustNew(t, client.Config{Servers: []string{"mqtt://server"}})
	long := strings.Repeat("t", 70_000)
	for name, m := range map[string]client.Message{
		"topic":          {Topic: long, QoS: client.AtLeastOnce},
		"QoS 0":          {Topic: long},
		"response topic": {Topic: "t", QoS: 1, ResponseTopic: long},
		"content type":   {Topic: "t", QoS: 1, ContentType: long},
		"correlation":    {Topic: "t", QoS: 1, CorrelationData: []byte(long)},
		"property name":  {Topic: "t", QoS: 1, UserProperties: []client.UserProperty{{Key: long}}},
		"property value": {Topic: "t", QoS: 1, UserProperties: []client.UserProperty{{Value: long}}},
		"NUL":            {Topic: "a\x00b", QoS: 1},
		"wildcard":       {Topic: "a/#", QoS: 1},
		"not UTF-8":      {Topic: "a\xff", QoS: 1},
		"empty":          {QoS: 1},
	} {
		var field *client.FieldError
		if _, err := c.Publish(t.Context(), m); !errors.As(err, &field) {
			t.Errorf("%s: Publish returned %v, want a *FieldError", name, err)
		}
	}
	var field *client.FieldError
	if _, err := c.Subscribe(t.Context(), long, client.AtMostOnce, newInbox()); !errors.As(err, &field) {
		t.Errorf("Subscribe returned %v, want a *FieldError", err)
	}
	if n := c.Stats().Store.Accepted; n != 0 {
		t.Errorf("%d of them were accepted", n)
	}
}
