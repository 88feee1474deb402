package client_test

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// What a program may print with a flag of its own; Start logs the same.
func ExampleConfig_Lint() {
	cfg := client.Config{
		Servers: []string{"mqtts://broker.example.com"}, ClientID: "pump-7", Dir: "outbox",
		SessionExpiry: time.Hour,
		Status:        &client.Status{Topic: "pump/7/status", Delay: 2 * time.Hour},
		KeepAlive:     10 * time.Minute,
	}
	for _, finding := range cfg.Lint() {
		fmt.Println(finding.Severity, finding.Fields)
		fmt.Println("  ", finding.Fix)
	}
	// Output:
	// misleads [Status.Delay SessionExpiry]
	//    raise SessionExpiry above it; to be told of the session's end on purpose, use Status.AtSessionEnd
	// misleads [KeepAlive]
	//    use less than 4 minutes, less than 60 s with ws and wss; the default is 30 s
}
