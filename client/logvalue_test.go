package client_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestLogValue checks which figures a status line contains.
func TestLogValue(t *testing.T) {
	at := time.Date(2026, 12, 3, 7, 0, 0, 0, time.UTC)
	state := client.ConnectionState{Phase: client.PhaseWaiting, Since: at, DisconnectedSince: at, Server: "mqtt://b:1883", Attempt: 3, Err: errors.New("no route"), StoreErr: persistence.ErrDegraded}
	stats := client.Stats{PolicyDrops: 7, Store: persistence.Stats{Pending: 5, Expired: 2, Degraded: true, PendingOf: [persistence.Priorities]uint64{2, 2, 1}}}
	line := func(state client.ConnectionState, stats client.Stats) string {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("status", "state", state, "stats", stats)
		return out.String()
	}
	text := line(state, stats)
	for _, part := range []string{"state.phase=waiting", "state.disconnected_since=2026-12-03T07:00:00", "state.server=mqtt://b:1883", "state.attempt=3", `state.error="no route"`, "state.store_error=",
		"stats.pending=5", "stats.pending_high=2", "stats.pending_urgent=1", "stats.policy_drops=7", "stats.expired=2", "stats.degraded=true"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not contain %q", text, part)
		}
	}
	text = line(client.ConnectionState{Phase: client.PhaseConnected, Attempt: 1}, client.Stats{})
	if want := "state.phase=connected stats.pending=0 stats.in_flight=0 stats.acked=0 stats.handled=0\n"; !strings.HasSuffix(text, want) {
		t.Errorf("%q, want %q at the end", text, want)
	}
}
