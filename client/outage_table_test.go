package client_test

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
)

// outageOps are the operations that fail in TestOutage_EveryOperation.
var outageOps = []struct {
	name string
	ops  []faultfs.Kind
}{
	{"create", []faultfs.Kind{faultfs.Create}},
	{"write", []faultfs.Kind{faultfs.Write}},
	{"sync", []faultfs.Kind{faultfs.Sync}},
	{"remove", []faultfs.Kind{faultfs.Remove}},
	{"sync of a folder", []faultfs.Kind{faultfs.SyncDir}},
	{"open", []faultfs.Kind{faultfs.Open}},
	{"read", []faultfs.Kind{faultfs.Read}},
	{"every change", []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Truncate, faultfs.Sync, faultfs.Remove, faultfs.Rename, faultfs.SyncDir}},
	{"everything", []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Truncate, faultfs.Sync, faultfs.Remove, faultfs.Rename, faultfs.SyncDir, faultfs.Open, faultfs.Read}},
}

// TestOutage_EveryOperation lets each operation of the disk fail with each error: for a second, for 30 seconds, and
// until the client is closed. Messages wait on the disk when the fault begins, and the application goes on to
// publish. Every accepted message is delivered once. Where the fault passes, the client needs no restart.
func TestOutage_EveryOperation(t *testing.T) {
	for _, failing := range outageOps {
		for _, cause := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO, syscall.EROFS} {
			for _, lasts := range []time.Duration{time.Second, 30 * time.Second, 0} {
				name := fmt.Sprintf("%s/%v/%v", failing.name, cause, lasts)
				if lasts == 0 {
					name = fmt.Sprintf("%s/%v/for good", failing.name, cause)
				}
				t.Run(name, func(t *testing.T) {
					inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
						surviveOutage(t, b, proxy, cause, failing.ops, lasts)
					})
				})
			}
		}
	}
}

func surviveOutage(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy, cause error, ops []faultfs.Kind, lasts time.Duration) {
	backendCfg, got := testConfig("backend", &recorder{}, b.Dial), newInbox()
	backendCfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{}) // QoS 1 messages can be resent after a restart
	backend := mustNew(t, backendCfg)
	defer backend.Close()
	start(t, backend)
	connect(t, backend)
	must1(backend.Subscribe(t.Context(), "up", client.ExactlyOnce, got))

	disk, events := faultfs.New(), recorder{}
	hits := 0
	fail := func(err error) {
		disk.SetFault(func(op faultfs.Op) (int, error) {
			if err == nil || !slices.Contains(ops, op.Kind) {
				return op.Len, nil
			}
			hits++
			return 0, err
		})
	}
	cfg := testConfig("device", &events, through(proxy))
	cfg.Dir, cfg.Store.Options.FS = "log", disk
	cfg.Store.Options.Files = persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10, PreallocateBytes: -1}
	device := mustStart(t, cfg)
	connect(t, device)

	accepted, tried := map[string]bool{}, 0
	send := func() error {
		tried++
		payload := fmt.Sprintf("%d %200d", tried, 0)
		_, err := device.Publish(t.Context(), client.Message{Topic: "up", Payload: []byte(payload), QoS: client.QoS(1 + tried%2)})
		if err == nil {
			accepted[payload] = true
		}
		return err
	}
	proxy.Refuse(true)
	proxy.Cut()
	for range 60 { // more than the buffers hold
		must(t, send())
	}
	fail(cause)
	proxy.Refuse(false)
	for range max(int(lasts/(200*time.Millisecond)), 25) {
		time.Sleep(200 * time.Millisecond)
		if err := send(); err != nil && !errors.Is(err, persistence.ErrDegraded) && !errors.As(err, new(*client.OutcomeUnknownError)) {
			t.Fatalf("Publish: %v", err)
		}
	}
	if lasts == 0 {
		began := time.Now()
		if err := device.Close(); err != nil && !errors.Is(err, cause) || time.Since(began) > 11*time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(began))
		}
		fail(nil)
		device = mustStart(t, cfg)
	}
	defer func() { must(t, device.Close()) }()
	fail(nil)
	time.Sleep(10 * time.Second)
	must(t, send())
	time.Sleep(time.Minute)
	synctest.Wait()

	came := map[string]int{}
	for _, payload := range got.payloads() {
		came[payload]++
	}
	for payload := range accepted {
		if came[payload] == 0 {
			t.Errorf("%.5q was accepted and did not arrive", payload)
		}
	}
	for payload, n := range came {
		if n > 1 {
			t.Errorf("%.5q arrived %d times", payload, n)
		}
	}
	if hits == 0 {
		t.Error("no operation failed")
	}
	s := device.Stats()
	if s.Store.Pending != 0 || s.Store.Degraded || s.Store.Lost > 0 {
		t.Errorf("%+v", s.Store)
	}
	if err := device.State().StoreErr; err != nil {
		t.Errorf("State: %v", err)
	}
	wantAccounts(t, device)
}
