package client

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestStatusThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		field  string
		status Status
	}{
		{"", Status{Topic: "s", Structured: true, Version: "1.4.2", Heartbeat: time.Second, Delay: time.Minute, LeaveToWill: true}},
		{"", Status{Topic: "s", Heartbeat: time.Hour, AtSessionEnd: true, NoCorrection: true}},
		{"Presence.Status.Delay", Status{Topic: "s", AtSessionEnd: true, Delay: time.Second}},
		{"Presence.Status.Structured", Status{Topic: "s", Structured: true, Online: []byte("on")}},
		{"Presence.Status.Structured", Status{Topic: "s", Structured: true, Offline: []byte("off")}},
		{"Presence.Status.Version", Status{Topic: "s", Version: "1"}},
		{"Presence.Status.Version", Status{Topic: "s", Structured: true, Version: strings.Repeat("1", 129)}},
		{"Presence.Status.Version", Status{Topic: "s", Structured: true, Version: "\xff"}},
		{"Presence.Status.Heartbeat", Status{Topic: "s", Heartbeat: -1}},
		{"Presence.Status.Heartbeat", Status{Topic: "s", Heartbeat: time.Second - 1}},
		{"Presence.Status.Heartbeat", Status{Topic: "s", Heartbeat: 31 * 24 * time.Hour}},
	} {
		err := Config{Servers: []string{"mqtt://server"}, Presence: PresenceConfig{Status: &tt.status}}.Validate()
		var bad *ConfigError
		if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field || !strings.Contains(bad.Problem, ";") && !strings.Contains(bad.Problem, ",")) {
			t.Errorf("%+v: %v, want a problem of %q", tt.status, err, tt.field)
		}
	}
}

func TestStatusThatJustFits(t *testing.T) {
	long := make([]byte, 65_535)
	for name, s := range map[string]Status{
		"payloads":  {Online: long, Offline: long},
		"version":   {Structured: true, Version: strings.Repeat("1", 128)},
		"heartbeat": {Structured: true, Heartbeat: 30 * 24 * time.Hour},
	} {
		s.Topic = "s"
		if err := (Config{Servers: []string{"mqtt://server"}, Presence: PresenceConfig{Status: &s}}).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
