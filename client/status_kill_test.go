package client_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// deviceEnv names the broker to the process that is to be killed.
const deviceEnv = "MOORING_STATUS_DEVICE"

// TestStatus_DeviceProcess is that process; by itself it does nothing.
func TestStatus_DeviceProcess(t *testing.T) {
	url := os.Getenv(deviceEnv)
	if url == "" {
		return
	}
	mustStart(t, client.Config{Servers: []string{url}, ClientID: "killed", Presence: client.PresenceConfig{Status: &client.Status{Topic: "status/c", Structured: true, Delay: time.Second, Heartbeat: time.Second}}})
	select {}
}

// TestStatus_KilledProcessIsOffline kills a real process with SIGKILL. The boot ID distinguishes the next
// process from it.
func TestStatus_KilledProcessIsOffline(t *testing.T) {
	t.Parallel()
	b := mqtttest.Start(t)
	status := func() (s presence.Status) {
		got, _ := b.Retained("status/c")
		s, _ = presence.Parse(got)
		return s
	}
	var boots []presence.BootID
	for range 2 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStatus_DeviceProcess$")
		cmd.Env = append(os.Environ(), deviceEnv+"="+b.URL())
		must(t, cmd.Start())
		must(t, b.WaitFor(t.Context(), func() bool { return status().State == presence.Online }))
		boots = append(boots, status().Boot)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		must(t, b.WaitFor(t.Context(), func() bool { return status().State == presence.Offline }))
		if s := status(); s.Reason != presence.ReasonWill || s.Boot != boots[len(boots)-1] {
			t.Errorf("after the kill the status is %+v", s)
		}
	}
	if boots[0] == boots[1] || boots[0].IsZero() {
		t.Errorf("two processes have the boot IDs %v", boots)
	}
}
