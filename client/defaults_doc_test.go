package client

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/configdoc"
)

// TestConfig_DocumentedDefaults compares docs/reference/configuration.md, which repeats the doc
// comments, with the defaults in the code.
func TestConfig_DocumentedDefaults(t *testing.T) {
	configdoc.CheckDefaults(t, "..", "client.Config", Config{ClientID: "c"}.withDefaults(), map[string]any{
		"ClientID":               "c", // otherwise random
		"Publishing.Publisher":   "c",
		"Connection.StableAfter": 0, // that of reliability.Retry
		// Those of reliability.Backoff.
		"Connection.Backoff.Min": 0, "Connection.Backoff.Max": 0, "Receiving.HandlerBackoff.Min": 0,
	})
}
