//go:build unix

package main

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/examples/internal/service"
)

// SIGTERM ends the program with status 0, with and without a broker. Refused credentials end it
// with status 1.
func TestSIGTERM(t *testing.T) {
	program := service.Build(t)
	b := mqtttest.Start(t)
	s := service.Start(t, program, "-broker", b.URL())
	s.Await("watching")
	c, err := client.New(client.Config{Servers: []string{b.URL()}, ClientID: "d", Presence: client.PresenceConfig{Status: &client.Status{Topic: "devices/d/status"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Await(fmt.Sprintf("%-40s online", "devices/d/status"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s.Await(fmt.Sprintf("%-40s offline", "devices/d/status"))
	s.Signal(syscall.SIGTERM)
	if code, _ := s.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	b.Kill()
	s = service.Start(t, program, "-broker", b.URL())
	s.Await("no connection")
	s.Signal(syscall.SIGTERM)
	if code, _ := s.Wait(); code != 0 {
		t.Errorf("without a broker: exit code %d, want 0", code)
	}

	strict := mqtttest.Start(t, func(o *mqtttest.Options) {
		o.Authenticate = func(context.Context, string, string, []byte) byte { return 0x86 }
	})
	s = service.Start(t, program, "-broker", strict.URL())
	if code, _ := s.Wait(); code != 1 {
		t.Errorf("refused: exit code %d, want 1", code)
	}
}
