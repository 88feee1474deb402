package main

import (
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

// TestOffline: the outcomes are as the settings promise, and the check detects lost alarms.
func TestOffline(t *testing.T) {
	if err := run(t.Context(), t.TempDir(), client.High); err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), t.TempDir(), client.Normal); err == nil || !strings.Contains(err.Error(), "alarm") {
		t.Errorf("with alarms of the normal priority: %v, want a lost alarm", err)
	}
}
