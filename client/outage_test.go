package client_test

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// failing makes operations of a disk fail until it is called with nil.
func failing(disk *faultfs.FS) func(err error, kinds ...faultfs.Kind) {
	return func(err error, kinds ...faultfs.Kind) {
		disk.SetFault(func(op faultfs.Op) (int, error) {
			for _, k := range kinds {
				if err != nil && op.Kind == k {
					return 0, err
				}
			}
			return op.Len, nil
		})
	}
}

// TestOutage_Disk has the disk refuse to write for some time, while messages go in both directions
// and the link is cut. Nothing that was accepted is lost, QoS 1 goes on, and nobody restarts anything.
func TestOutage_Disk(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.ENODEV} {
		for _, lasts := range []time.Duration{time.Second, 30 * time.Second} {
			t.Run(fmt.Sprint(cause, " for ", lasts), func(t *testing.T) {
				inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
					backend, got := mustNew(t, testConfig("backend", &recorder{}, b.Dial)), newInbox()
					defer backend.Close()
					start(t, backend)
					connect(t, backend) // otherwise Subscribe does not wait for the server
					_, err := backend.Subscribe(t.Context(), "up", client.ExactlyOnce, got)
					must(t, err)

					disk, events, received := faultfs.New(), recorder{}, newInbox()
					fail := failing(disk)
					cfg := testConfig("device", &events, through(proxy))
					cfg.Dir, cfg.Store.Options.FS, cfg.Connection.AckTimeout = "log", disk, 20*time.Second
					device := mustStart(t, cfg)
					defer device.Close()
					connect(t, device)
					_, err = device.Subscribe(t.Context(), "down", client.ExactlyOnce, received)
					must(t, err)

					var accepted []string
					send := func(payload string, qos client.QoS) error {
						_, err := device.Publish(t.Context(), client.Message{Topic: "up", Payload: []byte(payload), QoS: qos})
						if err == nil {
							accepted = append(accepted, payload)
						}
						return err
					}
					proxy.Refuse(true)
					proxy.Cut()
					for n := range 10 {
						must(t, send(fmt.Sprint("before ", n), client.AtLeastOnce))
					}
					fail(cause, faultfs.Create, faultfs.Write, faultfs.Sync)
					degraded := (*persistence.DegradedError)(nil)
					if err := send("lost", client.AtLeastOnce); !errors.As(err, &degraded) || !errors.Is(err, cause) {
						t.Fatalf("Publish: %v", err)
					}
					began := time.Now()
					synctest.Wait()
					if err := device.State().StoreErr; !errors.Is(err, cause) {
						t.Errorf("State: %v", err)
					}
					proxy.Refuse(false)
					got.await(t, 10) // without a write
					for n := range 5 {
						publish(t, backend, "down", fmt.Sprint("qos1 ", n), client.AtLeastOnce)
						publish(t, backend, "down", fmt.Sprint("qos2 ", n), client.ExactlyOnce)
					}
					received.await(t, 10)
					connections := device.Stats().Connections
					for time.Since(began) < lasts {
						for _, qos := range []client.QoS{1, 2} {
							if err := send("in the outage", qos); !errors.Is(err, persistence.ErrDegraded) {
								t.Fatalf("Publish: %v", err)
							}
						}
						time.Sleep(100 * time.Millisecond)
					}
					fail(nil)
					time.Sleep(10 * time.Second)
					for n := range 10 {
						must(t, send(fmt.Sprint("after ", n), client.QoS(1+n%2)))
					}
					time.Sleep(time.Minute)
					synctest.Wait()

					list := got.payloads()
					if list[10] == "lost" { // its outcome was unknown
						list = append(list[:10:10], list[11:]...)
					}
					if fmt.Sprint(list) != fmt.Sprint(accepted) {
						t.Errorf("%q came, want %q", list, accepted)
					}
					if n := len(received.payloads()); n != 10 {
						t.Errorf("%d messages were received, want 10", n)
					}
					s := device.Stats()
					if s.Connections != connections || s.Store.Pending != 0 || s.Store.Outages != 1 || backend.Stats().Store.Pending != 0 {
						t.Errorf("%d connections, %d before; %+v; the backend: %+v", s.Connections, connections, s.Store, backend.Stats().Store)
					}
					if a, r := eventsOf[client.StoreDegraded](&events), eventsOf[client.StoreRecovered](&events); len(a) != 1 || len(r) != 1 || r[0].After < lasts || r[0].After > lasts+6*time.Second {
						t.Errorf("%+v, %+v", a, r)
					}
					if err := device.State().StoreErr; err != nil {
						t.Errorf("State: %v", err)
					}
					wantAccounts(t, device)
				})
			})
		}
	}
}

// With Block, Publish waits until the disk takes messages again.
func TestOutage_BlockWaits(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		disk := faultfs.New()
		fail := failing(disk)
		cfg := testConfig("device", &recorder{}, func() net.Conn { return b.Dial() })
		cfg.Dir, cfg.Store.Options.FS, cfg.Store.WhenFull = "log", disk, client.Block
		device := mustStart(t, cfg)
		defer device.Close()
		connect(t, device)
		fail(syscall.ENOSPC, faultfs.Create, faultfs.Write)
		_, _ = device.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}) // the first finds it out
		began := time.Now()
		time.AfterFunc(20*time.Second, func() { fail(nil) })
		d, err := device.Publish(t.Context(), client.Message{Topic: "t", QoS: 1})
		must(t, err)
		if took := time.Since(began); took < 20*time.Second || took > 26*time.Second {
			t.Errorf("Publish took %v", took)
		}
		wantState(t, d, client.Acked)
	})
}

// While the disk holds a PUBREL back, the server is not blamed for the PUBCOMP that does not come.
func TestOutage_DoesNotCauseAckTimeout(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		disk := faultfs.New()
		fail := failing(disk)
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Dir, cfg.Store.Options.FS, cfg.Connection.AckTimeout = "log", disk, 15*time.Second
		cfg.Connection.KeepAlive = client.NoKeepAlive
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		d := publish(t, c, "t", "x", client.ExactlyOnce)
		id := p.nextPublish().PacketID
		fail(syscall.EIO, faultfs.Create, faultfs.Write, faultfs.Sync)
		p.ack(wire.PUBREC, id, 0, "")
		time.Sleep(time.Minute)
		p.quiet()
		fail(nil)
		time.Sleep(10 * time.Second)
		if got := p.nextAck(wire.PUBREL).PacketID; got != id {
			t.Errorf("PUBREL for %d, want %d", got, id)
		}
		p.ack(wire.PUBCOMP, id, 0, "")
		wantState(t, d, client.Acked)
		must(t, c.Close())
	})
}
