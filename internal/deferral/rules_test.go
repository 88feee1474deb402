package deferral_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestRules_FirstMatchApplies(t *testing.T) {
	rules := deferral.Compile([]deferral.Rule{
		{Filter: "a/+", Codes: []byte{quota, 0x83}, Action: deferral.GiveUp},
		{Filter: "a/#", Action: deferral.DeadLetter},
		{Codes: []byte{denied}, Action: deferral.Retry, Attempts: 7},
		{Filter: "b", Codes: []byte{wire.ReasonQoSNotSupported}, Action: deferral.LowerQoS},
	})
	for _, tt := range []struct {
		topic string
		code  byte
		want  deferral.Action
		tries int
	}{
		{"a/x", quota, deferral.GiveUp, 0},
		{"a/x", 0x83, deferral.GiveUp, 0},
		{"a/x", denied, deferral.DeadLetter, 0}, // another code
		{"a/x/y", quota, deferral.DeadLetter, 0},
		{"a", quota, deferral.DeadLetter, 0},
		{"c", denied, deferral.Retry, 7},
		{"c", quota, deferral.Retry, 0}, // the default
		{"c", wire.ReasonQoSNotSupported, deferral.GiveUp, 0},
		{"b", wire.ReasonQoSNotSupported, deferral.LowerQoS, 0},
		{"b", wire.ReasonTopicNameInvalid, deferral.GiveUp, 0},
	} {
		if got := rules.Of(tt.topic, tt.code); got.Action != tt.want || got.Attempts != tt.tries {
			t.Errorf("%q, 0x%02X: %+v, want action %d and %d attempts", tt.topic, tt.code, got, tt.want, tt.tries)
		}
	}
	wants(t, "b lowers the QoS", rules.LowersQoS("b"), true)
	wants(t, "c lowers the QoS", rules.LowersQoS("c"), false)
	wants(t, "a lowers the QoS", rules.LowersQoS("a"), false)
	wants(t, "no rule lowers the QoS", deferral.Compile(nil).LowersQoS("b"), false)
}

// A refusal is final if its code is about the message itself. Unknown codes are temporary.
func TestDefaultAction(t *testing.T) {
	final := map[byte]bool{0x81: true, 0x82: true, 0x8F: true, 0x90: true, 0x93: true, 0x94: true, 0x95: true, 0x99: true, 0x9A: true,
		0x9B: true, 0x9E: true, 0xA1: true, 0xA2: true}
	for code := 0x80; code <= 0xFF; code++ {
		want := deferral.Retry
		if final[byte(code)] {
			want = deferral.GiveUp
		}
		if got := deferral.DefaultAction(byte(code)); got != want {
			t.Errorf("0x%02X: %d, want %d", code, got, want)
		}
	}
}

// A rule for the end of connections lists the code, or 0 for an end without a code.
func TestRules_OfEnd(t *testing.T) {
	rules := deferral.Compile([]deferral.Rule{
		{Filter: "a/#", Action: deferral.DeadLetter},
		{Filter: "a/#", Codes: []byte{0, 0x99}, Action: deferral.GiveUp},
		{Codes: []byte{0x99}, Attempts: 7},
	})
	for _, tt := range []struct {
		topic string
		code  byte
		found bool
		want  deferral.Action
		tries int
	}{{"a/x", 0x99, true, deferral.GiveUp, 0}, {"a/x", 0, true, deferral.GiveUp, 0}, {"a/x", 0x80, false, 0, 0}, {"b", 0x99, true, deferral.Retry, 7}, {"b", 0, false, 0, 0}} {
		got, found := rules.OfEnd(tt.topic, tt.code)
		if found != tt.found || got.Action != tt.want || got.Attempts != tt.tries {
			t.Errorf("%q, 0x%02X: %+v, %v; want %+v", tt.topic, tt.code, got, found, tt)
		}
	}
}

func TestRule_Final(t *testing.T) {
	since := time.UnixMilli(1_700_000_000_000)
	for _, tt := range []struct {
		rule     deferral.Rule
		attempts int
		after    time.Duration
		want     bool
	}{
		{deferral.Rule{}, 1000, 1000 * time.Hour, false},
		{deferral.Rule{Attempts: 3}, 2, 1000 * time.Hour, false},
		{deferral.Rule{Attempts: 3}, 3, 0, true},
		{deferral.Rule{For: time.Hour}, 1000, time.Hour - 1, false},
		{deferral.Rule{For: time.Hour}, 1, time.Hour, true},
		{deferral.Rule{Attempts: 3, For: time.Hour}, 2, time.Minute, false},
		{deferral.Rule{Attempts: 3, For: time.Hour}, 2, time.Hour, true},
		{deferral.Rule{Attempts: 3, For: time.Hour}, 3, time.Minute, true},
	} {
		if got := tt.rule.Final(tt.attempts, since, since.Add(tt.after)); got != tt.want {
			t.Errorf("%+v after %d refusals and %v: %v", tt.rule, tt.attempts, tt.after, got)
		}
	}
}
