package client_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestReceipt_SurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	var ids [5]client.MessageID
	want := [5]client.State{client.Acked, client.Refused, client.Expired, client.Dropped, client.Pending}
	check := func(t *testing.T, c *client.Client, began time.Time) {
		t.Helper()
		for i, id := range ids {
			r, ok, err := c.Receipt(t.Context(), id)
			if err != nil || !ok || r.Outcome.State != want[i] {
				t.Errorf("the receipt of message %d is %+v, %v, %v, want %v", i, r, ok, err, want[i])
				continue
			}
			if pending := want[i] == client.Pending; r.At.IsZero() != pending || !pending && r.At.Before(began) || (r.Outcome.Err == nil) != (pending || want[i] == client.Acked) {
				t.Errorf("the receipt of message %d is %+v", i, r)
			}
		}
		if r, _, _ := c.Receipt(t.Context(), ids[1]); r.Outcome.Reason != wire.ReasonQuotaExceeded {
			t.Errorf("the refusal has the code 0x%02X", r.Outcome.Reason)
		}
		var dropped *client.DroppedError
		if r, _, _ := c.Receipt(t.Context(), ids[3]); !errors.As(r.Outcome.Err, &dropped) || dropped.ID != ids[3] || len(dropped.Error()) < 40 {
			t.Errorf("the drop is %v", r.Outcome.Err)
		}
		if _, ok, err := c.Receipt(t.Context(), client.NewMessageID()); ok || err != nil {
			t.Errorf("an unknown message has a receipt: %v, %v", ok, err)
		}
	}
	var began time.Time
	config := func(s *script) client.Config {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Publishing.Refusals = finalRefusals
		cfg.Dir, cfg.Store.Options.Retention.MaxReceipts = dir, 1000
		return cfg
	}
	withScript(t, func(t *testing.T, s *script) {
		began = time.Now()
		c := mustNew(t, config(s))
		for i, m := range []client.Message{{}, {}, {Expiry: time.Second}, {Conflate: true}, {Conflate: true}} {
			m.Topic, m.QoS, m.ID = fmt.Sprint("t", min(i, 3)), client.AtLeastOnce, client.ParseMessageID(fmt.Sprint("order ", i))
			d, err := c.Publish(t.Context(), m)
			must(t, err)
			ids[i] = d.ID
		}
		time.Sleep(2 * time.Second)
		start(t, c)
		p := s.accept(control.Connack{})
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonQuotaExceeded, "enough")
		p.nextPublish()
		synctest.Wait()
		check(t, c, began)
		must(t, c.Close())
	})
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, config(s))
		check(t, c, began)
		must(t, c.Close())
	})
}

// pendingOf wants a message to be pending.
func pendingOf(t *testing.T, c *client.Client, id client.MessageID) client.Deferral {
	t.Helper()
	r, ok, err := c.Receipt(t.Context(), id)
	if err != nil || !ok || r.Outcome.State != client.Pending || r.Outcome.Err != nil || !r.At.IsZero() || r.Outcome.Reason != r.Deferral.Code {
		t.Fatalf("Receipt returned %+v, %v, %v", r, ok, err)
	}
	return r.Deferral
}

// Without any setting, pending and deferred messages are found by their ID, also by the next process.
// Ended ones are not.
func TestReceipt_FindsPendingMessages(t *testing.T) {
	for _, kind := range []string{"memory", "log", "custom store without receipts"} {
		t.Run(kind, func(t *testing.T) {
			dir := ""
			if kind == "log" {
				dir = t.TempDir()
			}
			config := func(s *script) client.Config {
				cfg := testConfig("c", &recorder{}, s.dial)
				if kind == "custom store without receipts" {
					cfg.Store.Custom = struct{ persistence.Store }{persistence.NewMemory(persistence.Options{})}
				}
				cfg.Dir, cfg.Publishing.RetryBackoff = dir, reliability.Backoff{Min: time.Minute}
				return cfg
			}
			var refused, follows, offline client.MessageID
			var deferral client.Deferral
			withScript(t, func(t *testing.T, s *script) {
				c := mustNew(t, config(s))
				refused = publish(t, c, "a", "x", client.AtLeastOnce).ID
				acked := publish(t, c, "b", "x", client.AtLeastOnce).ID
				if d := pendingOf(t, c, refused); d != (client.Deferral{}) {
					t.Errorf("deferred before it is sent: %+v", d)
				}
				start(t, c)
				p := s.accept(control.Connack{})
				began := time.Now()
				p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonQuotaExceeded, "")
				p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
				follows = publish(t, c, "a", "y", client.AtLeastOnce).ID
				synctest.Wait()
				deferral = pendingOf(t, c, refused)
				if deferral.Code != wire.ReasonQuotaExceeded || deferral.Attempts != 1 || deferral.Alone || deferral.Since.Sub(began).Abs() > time.Second || deferral.Until.Sub(began) < 59*time.Second {
					t.Errorf("the refused message has %+v", deferral)
				}
				if d := pendingOf(t, c, follows); d.Since.IsZero() || d.Attempts != 0 || d.Code != 0 {
					t.Errorf("the next message has %+v", d)
				}
				for _, id := range []client.MessageID{acked, client.NewMessageID()} {
					if _, ok, err := c.Receipt(t.Context(), id); ok || !errors.Is(err, client.ErrNoReceipts) {
						t.Errorf("Receipt returned %v, %v, want ErrNoReceipts", ok, err)
					}
				}
				must(t, c.Close())
			})
			if kind != "log" { // the others end with the process
				return
			}
			withScript(t, func(t *testing.T, s *script) {
				c := mustNew(t, config(s))
				offline = publish(t, c, "a", "z", client.AtLeastOnce).ID
				if d := pendingOf(t, c, refused); d.Attempts != 1 || !d.Until.Equal(deferral.Until) {
					t.Errorf("the next process has %+v, want %+v", d, deferral)
				}
				pendingOf(t, c, follows)
				pendingOf(t, c, offline)
				must(t, c.Close())
			})
		})
	}
}

// letters are the dead letters of a client.
func letters(t *testing.T, c *client.Client) (list []client.DeadLetter) {
	t.Helper()
	for d, err := range c.DeadLetters() {
		must(t, err)
		list = append(list, d)
	}
	return list
}

func TestDeadLetters_SurviveRestart(t *testing.T) {
	dir := t.TempDir()
	messages := []client.Message{
		{Topic: "a", Payload: []byte("1"), QoS: client.AtLeastOnce, Expiry: time.Hour, Priority: client.Urgent, ContentType: "text/plain",
			UserProperties: []client.UserProperty{{Key: "k", Value: "v"}}, CorrelationData: []byte("c"), ResponseTopic: "r", PayloadIsUTF8: true},
		{Topic: "b", Payload: []byte("2"), QoS: client.ExactlyOnce},
		{Topic: "c", Payload: make([]byte, 1000), QoS: client.AtLeastOnce},
		{Topic: "d", QoS: client.AtLeastOnce}, // makes the server end connections
	}
	reasons := []byte{wire.ReasonNotAuthorized, wire.ReasonQuotaExceeded, wire.ReasonPacketTooLarge, wire.ReasonPayloadFormatInvalid}
	config := func(s *script, events *recorder) client.Config {
		cfg := testConfig("c", events, s.dial)
		cfg.Publishing.Refusals = finalRefusals
		cfg.Dir, cfg.Store.DeadLetters, cfg.Publishing.PoisonAttempts, cfg.Publishing.Sequenced = dir, 10, 1, true
		return cfg
	}
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustStart(t, config(s, &events))
		p := s.accept(control.Connack{MaximumPacketSize: 500})
		connect(t, c)
		for i := range messages {
			d, err := c.Publish(t.Context(), messages[i])
			must(t, err)
			messages[i].ID = d.ID
			if i != 2 {
				id := p.nextPublish().PacketID
				switch i {
				case 0:
					p.ack(wire.PUBACK, id, reasons[i], "no")
				case 1:
					p.ack(wire.PUBREC, id, reasons[i], "no")
					p.quiet()
					p.close() // so that message 3 is the first of its connection
					p = s.accept(control.Connack{SessionPresent: true, MaximumPacketSize: 500})
				case 3:
					p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: reasons[i]}))
					p.close()
				}
			}
			var code interface{ ReasonCode() byte }
			if o := wantState(t, d, client.DeadLettered); o.Reason != reasons[i] || !errors.As(o.Err, &code) || code.ReasonCode() != reasons[i] {
				t.Errorf("message %d ended with %+v", i, o)
			}
		}
		synctest.Wait() // an event follows the end of its Delivery
		list := eventsOf[client.MessageRefused](&events)
		if len(list) != len(messages) || !list[0].DeadLetter || list[0].ID != messages[0].ID {
			t.Errorf("the events are %+v", list)
		}
		wantAccounts(t, c)
		must(t, c.Close())
	})
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, config(s, &recorder{}))
		p := s.accept(control.Connack{SessionPresent: true})
		connect(t, c)
		list := letters(t, c)
		if len(list) != len(messages) {
			t.Fatalf("%d dead letters, want %d", len(list), len(messages))
		}
		for i, d := range list {
			if d.Message.Origin.Seq != 1 {
				t.Errorf("dead letter %d has the number %d", i, d.Message.Origin.Seq)
			}
			d.Message.Origin = client.Origin{}
			if len(messages[i].Payload) == 0 {
				messages[i].Payload = d.Message.Payload
			}
			if !reflect.DeepEqual(d.Message, messages[i]) || d.Reason != reasons[i] || d.Accepted.IsZero() {
				t.Errorf("dead letter %d is %+v, want %+v", i, d, messages[i])
			}
		}
		must(t, c.Discard(list[1]))
		must(t, c.Discard(list[1]))
		again, err := c.Redeliver(t.Context(), list[0])
		must(t, err)
		m := p.nextPublish()
		if userProperty(m, client.PropID) != messages[0].ID.String() || m.Dup || m.MessageExpiry != 3600 || string(m.Payload) != "1" {
			t.Errorf("%+v was sent", m)
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		wantState(t, again, client.Acked)
		if list := letters(t, c); len(list) != 2 || list[0].Message.Topic != "c" {
			t.Errorf("the dead letters left are %+v", list)
		}
		for range c.DeadLetters() {
			break
		}
		must(t, c.Close())
		for _, err := range c.DeadLetters() {
			if !errors.Is(err, persistence.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if _, err := c.Redeliver(t.Context(), list[0]); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Redeliver after Close: %v", err)
		}
	})
}

func TestDeadLetters_Limit(t *testing.T) {
	publishing(t, func(cfg *client.Config) { cfg.Store.DeadLetters, cfg.Publishing.Refusals = 2, finalRefusals }, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for i := range 4 {
			d := publish(t, c, "t", fmt.Sprint(i), client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonNotAuthorized, "")
			wantState(t, d, client.DeadLettered)
		}
		if list := letters(t, c); len(list) != 2 || string(list[0].Message.Payload) != "2" {
			t.Errorf("kept are %+v", list)
		}
		wantAccounts(t, c)
	})
}

// The wall clock of a device without a battery may stand anywhere when the next
// process begins. Messages expire by the time that the store's clock has counted.
func TestExpiry_IgnoresWallClockStepsBetweenProcesses(t *testing.T) {
	for name, forward := range map[string]bool{"back": false, "forward": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			publishTwo := func(t *testing.T, s *script) { // with 10 and 1,000 seconds to live, of which 5 go by
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Dir = dir
				time.Sleep(time.Hour)
				c := mustNew(t, cfg)
				for _, expiry := range []time.Duration{10 * time.Second, 1000 * time.Second} {
					_, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: fmt.Append(nil, expiry), QoS: client.AtLeastOnce, Expiry: expiry})
					must(t, err)
				}
				time.Sleep(5 * time.Second)
				publish(t, c, "t", "later", client.AtLeastOnce) // so the store knows what time it was
				must(t, c.Close())
			}
			withScript(t, publishTwo) // it is the year 2000, the first day, one o'clock
			if forward {
				// A real clock, decades later: the first was never set.
				c := mustNew(t, client.Config{Servers: []string{"mqtt://127.0.0.1:1"}, ClientID: "c", Dir: dir})
				if left := client.StoreOf(c).Stats().Pending; left != 3 {
					t.Fatalf("%d are pending", left)
				}
				if now := client.StoreOf(c).Now(); now.Year() != 2000 {
					t.Errorf("messages that wait live to see %v", now)
				}
				must(t, c.Close())
			}
			withScript(t, func(t *testing.T, s *script) { // midnight again
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				cfg.Dir, cfg.Connection.AckTimeout = dir, time.Hour
				c := mustStart(t, cfg)
				time.Sleep(3 * time.Second)
				_, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte("now"), QoS: client.AtLeastOnce, Expiry: 2000 * time.Second})
				must(t, err)
				p := s.accept(control.Connack{ReceiveMaximum: 1})
				m := p.nextPublish()
				if string(m.Payload) != "10s" || m.MessageExpiry == 0 || m.MessageExpiry > 3 {
					t.Errorf("%s came with %d s left, want 10s with 2", m.Payload, m.MessageExpiry)
				}
				p.quiet()
				time.Sleep(1000 * time.Second) // while this one waits, the other expires
				p.ack(wire.PUBACK, m.PacketID, 0, "")
				for _, id := range p.wantPublishes(false, "later") {
					p.ack(wire.PUBACK, id, 0, "")
				}
				if m := p.nextPublish(); string(m.Payload) != "now" || m.MessageExpiry != 1000 {
					t.Errorf("%s came with %d s left, want 1000", m.Payload, m.MessageExpiry)
				}
				if list := eventsOf[client.MessageExpired](&events); len(list) != 1 {
					t.Errorf("%d expired, want 1", len(list))
				}
				must(t, c.Close())
			})
		})
	}
}
