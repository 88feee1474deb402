package main

import (
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

// TestHello: each reading is handled once, and QoS 0 is not enough for that.
func TestHello(t *testing.T) {
	if err := run(t.Context(), t.TempDir(), client.ExactlyOnce); err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), t.TempDir(), client.AtMostOnce); err == nil {
		t.Error("no reading was lost with QoS 0")
	}
}
