package client_test

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// What a program may print with a flag of its own; Start logs the same.
func ExampleConfig_Lint() {
	cfg := client.Config{
		Servers:    []string{"mqtts://broker.example.com"},
		ClientID:   "pump-7",
		Dir:        "outbox",
		Session:    client.SessionConfig{Expiry: time.Hour},
		Presence:   client.PresenceConfig{Status: &client.Status{Topic: "pump/7/status", Delay: 2 * time.Hour}},
		Connection: client.ConnectionConfig{KeepAlive: 10 * time.Minute},
	}
	for _, finding := range cfg.Lint() {
		fmt.Println(finding.Severity, finding.Fields)
		fmt.Println("  ", finding.Fix)
	}
	// Output:
	// misleads [Presence.Status.Delay Session.Expiry]
	//    raise Session.Expiry above the delay; to publish the end of the session on purpose, use Status.AtSessionEnd
	// misleads [Connection.KeepAlive]
	//    use less than 4 minutes, or less than 60 s with ws and wss; the default is 30 s
}
