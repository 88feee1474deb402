package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

func TestStatus_RejectsInvalidConfig(t *testing.T) {
	for _, tt := range []struct {
		field  string
		status client.Status
	}{
		{"", client.Status{Topic: "s", Structured: true, Version: "1.4.2", Heartbeat: time.Second, Delay: time.Minute, LeaveToWill: true}},
		{"", client.Status{Topic: "s", Heartbeat: time.Hour, AtSessionEnd: true, NoCorrection: true}},
		{"Presence.Status.Delay", client.Status{Topic: "s", AtSessionEnd: true, Delay: time.Second}},
		{"Presence.Status.Structured", client.Status{Topic: "s", Structured: true, Online: []byte("on")}},
		{"Presence.Status.Structured", client.Status{Topic: "s", Structured: true, Offline: []byte("off")}},
		{"Presence.Status.Version", client.Status{Topic: "s", Version: "1"}},
		{"Presence.Status.Details", client.Status{Topic: "s", Details: func() map[string]string { return nil }}},
		{"Presence.Status.Version", client.Status{Topic: "s", Structured: true, Version: strings.Repeat("1", 129)}},
		{"Presence.Status.Version", client.Status{Topic: "s", Structured: true, Version: "\xff"}},
		{"Presence.Status.Heartbeat", client.Status{Topic: "s", Heartbeat: -1}},
		{"Presence.Status.Heartbeat", client.Status{Topic: "s", Heartbeat: time.Second - 1}},
		{"Presence.Status.Heartbeat", client.Status{Topic: "s", Heartbeat: 31 * 24 * time.Hour}},
	} {
		err := client.Config{Servers: []string{"mqtt://server"}, Presence: client.PresenceConfig{Status: &tt.status}}.Validate()
		var bad *client.ConfigError
		if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field || !strings.Contains(bad.Problem, ";") && !strings.Contains(bad.Problem, ",")) {
			t.Errorf("%+v: %v, want a problem of %q", tt.status, err, tt.field)
		}
	}
}

func TestStatus_LargestConfig(t *testing.T) {
	long := make([]byte, 65_535)
	for name, s := range map[string]client.Status{
		"payloads":  {Online: long, Offline: long},
		"version":   {Structured: true, Version: strings.Repeat("1", 128)},
		"heartbeat": {Structured: true, Heartbeat: 30 * 24 * time.Hour},
	} {
		s.Topic = "s"
		if err := (client.Config{Servers: []string{"mqtt://server"}, Presence: client.PresenceConfig{Status: &s}}).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
