package main

import (
	"strings"
	"testing"
	"time"
)

// TestPresence: both backends report what happened, and the program detects an outage that the will
// delay should hide.
func TestPresence(t *testing.T) {
	if err := run(t.Context(), 3*time.Second); err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "returns: online -> offline") {
		t.Errorf("without a will delay: %v, want a reported outage", err)
	}
}
