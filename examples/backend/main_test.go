//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/examples/internal/service"
)

// On SIGTERM, the backend exits with status 0, with and without a broker. Each handled message is
// in the file and acknowledged, and the broker keeps the session.
func TestSIGTERM(t *testing.T) {
	program := service.Build(t)
	b, dir := mqtttest.Start(t), t.TempDir()
	s := service.Start(t, program, "-broker", b.URL(), "-dir", dir)
	s.Await("connected true")
	c, err := client.New(client.Config{Servers: []string{b.URL()}, ClientID: "d"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 50
	for range n {
		if _, err := c.Publish(t.Context(), client.Message{Topic: "devices/d/readings/x", Payload: []byte(`{"value":1}`), QoS: client.ExactlyOnce}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "results.jsonl")
	lines := func() int {
		got, _ := os.ReadFile(file) // the file may not exist yet
		return strings.Count(string(got), "\n")
	}
	if err := b.WaitFor(t.Context(), func() bool { return lines() == n && b.Stats().InFlight == 0 }); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGTERM)
	if code, _ := s.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if err := b.WaitFor(context.Background(), func() bool { return !b.Connected("backend-1") }); err != nil || !b.Session("backend-1") {
		t.Errorf("the session is gone: %v", err)
	}
	b.Kill()
	s = service.Start(t, program, "-broker", b.URL(), "-dir", dir)
	s.Await("connected false")
	s.Signal(syscall.SIGTERM)
	if code, _ := s.Wait(); code != 0 || lines() != n {
		t.Errorf("without a broker: exit code %d, %d lines", code, lines())
	}
}
