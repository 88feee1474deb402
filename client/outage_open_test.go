package client_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestNew_DiskRefusesWrites starts a client whose disk takes no writes. The client sends
// pending QoS 1 messages, and sends no QoS 2 message twice. The client accepts messages when the disk does.
func TestNew_DiskRefusesWrites(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EMFILE, syscall.EIO} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
				backend, got := mustNew(t, testConfig("backend", &recorder{}, b.Dial)), newInbox()
				defer backend.Close()
				start(t, backend)
				connect(t, backend) // otherwise Subscribe does not wait for the server
				_, err := backend.Subscribe(t.Context(), "up", client.ExactlyOnce, got)
				must(t, err)
				disk := faultfs.New()
				var events recorder
				cfg := testConfig("device", &events, through(proxy))
				cfg.Dir, cfg.Store.Options.FS = "log", disk
				before := mustStart(t, cfg) // the store knows the session
				connect(t, before)
				proxy.Refuse(true)
				proxy.Cut()
				for n := range 5 {
					publish(t, before, "up", fmt.Sprint("qos1 ", n), client.AtLeastOnce)
				}
				publish(t, before, "up", "qos2", client.ExactlyOnce)
				must(t, before.Close())
				proxy.Refuse(false)

				fail := failing(disk)
				fail(cause, faultfs.Create, faultfs.Write, faultfs.SyncDir)
				device := mustStart(t, cfg)
				defer device.Close()
				connect(t, device)
				synctest.Wait()
				if err := device.State().StoreErr; !errors.Is(err, persistence.ErrDegraded) || !errors.Is(err, cause) {
					t.Errorf("State: %v", err)
				}
				got.await(t, 5)
				if _, err := device.Publish(t.Context(), client.Message{Topic: "up", QoS: 1}); !errors.Is(err, cause) {
					t.Errorf("Publish: %v", err)
				}
				time.Sleep(30 * time.Second)
				fail(nil)
				time.Sleep(10 * time.Second)
				publish(t, device, "up", "after", client.AtLeastOnce)
				time.Sleep(time.Minute)
				if list := got.payloads(); fmt.Sprint(list) != "[qos1 0 qos1 1 qos1 2 qos1 3 qos1 4 qos2 after]" {
					t.Errorf("%q came", list)
				}
				if s := device.Stats().Store; s.Pending != 0 || s.Outages != 1 || s.Degraded {
					t.Errorf("%+v", s)
				}
				if err := device.State().StoreErr; err != nil || len(eventsOf[client.StoreRecovered](&events)) != 1 {
					t.Errorf("State: %v", err)
				}
			})
		})
	}
}
