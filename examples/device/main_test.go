//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/examples/internal/service"
	"github.com/mooring-mqtt/mooring/persistence"
)

// On SIGTERM, the device delivers the accepted messages, publishes offline and exits with
// status 0. Without a broker, the pending messages stay on disk and the exit status is 0 too. A
// second signal ends the device at once. Refused credentials end it with status 1.
func TestSIGTERM(t *testing.T) {
	program := service.Build(t)
	args := func(b *mqtttest.Broker, dir string) []string {
		return []string{"-broker", b.URL(), "-id", "d", "-dir", dir, "-every", "50ms"}
	}
	t.Run("connected", func(t *testing.T) {
		b, dir := mqtttest.Start(t), t.TempDir()
		s := service.Start(t, program, args(b, dir)...)
		if err := b.WaitFor(t.Context(), func() bool {
			status, _ := b.Retained("devices/d/status")
			return string(status) == "online" && b.Stats().MessagesIn > 20
		}); err != nil {
			t.Fatal(err)
		}
		s.Signal(syscall.SIGTERM)
		if code, _ := s.Wait(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		if status, _ := b.Retained("devices/d/status"); string(status) != "offline" {
			t.Errorf("the status is %q", status)
		}
		if b.Stats().WillsPublished != 0 {
			t.Error("the broker published the will message")
		}
		if n := pending(t, dir); n != 0 {
			t.Errorf("%d messages are pending", n)
		}
	})
	t.Run("the broker is gone", func(t *testing.T) {
		b, dir := mqtttest.Start(t), t.TempDir()
		s := service.Start(t, program, args(b, dir)...)
		s.Await("connected true")
		b.Kill()
		s.Await("connected false")
		s.Signal(syscall.SIGTERM)
		if code, took := s.Wait(); code != 0 || took > 30*time.Second {
			t.Errorf("exit code %d after %v, want 0 after the 5 s that the device drains for", code, took)
		}
		if n := pending(t, dir); n == 0 || !strings.Contains(s.Output(), fmt.Sprintf("ended with %d messages pending", n)) {
			t.Errorf("%d messages are pending; the output is:\n%s", n, s.Output())
		}
	})
	t.Run("twice", func(t *testing.T) {
		b := mqtttest.Start(t)
		s := service.Start(t, program, args(b, t.TempDir())...)
		s.Await("connected true")
		b.Kill()
		s.Await("connected false")
		s.Signal(syscall.SIGTERM)
		// The test cannot know whether the device has handled the first signal. So it repeats
		// the signal until the device ends.
		for began := time.Now(); time.Since(began) < 4*time.Second; time.Sleep(100 * time.Millisecond) {
			if s.TrySignal(syscall.SIGTERM) != nil {
				break
			}
		}
		if code, _ := s.Wait(); code != -1 {
			t.Errorf("exit code %d, want -1: ended by the signal", code)
		}
	})
	t.Run("refused", func(t *testing.T) {
		b := mqtttest.Start(t, func(o *mqtttest.Options) {
			o.Authenticate = func(context.Context, string, string, []byte) byte { return 0x86 }
		})
		s := service.Start(t, program, args(b, t.TempDir())...)
		if code, _ := s.Wait(); code != 1 || !strings.Contains(s.Output(), "device:") {
			t.Errorf("exit code %d, want 1 and an error message", code)
		}
	})
}

// pending returns the number of pending messages in a store.
func pending(t *testing.T, dir string) int64 {
	t.Helper()
	log, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	return int64(log.Stats().Pending)
}
