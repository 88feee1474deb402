package client_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
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

var offlineHours = flag.Int("offline.hours", 6, "how long TestLimits_OfflineForHours is offline, in simulated time")

// A device is offline for hours with 16 MiB of disk: ten readings a second drop their oldest, and an alarm
// a minute. All alarms are delivered, and the newest readings; the counters add up.
func TestLimits_OfflineForHours(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
		const perSecond = 10
		hours := *offlineHours
		var mu sync.Mutex
		alarms, last, readings := 0, "", 0
		backend := mustNew(t, testConfig("backend", &recorder{}, b.Dial))
		defer backend.Close()
		start(t, backend)
		connect(t, backend) // otherwise Subscribe does not wait for the server
		_, err := backend.Subscribe(t.Context(), "#", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
			mu.Lock()
			defer mu.Unlock()
			if m.Topic == "alarm" {
				alarms++
			} else {
				readings++
				last = string(m.Payload[:12])
			}
			return nil
		}))
		must(t, err)

		cfg := testConfig("device", &recorder{}, through(proxy))
		cfg.Dir = t.TempDir()
		cfg.Store.WhenFull = client.DropOldest
		cfg.Store.Options.Limits = persistence.Limits{MaxDiskBytes: 16 << 20, Reserved: 20}
		cfg.Store.Options.Sync = persistence.SyncNever // of the test's time
		device := mustStart(t, cfg)
		defer device.Close()
		proxy.Refuse(true)
		proxy.Cut()
		want := ""
		for n := range hours * 3600 * perSecond {
			want = fmt.Sprintf("%012d", n)
			m := client.Message{Topic: "reading", Payload: append([]byte(want), make([]byte, 120)...), QoS: client.AtLeastOnce}
			if n%(60*perSecond) == 0 {
				m.Topic, m.Priority = "alarm", client.Urgent
			}
			if _, err := device.Publish(t.Context(), m); err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
			if n%perSecond == 0 {
				time.Sleep(time.Second)
			}
		}
		before := device.Stats()
		if before.Store.DiskBytes > 16<<20 || before.Store.Dropped == 0 || before.PolicyDrops != before.Store.Dropped {
			t.Errorf("offline: %+v", before.Store)
		}
		proxy.Refuse(false)
		for limit := time.Now().Add(time.Hour); device.Stats().Store.Pending > 0 && time.Now().Before(limit); time.Sleep(time.Second) {
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		s := device.Stats().Store
		if alarms != hours*60 || last != want || s.Pending != 0 || s.Acked+s.Dropped != uint64(hours*3600*perSecond) || readings+alarms != int(s.Acked) {
			t.Errorf("%d alarms, %d readings, the last %q, want %q; %+v", alarms, readings, last, want, s)
		}
		t.Logf("%d of %d messages were dropped", s.Dropped, s.Accepted)
		wantAccounts(t, device)
	})
}

func TestCancel(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		sent, waiting := publish(t, c, "t", "sent", client.AtLeastOnce), []*client.Delivery{}
		start(t, c)
		p := s.accept(control.Connack{ReceiveMaximum: 1})
		m := p.nextPublish()
		for _, qos := range []client.QoS{1, 2} {
			waiting = append(waiting, publish(t, c, "t", "waits", qos))
		}
		kept := publish(t, c, "t", "kept", client.AtLeastOnce)
		cancel := func(id client.MessageID, want bool) {
			t.Helper()
			if got, err := c.Cancel(t.Context(), id); got != want || err != nil {
				t.Errorf("Cancel: %v, %v; want %v", got, err, want)
			}
		}
		cancel(sent.ID, false)
		for _, d := range waiting {
			cancel(d.ID, true)
			if o := wantState(t, d, client.Dropped); !errors.Is(o.Err, client.ErrCancelled) {
				t.Errorf("%v", o.Err)
			}
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		wantState(t, sent, client.Acked)
		next := p.nextPublish()
		if string(next.Payload) != "kept" {
			t.Errorf("%q came", next.Payload)
		}
		p.ack(wire.PUBACK, next.PacketID, 0, "")
		wantState(t, kept, client.Acked)
		if _, err := c.Cancel(t.Context(), client.NewMessageID()); err != nil && !errors.Is(err, client.ErrNoReceipts) {
			t.Error(err)
		}
		must(t, c.Close())
	})
	// Before Start it waits.
	synctest.Test(t, func(t *testing.T) {
		c := mustNew(t, testConfig("c", &recorder{}, func() net.Conn { return nil }))
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if ok, err := c.Cancel(ctx, d.ID); ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", ok, err)
		}
		must(t, c.Close())
	})
}
