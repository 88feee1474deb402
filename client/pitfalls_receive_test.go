package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// The tests named TestPitfall of the receive path.

// appMessage is an application message as a server sends it.
func appMessage(id uint16, qos byte, payload string) wire.Publish {
	return wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: []byte(payload)}
}

func TestPitfall07_HandlersDoNotBlockReading(t *testing.T) {
	t.Run("reconnecting", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			c := mustNew(t, testConfig("c", &events, s.dial))
			var handled atomic.Int32
			must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error {
				time.Sleep(300 * time.Millisecond)
				handled.Add(1)
				return nil
			})))
			start(t, c)
			p := s.accept(control.Connack{})
			for i := range 5 {
				p.publish(appMessage(uint16(i+1), 1, fmt.Sprint(i)))
			}
			began := time.Now()
			p.close()
			p = s.accept(control.Connack{SessionPresent: true})
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("reconnecting took %v with a slow handler", took)
			}
			for i := range 5 {
				m := appMessage(uint16(i+1), 1, fmt.Sprint(i))
				m.Dup = true
				p.publish(m)
			}
			for i := range 5 {
				if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) {
					t.Errorf("PUBACK %d came, want %d", a.PacketID, i+1)
				}
			}
			if n := handled.Load(); n != 5 {
				t.Errorf("the handler ran %d times for 5 messages", n)
			}
		})
	})
	t.Run("Close, Handle and Subscribe from a handler", func(t *testing.T) {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			var events recorder
			c := mustNew(t, testConfig("c", &events, through(p)))
			results := make(chan error, 4)
			must1(c.Subscribe(t.Context(), "t", client.ExactlyOnce, client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
				results <- c.Handle("later", newInbox())
				results <- errOf(c.Subscribe(ctx, "more", client.AtLeastOnce, newInbox()))
				results <- c.Close()
				return nil
			})))
			start(t, c)
			connect(t, c)
			d := publish(t, c, "t", "x", client.ExactlyOnce)
			for range 3 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			<-c.Done()
			<-d.Done()
			synctest.Wait()
			if b.Connected("c") {
				t.Error("the server still has the connection")
			}
		})
	})
	t.Run("a panic", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Receiving.HandlerAttempts = 2
			c := mustNew(t, cfg)
			must(t, c.Handle("t", client.HandlerFunc(func(_ context.Context, m *client.Message) error {
				if string(m.Payload) == "bad" {
					panic("boom")
				}
				return nil
			})))
			start(t, c)
			p := s.accept(control.Connack{})
			p.publish(appMessage(1, 1, "bad"))
			p.publish(appMessage(2, 1, "good"))
			if a := p.nextAck(wire.PUBACK); a.PacketID != 1 || a.Reason != wire.ReasonUnspecifiedError {
				t.Errorf("got PUBACK %d 0x%02X, want a refusal of 1", a.PacketID, a.Reason)
			}
			if a := p.nextAck(wire.PUBACK); a.PacketID != 2 || a.Reason != 0 {
				t.Errorf("got PUBACK %d 0x%02X, want success for 2", a.PacketID, a.Reason)
			}
			failed := eventsOf[client.HandlerFailed](&events)
			var e *client.PanicError
			if len(failed) != 2 || failed[0].Refused || !failed[1].Refused || !errors.As(failed[1].Err, &e) || e.Value != "boom" {
				t.Errorf("HandlerFailed events are %v", failed)
			}
		})
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPitfall08_AcknowledgementsAreSentAtOnce(t *testing.T) {
	t.Run("no ticker", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Receiving.ReceiveMaximum = 20
			c := mustNew(t, cfg)
			must(t, c.Handle("#", newInbox()))
			start(t, c)
			p := s.accept(control.Connack{})
			if p.connect.ReceiveMaximum != 20 {
				t.Fatalf("CONNECT says Receive Maximum %d", p.connect.ReceiveMaximum)
			}
			began := time.Now()
			for round := range 50 {
				for i := range 20 {
					p.publish(appMessage(uint16(i+1), 1, fmt.Sprint(round)))
				}
				for range 20 {
					p.nextAck(wire.PUBACK)
				}
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("1000 acknowledgements took %v without anything to wait for", took)
			}
		})
	})
	t.Run("and those of the last moment before Close", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			c := mustNew(t, testConfig("c", &recorder{}, s.dial))
			busy := make(chan struct{})
			must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error {
				close(busy)
				time.Sleep(time.Second)
				return nil
			})))
			start(t, c)
			p := s.accept(control.Connack{})
			p.publish(appMessage(7, 2, "x"))
			<-busy
			must(t, c.Close())
			if a := p.nextAck(wire.PUBREC); a.PacketID != 7 || a.Reason != 0 {
				t.Errorf("got PUBREC %d 0x%02X", a.PacketID, a.Reason)
			}
			if d, err := control.ParseDisconnect(p.next(wire.DISCONNECT)); err != nil || d.Reason != 0 {
				t.Errorf("DISCONNECT says 0x%02X, %v", d.Reason, err)
			}
		})
	})
}

// orderedStore notes in which order records, syncs and packets come.
type orderedStore struct {
	persistence.Store
	log func(string)
}

func (s *orderedStore) Seen(id uint16, fingerprint uint64) error {
	s.log("seen")
	return s.Store.Seen(id, fingerprint)
}
func (s *orderedStore) Cleared(id uint16) error { s.log("cleared"); return s.Store.Cleared(id) }
func (s *orderedStore) Sync() error             { s.log("sync"); return s.Store.Sync() }

func TestPitfall11_InboundQoS2IsHandledOnce(t *testing.T) {
	t.Run("the link drops before its PUBREC", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			c := mustNew(t, testConfig("c", &recorder{}, s.dial))
			var handled atomic.Int32
			release := make(chan struct{})
			must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error {
				handled.Add(1)
				<-release
				return nil
			})))
			start(t, c)
			p := s.accept(control.Connack{})
			p.publish(appMessage(5, 2, "x"))
			synctest.Wait()
			for range 2 {
				p.close()
				p = s.accept(control.Connack{SessionPresent: true})
				again := appMessage(5, 2, "x")
				again.Dup = true
				p.publish(again)
				p.quiet()
			}
			close(release)
			p.nextAck(wire.PUBREC)
			p.ack(wire.PUBREL, 5, 0, "")
			if a := p.nextAck(wire.PUBCOMP); a.Reason != 0 {
				t.Errorf("PUBCOMP says 0x%02X", a.Reason)
			}
			if n := handled.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
			// The identifier is free: a new message under it is a new message.
			p.publish(appMessage(5, 2, "x"))
			p.nextAck(wire.PUBREC)
			if n := handled.Load(); n != 2 {
				t.Errorf("a new message under the same identifier was swallowed")
			}
		})
	})
	t.Run("records are durable before what they promise", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var log []string // without repetitions
			note := make(chan string, 64)
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Store.Custom = &orderedStore{persistence.NewMemory(persistence.Options{}), func(what string) { note <- what }}
			c := mustNew(t, cfg)
			must(t, c.Handle("t", newInbox()))
			start(t, c)
			p := s.accept(control.Connack{})
			synctest.Wait()
			for len(note) > 0 {
				<-note
			}
			p.publish(appMessage(5, 2, "x"))
			p.nextAck(wire.PUBREC)
			note <- "PUBREC"
			p.ack(wire.PUBREL, 5, 0, "")
			p.nextAck(wire.PUBCOMP)
			note <- "PUBCOMP"
			for len(note) > 0 {
				what := <-note
				if len(log) == 0 || log[len(log)-1] != what {
					log = append(log, what)
				}
			}
			if got, want := fmt.Sprint(log), "[seen sync PUBREC cleared sync PUBCOMP]"; got != want {
				t.Errorf("the order was %v, want %v", got, want)
			}
		})
	})
	t.Run("the process restarts between PUBREC and PUBREL", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			store := persistence.NewMemory(persistence.Options{})
			handler := newInbox()
			live := func() (*client.Client, *peer) {
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Store.Custom = store
				c := mustNew(t, cfg)
				must(t, c.Handle("t", handler))
				start(t, c)
				return c, s.accept(control.Connack{SessionPresent: store.Boot() > 1})
			}
			c, p := live()
			p.publish(appMessage(5, 2, "x"))
			p.nextAck(wire.PUBREC)
			store = store.Reopen()
			_ = c.Close()

			c, p = live()
			again := appMessage(5, 2, "x")
			again.Dup = true
			p.publish(again)
			if a := p.nextAck(wire.PUBREC); a.Reason != 0 {
				t.Errorf("PUBREC says 0x%02X", a.Reason)
			}
			p.ack(wire.PUBREL, 5, 0, "")
			p.nextAck(wire.PUBCOMP)
			if n := len(handler.payloads()); n != 1 {
				t.Errorf("the message was handled %d times", n)
			}
			store = store.Reopen()
			_ = c.Close()

			_, p = live()
			p.publish(appMessage(5, 2, "y"))
			p.nextAck(wire.PUBREC)
			if got := fmt.Sprint(handler.payloads()); got != "[x y]" {
				t.Errorf("handled %v, want [x y]", got)
			}
		})
	})
}

func TestPitfall15_HandlersAndSubscriptionsSurviveReconnect(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var events recorder
		c := mustStart(t, testConfig("c", &events, through(p)))
		other := mustStart(t, testConfig("other", &recorder{}, b.Dial))
		connect(t, c)
		connect(t, other)
		first, second := newInbox(), newInbox()
		must1(c.Subscribe(t.Context(), "a", client.ExactlyOnce, first))
		must1(c.Subscribe(t.Context(), "b", client.ExactlyOnce, second))
		say := func(text string) {
			t.Helper()
			for _, topic := range []string{"a", "b"} {
				wantState(t, publish(t, other, topic, text, client.ExactlyOnce), client.Acked)
			}
		}
		say("at first")
		p.Cut() // the session is resumed
		awaitEvents[client.Connected](t, &events, 2, time.Minute)
		say("resumed")
		synctest.Wait()    // what the server still has goes with the session
		b.DropSession("c") // the session is new
		awaitEvents[client.Connected](t, &events, 3, time.Minute)
		synctest.Wait()
		say("new")
		synctest.Wait()
		for name, in := range map[string]*messageLog{"a": first, "b": second} {
			if got := fmt.Sprint(in.payloads()); got != "[at first resumed new]" {
				t.Errorf("%s got %v", name, got)
			}
		}
	})
}

func TestPitfall18_ChecksLengthBeforeAllocating(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.MaximumPacketSize = 1024
		mustStart(t, cfg)
		p := s.accept(control.Connack{})
		if p.connect.MaximumPacketSize != 1024 {
			t.Fatalf("CONNECT says Maximum Packet Size %d", p.connect.MaximumPacketSize)
		}
		// The header alone: were the client to wait for the body, nothing would
		// ever come.
		p.send([]byte{byte(wire.PUBLISH) << 4, 0xFF, 0xFF, 0xFF, 0x7F})
		if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != wire.ReasonPacketTooLarge {
			t.Errorf("got DISCONNECT 0x%02X, %v, want 0x95", d.Reason, err)
		}
	})
}
