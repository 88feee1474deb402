package client_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/ostest"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// outageRig is a device whose log is on a real file system, and a backend. The device connects through a proxy.
type outageRig struct {
	t        *testing.T
	broker   *mqtttest.Broker
	proxy    *mqtttest.Proxy
	got      *messageLog
	events   recorder
	cfg      client.Config
	device   *client.Client
	accepted []string
	tried    int
}

func newOutageRig(t *testing.T, dir string) *outageRig {
	r := &outageRig{t: t, broker: mqtttest.Start(t), got: newInbox()}
	r.proxy = mqtttest.StartProxy(t, r.broker.Addr())
	cfg := client.Config{Servers: []string{r.broker.URL()}, ClientID: "backend"}
	cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{}) // QoS 1 messages can be resent after a restart
	backend := mustStart(t, cfg)
	t.Cleanup(func() { _ = backend.Close() })
	connect(t, backend)
	must1(backend.Subscribe(t.Context(), "up", client.ExactlyOnce, r.got))

	r.cfg = client.Config{Servers: []string{r.proxy.URL()}, ClientID: "device", Dir: dir, OnEvent: r.events.add}
	r.cfg.Connection.Backoff = reliability.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	r.cfg.Store.Options.Limits.MaxDiskBytes = 64 << 20 // more than the file system holds
	r.cfg.Store.Options.Files = persistence.Files{SegmentBytes: 256 << 10, BufferBytes: 16 << 10, PreallocateBytes: 16 << 10}
	r.start()
	return r
}

func (r *outageRig) start() {
	r.t.Helper()
	r.device = mustStart(r.t, r.cfg)
	connect(r.t, r.device)
}

// send publishes a message of about 1 KiB, at QoS 1 and 2 in turn.
func (r *outageRig) send() error {
	r.tried++
	payload := fmt.Sprintf("%d %1000d", r.tried, 0)
	_, err := r.device.Publish(r.t.Context(), client.Message{Topic: "up", Payload: []byte(payload), QoS: client.QoS(1 + r.tried%2)})
	if err == nil {
		r.accepted = append(r.accepted, payload)
	}
	return err
}

// sendUntilRefused publishes until the disk takes no more. It calls before ahead of each message.
func (r *outageRig) sendUntilRefused(cause error, before func()) {
	r.t.Helper()
	var err error
	for err == nil {
		before()
		err = r.send()
	}
	if !errors.Is(err, persistence.ErrDegraded) || !errors.Is(err, cause) {
		r.t.Fatalf("Publish after %d messages: %v", len(r.accepted), err)
	}
}

// waitRefused publishes for some time while the disk takes nothing, and checks how much processor time this process
// uses meanwhile: the device, the proxy, the broker and the backend.
func (r *outageRig) waitRefused(d time.Duration) {
	r.t.Helper()
	runtime.GC() // of what the test has left
	begin, cpu := time.Now(), ostest.CPUTime(r.t)
	for time.Since(begin) < d {
		time.Sleep(100 * time.Millisecond)
		if err := r.send(); !errors.Is(err, persistence.ErrDegraded) {
			r.t.Fatalf("Publish: %v", err)
		}
	}
	share := float64(ostest.CPUTime(r.t)-cpu) / float64(time.Since(begin))
	r.t.Logf("%.2f%% CPU while waiting", 100*share)
	if share > 0.05 {
		r.t.Errorf("%.1f%% of a processor while waiting", 100*share)
	}
}

// eventually retries f for up to 30 s.
func (r *outageRig) eventually(what string, f func() error) {
	r.t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			r.t.Fatalf("%s: %v", what, err)
		}
	}
}

func (r *outageRig) drained() error {
	if s := r.device.Stats().Store; s.Pending > 0 {
		return fmt.Errorf("%d messages are pending", s.Pending)
	}
	return nil
}

// check closes the device. Each accepted message has arrived once, in order; a message whose outcome was unknown may
// have arrived too.
func (r *outageRig) check() {
	r.t.Helper()
	r.eventually("drain", r.drained)
	want := map[string]bool{}
	for _, payload := range r.accepted {
		want[payload] = true
	}
	r.eventually("arrival", func() error {
		n := 0
		for _, payload := range r.got.payloads() {
			if want[payload] {
				n++
			}
		}
		if n != len(r.accepted) {
			return fmt.Errorf("%d of %d accepted messages have arrived", n, len(r.accepted))
		}
		return nil
	})
	var came []string
	for _, payload := range r.got.payloads() {
		if want[payload] {
			came = append(came, payload)
		}
	}
	for i, payload := range r.accepted {
		if came[i] != payload {
			r.t.Fatalf("message %d is %.6q, want %.6q", i, came[i], payload)
		}
	}
	wantAccounts(r.t, r.device)
	if s := r.device.Stats().Store; s.Lost+uint64(s.Corruptions) > 0 || s.Degraded {
		r.t.Errorf("%+v", s)
	}
	must(r.t, r.device.Close())
	r.t.Logf("%d messages were accepted and delivered, %d were refused", len(r.accepted), r.tried-len(r.accepted))
}

// A device fills a file system of 4 MiB while it is offline, and another process takes the rest. The device sends
// everything from the full disk, also after a restart on the full disk, and accepts messages again when there is
// room.
func TestOutage_FullFileSystem(t *testing.T) {
	if _, child := ostest.InChild(t); !child {
		return
	}
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			disk := ostest.SmallDisk(t)
			r := newOutageRig(t, filepath.Join(disk, "log"))
			r.proxy.Refuse(true)
			r.proxy.Cut()
			r.sendUntilRefused(syscall.ENOSPC, func() {})
			free := ostest.FillDisk(t, disk)
			r.waitRefused(time.Second)
			r.proxy.Refuse(false)
			if restart {
				if err := r.device.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				r.start()
			}
			r.eventually("drain of the full disk", r.drained)
			free()
			r.eventually("Publish", r.send)
			for range 10 {
				must(t, r.send())
			}
			awaitEvents[client.StoreDegraded](t, &r.events, 1, 10*time.Second)
			if !restart { // after a restart the log has its reserve and does not degrade again
				awaitEvents[client.StoreRecovered](t, &r.events, 1, 10*time.Second)
			}
			r.check()
		})
	}
}

// A process uses up its file descriptors while a client is connected and while it is offline. The client keeps what
// it has accepted and continues when there are descriptors.
func TestOutage_FileDescriptors(t *testing.T) {
	dir, child := ostest.InChild(t)
	if !child {
		return
	}
	ostest.LimitFiles(t, 128)
	r := newOutageRig(t, dir)
	for _, heal := range []func(files []*os.File){
		func([]*os.File) { ostest.LimitFiles(t, 256) },
		func(files []*os.File) {
			for _, f := range files {
				must(t, f.Close())
			}
		},
	} {
		for range 20 {
			must(t, r.send())
		}
		r.proxy.Refuse(true)
		r.proxy.Cut() // otherwise the log reuses the descriptors of segments that it removes
		var files []*os.File
		r.sendUntilRefused(syscall.EMFILE, func() { // at the next segment
			files = append(files, ostest.ExhaustFiles(t)...) // the sockets that were cut free some
		})
		r.waitRefused(time.Second)
		r.proxy.Refuse(false) // a new connection needs descriptors too
		r.waitRefused(time.Second)
		heal(files)
		r.eventually("Publish", r.send)
	}
	r.check()
}

// While the disk does not answer, the callers of Publish and the client wait without using the processor.
func TestHang_UsesNoProcessor(t *testing.T) {
	if _, child := ostest.InChild(t); !child {
		return
	}
	broker, disk := mqtttest.Start(t), faultfs.New()
	cfg := client.Config{Servers: []string{broker.URL()}, ClientID: "device", Dir: "log"}
	cfg.Store.Options.FS = disk
	c := mustStart(t, cfg)
	connect(t, c)
	for range 3 { // the client bases its waiting on the duration of the last fsync
		release := hangDisk(disk, faultfs.Sync)
		results := make(chan error, 16)
		for range cap(results) {
			go func() {
				_, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce})
				results <- err
			}()
		}
		time.Sleep(100 * time.Millisecond)
		begin, cpu := time.Now(), ostest.CPUTime(t)
		time.Sleep(time.Second)
		share := float64(ostest.CPUTime(t)-cpu) / float64(time.Since(begin))
		t.Logf("%.2f%% CPU while waiting", 100*share)
		if share > 0.05 {
			t.Errorf("%.1f%% of a processor while waiting", 100*share)
		}
		release()
		for range cap(results) {
			must(t, <-results)
		}
	}
	must(t, c.Drain(t.Context()))
}
