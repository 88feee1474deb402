package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// clean is a device's configuration with which all is well.
func clean() client.Config {
	return client.Config{
		Servers:  []string{"mqtts://broker.example.com"},
		ClientID: "press-4",
		Connection: client.ConnectionConfig{
			Username:   "press-4",
			Password:   []byte("secret"),
			KeepAlive:  time.Minute,
			AckTimeout: 20 * time.Second,
			Backoff:    reliability.Backoff{Max: 10 * time.Second},
		},
		Dir:        "outbox",
		Publishing: client.PublishingConfig{Sequenced: true, WaitTimeout: time.Minute},
		Presence:   client.PresenceConfig{Status: &client.Status{Topic: "presses/4/status", Structured: true, Heartbeat: time.Minute, Delay: time.Minute}},
	}
}

func TestLint_GoodConfigurations(t *testing.T) {
	for name, change := range map[string]func(*client.Config){
		"a device":          func(*client.Config) {},
		"the least":         func(c *client.Config) { *c = client.Config{Servers: []string{"mqtt://broker.example.com"}} },
		"no server":         func(c *client.Config) { *c = client.Config{} },
		"an invalid server": func(c *client.Config) { c.Servers = []string{"::", "mqtt://"} },
		"in the clear, locally": func(c *client.Config) {
			c.Servers = []string{"mqtt://localhost", "mqtt://127.0.0.1", "ws://[::1]", "unix:///run/mqtt"}
			c.Dir = ""
			c.Publishing.Sequenced = false
		},
		"own dialer": func(c *client.Config) {
			c.Servers[0] = "mqtt://broker.example.com"
			c.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) { return nil, net.ErrClosed }
			c.Connection.KeepAlive = time.Hour
		},
		"a watcher": func(c *client.Config) {
			*c = client.Config{Servers: c.Servers, Session: client.SessionConfig{Expiry: client.NoSession}}
		},
		"a will": func(c *client.Config) {
			c.Presence.Status, c.Presence.Will = nil, &client.Will{Topic: "w", QoS: 1, Retain: true, Delay: time.Hour}
		},
		"the session's end": func(c *client.Config) { c.Presence.Status.AtSessionEnd, c.Presence.Status.Delay = true, 0 },
		"short session, no waits": func(c *client.Config) {
			c.Session.Expiry, c.Connection.Backoff.Max, c.Presence.Status.Delay = time.Minute, 30*time.Second, time.Minute
		},
		"pinned certificate": func(c *client.Config) {
			c.TLS = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return nil }}
		},
		"roots":                  func(c *client.Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool()} },
		"dedupe that was filled": func(c *client.Config) { c.Receiving.Dedupe = filledDedupe(t) },
		"dedupe without a session": func(c *client.Config) {
			*c = client.Config{Servers: c.Servers, Receiving: client.ReceivingConfig{Dedupe: dedupe.NewMemory(dedupe.Options{})}}
		},
		"limits in memory": func(c *client.Config) {
			*c = client.Config{Servers: c.Servers, Store: client.StoreConfig{Options: persistence.Options{Limits: persistence.Limits{MaxMessages: 10}}}}
		},
		"refusals": func(c *client.Config) {
			c.Publishing.Refusals = []client.RefusalRule{{Action: client.LowerQoS}, {Filter: "a/#", Codes: []byte{0x87, 0x99}, Action: client.GiveUp}, {MaxTime: time.Hour}}
		},
		"web sockets": func(c *client.Config) {
			c.Servers[0], c.Connection.KeepAlive = "wss://broker.example.com", 59*time.Second
		},
		"a cluster": func(c *client.Config) {
			c.Servers, c.Session.Shared = append(c.Servers, "mqtts://other.example.com"), true
		},
		"one server, two ways": func(c *client.Config) {
			c.Servers = []string{"mqtts://broker.example.com:443", "wss://broker.example.com:443"}
			c.Connection.KeepAlive = 0
		},
	} {
		cfg := clean()
		change(&cfg)
		if found := cfg.Lint(); len(found) != 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func filledDedupe(t *testing.T) dedupe.Cache {
	m := dedupe.NewMemory(dedupe.Options{})
	claim, _, err := m.Begin(t.Context(), "x", "owner")
	must(t, err)
	must(t, m.Commit(t.Context(), claim))
	return m
}

// bad are configurations in which exactly one thing is wrong, by the name of what
// is found, and the fields that are named.
var bad = []struct {
	name, fields string
	change       func(*client.Config)
}{
	{"durable-without-session", "Session.Expiry Dir", func(c *client.Config) { c.Session.Expiry, c.Presence.Status = client.NoSession, nil }},
	{"durable-without-session", "Session.Expiry Store.Custom", func(c *client.Config) {
		c.Session.Expiry, c.Presence.Status, c.Dir, c.Store.Custom = client.NoSession, nil, "", persistence.NewMemory(persistence.Options{})
	}},
	{"refusals-give-up", "Publishing.Refusals", func(c *client.Config) {
		c.Publishing.Refusals = []client.RefusalRule{{Action: client.GiveUp}}
	}},
	{"refusals-give-up", "Publishing.Refusals", func(c *client.Config) {
		c.Store.DeadLetters = 10
		c.Publishing.Refusals = []client.RefusalRule{{Filter: "a/#", Codes: []byte{0x99, 0x83}, Action: client.SetAside}}
	}},
	{"refusals-unreached", "Publishing.Refusals", func(c *client.Config) {
		c.Publishing.Refusals = []client.RefusalRule{{Filter: "#"}, {Filter: "a", MaxAttempts: 2}}
	}},
	{"clean-start", "Session.CleanStart", func(c *client.Config) { c.Session.CleanStart = true }},
	{"session-shorter-than-backoff", "Session.Expiry Connection.Backoff.Max Connection.ConnectTimeout", func(c *client.Config) {
		c.Session.Expiry, c.Connection.Backoff, c.Presence.Status.Delay = 79*time.Second, reliability.Backoff{}, 0
	}},
	{"sync-never", "Store.Options.Sync Dir", func(c *client.Config) { c.Store.Options.Sync = persistence.SyncNever }},
	{"sync-interval", "Store.Options.Sync Dir", func(c *client.Config) { c.Store.Options.Sync = persistence.SyncInterval }},
	{"will-qos-0", "Presence.Will.QoS", func(c *client.Config) {
		c.Presence.Status, c.Presence.Will = nil, &client.Will{Topic: "w", Retain: true}
	}},
	{"will-not-retained", "Presence.Will.Retain", func(c *client.Config) { c.Presence.Status, c.Presence.Will = nil, &client.Will{Topic: "w", QoS: 1} }},
	{"will-after-session", "Presence.Status.Delay Session.Expiry", func(c *client.Config) { c.Presence.Status.Delay = 25 * time.Hour }},
	{"will-after-session", "Presence.Will.Delay Session.Expiry", func(c *client.Config) {
		*c = client.Config{Servers: c.Servers, Session: client.SessionConfig{Expiry: client.NoSession}, Presence: client.PresenceConfig{Will: &client.Will{Topic: "w", QoS: 1, Retain: true, Delay: time.Second}}}
	}},
	{"session-never-ends", "Presence.Status.AtSessionEnd Session.Expiry", func(c *client.Config) {
		c.Presence.Status.AtSessionEnd, c.Presence.Status.Delay, c.Session.Expiry = true, 0, 137*365*24*time.Hour
	}},
	{"keep-alive-beyond-nat", "Connection.KeepAlive", func(c *client.Config) { c.Connection.KeepAlive = 4 * time.Minute }},
	{"keep-alive-beyond-nat", "Connection.KeepAlive", func(c *client.Config) { c.Servers[0] = "wss://broker.example.com" }},
	{"no-keep-alive", "Connection.KeepAlive", func(c *client.Config) { c.Connection.KeepAlive = client.NoKeepAlive }},
	{"stop-always", "Connection.StopOn", func(c *client.Config) { c.Connection.StopOn.When = client.StopAlways }},
	{"numbers-in-memory", "Publishing.Sequenced Dir", func(c *client.Config) { c.Dir = "" }},
	{"publish-timeout", "Publishing.WaitTimeout Connection.ConnectTimeout", func(c *client.Config) { c.Publishing.WaitTimeout = 19 * time.Second }},
	{"options-without-dir", "Store.Options.Sync Dir", func(c *client.Config) {
		c.Dir, c.Publishing.Sequenced, c.Store.Options.Sync = "", false, persistence.SyncNever
	}},
	{"options-without-dir", "Store.Options.Sync Dir", func(c *client.Config) {
		c.Dir, c.Publishing.Sequenced, c.Store.Options.Interval = "", false, time.Second
	}},
	{"options-beside-store", "Store.Options Store.Custom", func(c *client.Config) {
		c.Dir, c.Store.Custom, c.Store.Options.Retention.MaxReceipts = "", persistence.NewMemory(persistence.Options{}), 10
	}},
	{"heartbeat-untold", "Presence.Status.Heartbeat Presence.Status.Structured", func(c *client.Config) { c.Presence.Status.Structured = false }},
	{"password-in-the-clear", "Servers Connection.Password", func(c *client.Config) {
		c.Servers = []string{"mqtt://localhost", "mqtt://10.0.0.1"}
		c.Dir, c.Publishing.Sequenced = "", false
	}},
	{"password-in-the-clear", "Servers Connection.Credentials", func(c *client.Config) {
		c.Servers, c.Connection.KeepAlive = []string{"ws://broker.example.com"}, 0
		c.Connection.Username, c.Connection.Password = "", nil
		c.Connection.Credentials = func(ctx context.Context) (client.Credentials, error) { return client.Credentials{}, nil }
	}},
	{"tls-unused", "TLS Servers", func(c *client.Config) {
		c.Servers[0], c.TLS, c.Connection.Password = "mqtt://broker.example.com", &tls.Config{}, nil
	}},
	{"tls-unverified", "TLS.InsecureSkipVerify", func(c *client.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }},
	{"receive-maximum-below-concurrency", "Receiving.ReceiveMaximum Receiving.Concurrency", func(c *client.Config) { c.Receiving.ReceiveMaximum = 7 }},
	{"receive-maximum-below-concurrency", "Receiving.ReceiveMaximum Receiving.Concurrency", func(c *client.Config) { c.Receiving.Concurrency = 1025 }},
	{"ack-timeout-short", "Connection.AckTimeout", func(c *client.Config) { c.Connection.AckTimeout = 7 * time.Second }},
	{"ack-timeout-beyond-keep-alive", "Connection.AckTimeout Connection.KeepAlive", func(c *client.Config) { c.Connection.AckTimeout = 91 * time.Second }},
	{"keep-alive-short", "Connection.KeepAlive", func(c *client.Config) { c.Connection.KeepAlive, c.Connection.AckTimeout = 4*time.Second, 0 }},
	{"backoff-short", "Connection.Backoff.Max", func(c *client.Config) { c.Connection.Backoff.Max = 999 * time.Millisecond }},
	{"session-nobody-finds", "Session.Expiry ClientID", func(c *client.Config) {
		c.ClientID, c.Dir, c.Publishing.Sequenced, c.Session.Expiry = "", "", false, 2*time.Hour
	}},
	{"dedupe-forgets", "Receiving.Dedupe", func(c *client.Config) { c.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{}) }},
	{"copies-unnoticed", "Dir", func(c *client.Config) { *client.IdentifiesFiles = false }},
	{"several-servers", "Servers Session.Shared Session.Expiry", func(c *client.Config) { c.Servers = append(c.Servers, "mqtts://other.example.com") }},
}

func TestLint_Findings(t *testing.T) {
	tested := map[string]bool{}
	for _, tt := range bad {
		cfg := clean()
		tt.change(&cfg)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: it is refused anyhow: %v", tt.name, err)
		}
		before := fmt.Sprint(cfg.Servers, cfg.ClientID, cfg.Presence.Will, cfg.Presence.Status)
		found := cfg.Lint()
		*client.IdentifiesFiles = true
		if after := fmt.Sprint(cfg.Servers, cfg.ClientID, cfg.Presence.Will, cfg.Presence.Status); after != before {
			t.Errorf("%s: Lint changed %s to %s", tt.name, before, after)
		}
		if len(found) != 1 || found[0].Name != tt.name || strings.Join(found[0].Fields, " ") != tt.fields {
			t.Errorf("%s (%s): found %v", tt.name, tt.fields, found)
		}
		tested[tt.name] = true
	}
	for _, rule := range client.LintRules {
		if !tested[rule.Name] {
			t.Errorf("no configuration shows %s", rule.Name)
		}
		if rule.Problem == "" || rule.Fix == "" || len(rule.Fields) == 0 {
			t.Errorf("%s lacks words", rule.Name)
		}
	}
}

// TestLint_OrdersBySeverity.
func TestLint_OrdersBySeverity(t *testing.T) {
	cfg := clean()
	cfg.Servers = append(cfg.Servers, "mqtt://other.example.com")
	cfg.Receiving.ReceiveMaximum, cfg.Session.CleanStart, cfg.Presence.Status.Delay = 1, true, 30*time.Hour
	var got []client.Severity
	for _, f := range cfg.Lint() {
		got = append(got, f.Severity)
	}
	if want := []client.Severity{client.Loses, client.Misleads, client.Exposes, client.Wasteful, client.Note}; !slices.Equal(got, want) {
		t.Errorf("the severities are %v, want %v", got, want)
	}
	if got := cfg.Lint()[1].String(); !strings.HasPrefix(got, "misleads: Presence.Status.Delay, Session.Expiry: the delay is longer than") || !strings.HasSuffix(got, "[will-after-session]") {
		t.Errorf("a finding reads %q", got)
	}
	if got := client.Severity(9).String(); got != "severity(9)" {
		t.Errorf("an unknown severity reads %q", got)
	}
}

// TestLint_StartLogsFindings, notes at level Info.
func TestLint_StartLogsFindings(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var log bytes.Buffer
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Receiving.ReceiveMaximum, cfg.Connection.AckTimeout = 1, time.Hour
		c := mustNew(t, cfg)
		if log.Len() > 0 {
			t.Errorf("New logs %s", &log)
		}
		start(t, c)
		s.accept(control.Connack{})
		connect(t, c)
		synctest.Wait()
		must(t, c.Close())
		for _, want := range []string{"level=WARN msg=\"configuration: ReceiveMaximum is lower than", "finding=receive-maximum-below-concurrency severity=wasteful fields=Receiving.ReceiveMaximum,Receiving.Concurrency fix=",
			"level=INFO msg=\"configuration: the keep alive ends a dead connection earlier", "finding=ack-timeout-beyond-keep-alive"} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("the log has not once %s:\n%s", want, &log)
			}
		}
	})
}

var updateDoctor = flag.Bool("update-doctor", false, "write the table of docs/doctor.md")

// TestLint_IsInTheDoctor: docs/doctor.md has a row for each rule.
func TestLint_IsInTheDoctor(t *testing.T) {
	const file, head = "../docs/doctor.md", "| name | severity | fields | what happens | what to write |\n|---|---|---|---|---|\n"
	have, err := os.ReadFile(file)
	must(t, err)
	intro, rest, ok := strings.Cut(string(have), head)
	if !ok {
		t.Fatalf("%s has no table", file)
	}
	_, outro, _ := strings.Cut(rest, "\n\n")
	var rows strings.Builder
	rules := slices.Clone(client.LintRules)
	slices.SortStableFunc(rules, func(a, b client.LintRule) int { return int(b.Severity) - int(a.Severity) })
	for _, r := range rules {
		_, _ = io.WriteString(&rows, fmt.Sprintf("| `%s` | %s | `%s` | %s | %s |\n", r.Name, r.Severity, strings.Join(r.Fields, "`, `"), r.Problem, r.Fix))
	}
	want := intro + head + rows.String() + "\n" + outro
	if *updateDoctor {
		must(t, os.WriteFile(file, []byte(want), 0o666))
	} else if want != string(have) {
		t.Errorf("%s is not what the rules say; run go test ./client -run TestLint_IsInTheDoctor -update-doctor", file)
	}
}

// TestLint_Fixes: the least that a fix names is enough.
func TestLint_Fixes(t *testing.T) {
	for name, change := range map[string]func(*client.Config){
		"Connection.AckTimeout":    func(c *client.Config) { c.Connection.AckTimeout = 8 * time.Second },
		"AckTimeout at most":       func(c *client.Config) { c.Connection.AckTimeout = 90 * time.Second },
		"Connection.KeepAlive":     func(c *client.Config) { c.Connection.KeepAlive, c.Connection.AckTimeout = 10*time.Second, 0 },
		"Receiving.ReceiveMaximum": func(c *client.Config) { c.Receiving.ReceiveMaximum, c.Receiving.Concurrency = 8, 8 },
	} {
		cfg := clean()
		change(&cfg)
		if found := cfg.Lint(); len(found) != 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}
