package client_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// expiring publishes a message with this Expiry; 0: never expires.
func expiring(t *testing.T, c *client.Client, qos client.QoS, expiry time.Duration) *client.Delivery {
	t.Helper()
	d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: qos, Expiry: expiry})
	must(t, err)
	return d
}

// nowhere simulates a link that is down.
func nowhere() net.Conn {
	nc, _ := net.Pipe()
	_ = nc.Close()
	return nc
}

// Expired messages free space for new ones.
func TestExpiry_FreesSpace(t *testing.T) {
	for _, policy := range []client.FullPolicy{client.Reject, client.Block} {
		synctest.Test(t, func(t *testing.T) {
			cfg := testConfig("c", &recorder{}, nowhere)
			cfg.Store.WhenFull = policy
			cfg.Store.Options.Limits.MaxMessages, cfg.Store.Options.Limits.MaxAge = 2, time.Minute
			c := mustStart(t, cfg)
			expiring(t, c, client.AtLeastOnce, 0)
			expiring(t, c, client.AtLeastOnce, time.Hour)
			if policy == client.Reject {
				if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce}); !errors.Is(err, persistence.ErrFull) {
					t.Errorf("a third of two: %v", err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if _, err := c.Publish(ctx, client.Message{Topic: "t", QoS: client.AtLeastOnce}); err != nil {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if n := c.Stats().Store.Expired; n != 2 {
				t.Errorf("%d are expired", n)
			}
			wantAccounts(t, c)
		})
	}
}

// A sent message does not expire while the link is down, because the server may have it.
func TestExpiry_SentMessageDoesNotExpireOffline(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.ConnectTimeout = 2 * time.Hour
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		sent := []*client.Delivery{expiring(t, c, client.AtLeastOnce, 10*time.Second), expiring(t, c, client.ExactlyOnce, 10*time.Second)}
		p.nextPublish()
		p.nextPublish()
		p.close()
		p = s.open()
		waits := expiring(t, c, client.ExactlyOnce, 10*time.Second)
		time.Sleep(time.Hour)
		wantState(t, waits, client.Expired)
		p.send(control.AppendConnack(nil, &control.Connack{SessionPresent: true}))
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		m := p.nextPublish()
		p.ack(wire.PUBREC, m.PacketID, 0, "")
		p.nextAck(wire.PUBREL)
		p.ack(wire.PUBCOMP, m.PacketID, 0, "")
		for _, d := range sent {
			wantState(t, d, client.Acked)
		}
		p.quiet()
	})
}

// A message that an earlier process may have sent does not expire. It is resent [MQTT-4.4.0-1]
// [MQTT-4.3.3-7]. Its remaining lifetime is 1 s, because some servers never expire a message with 0.
func TestExpiry_MessageOfEarlierProcess(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom, cfg.Connection.ConnectTimeout = store, 2*time.Hour
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		expiring(t, c, client.AtLeastOnce, 10*time.Second)
		expiring(t, c, client.ExactlyOnce, 10*time.Second)
		sent := []wire.Publish{p.nextPublish(), p.nextPublish()}
		store = store.Reopen() // simulates the kill of the process
		_ = c.Close()

		cfg.Store.Custom = store
		c = mustStart(t, cfg)
		p = s.open()
		time.Sleep(time.Hour)
		if got := c.Stats().Store; got.Expired != 0 || got.Pending != 2 {
			t.Errorf("%d are expired, %d wait", got.Expired, got.Pending)
		}
		p.send(control.AppendConnack(nil, &control.Connack{SessionPresent: true}))
		for _, before := range sent {
			if m := p.nextPublish(); m.PacketID != before.PacketID || m.QoS != before.QoS || !m.Dup || m.MessageExpiry != 1 {
				t.Errorf("the resent message is %+v", m)
			}
		}
	})
}

// A message that was sent in a lost session counts as unsent in the new one. It expires in time,
// even if the window is full.
func TestExpiry_MessageOfLostSession(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.ConnectTimeout, cfg.Connection.AckTimeout, cfg.Connection.KeepAlive = 2*time.Hour, 2*time.Hour, time.Hour
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		expiring(t, c, client.AtLeastOnce, 0)
		expiring(t, c, client.AtLeastOnce, 0)
		d := expiring(t, c, client.AtLeastOnce, 10*time.Second)
		for range 3 {
			p.nextPublish()
		}
		p.close()
		p = s.open()
		time.Sleep(30 * time.Second)
		if o := d.Outcome(); o.State != client.Pending {
			t.Errorf("the session may be there, and it is %v", o)
		}
		p.send(control.AppendConnack(nil, &control.Connack{ReceiveMaximum: 1}))
		p.nextPublish()
		time.Sleep(time.Minute)
		if o := d.Outcome(); o.State != client.Expired {
			t.Errorf("in the new session, after its time, it is %v", o)
		}
	})
}
