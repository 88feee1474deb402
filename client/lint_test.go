package client

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

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// clean is a device's configuration with which all is well.
func clean() Config {
	return Config{
		Servers: []string{"mqtts://broker.example.com"}, ClientID: "press-4", Username: "press-4", Password: []byte("secret"),
		Dir: "outbox", Sequenced: true, PublishTimeout: time.Minute, KeepAlive: time.Minute, AckTimeout: 20 * time.Second,
		Status:  &Status{Topic: "presses/4/status", Structured: true, Heartbeat: time.Minute, Delay: time.Minute},
		Backoff: reliability.Backoff{Max: 10 * time.Second},
	}
}

func TestGoodConfigurationsHaveNoFindings(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"a device":              func(*Config) {},
		"the least":             func(c *Config) { *c = Config{Servers: []string{"mqtt://broker.example.com"}} },
		"no server":             func(c *Config) { *c = Config{} },
		"a server that is none": func(c *Config) { c.Servers = []string{"::", "mqtt://"} },
		"in the clear, locally": func(c *Config) {
			c.Servers = []string{"mqtt://localhost", "mqtt://127.0.0.1", "ws://[::1]", "unix:///run/mqtt"}
			c.Dir = ""
			c.Sequenced = false
		},
		"own dialer": func(c *Config) {
			c.Servers[0] = "mqtt://broker.example.com"
			c.Dial = func(context.Context, *url.URL) (net.Conn, error) { return nil, net.ErrClosed }
			c.KeepAlive = time.Hour
		},
		"a watcher":         func(c *Config) { *c = Config{Servers: c.Servers, SessionExpiry: NoSession} },
		"a will":            func(c *Config) { c.Status, c.Will = nil, &Will{Topic: "w", QoS: 1, Retain: true, Delay: time.Hour} },
		"the session's end": func(c *Config) { c.Status.AtSessionEnd, c.Status.Delay = true, 0 },
		"short session, no waits": func(c *Config) {
			c.SessionExpiry, c.Backoff.Max, c.Status.Delay = time.Minute, 30*time.Second, time.Minute
		},
		"pinned certificate": func(c *Config) {
			c.TLS = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return nil }}
		},
		"roots":                    func(c *Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool()} },
		"dedupe that was filled":   func(c *Config) { c.Dedupe = filledDedupe(t) },
		"dedupe without a session": func(c *Config) { *c = Config{Servers: c.Servers, Dedupe: dedupe.NewMemory(dedupe.Options{})} },
		"limits in memory":         func(c *Config) { *c = Config{Servers: c.Servers, DirOptions: persistence.Options{MaxMessages: 10}} },
		"sync by interval":         func(c *Config) { c.DirOptions.Sync = persistence.SyncInterval },
		"web sockets":              func(c *Config) { c.Servers[0], c.KeepAlive = "wss://broker.example.com", 59*time.Second },
		"one server, two ways": func(c *Config) {
			c.Servers = []string{"mqtts://broker.example.com:443", "wss://broker.example.com:443"}
			c.KeepAlive = 0
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
	_, err := m.Begin("x")
	must(t, err)
	must(t, m.Commit("x"))
	return m
}

// bad are configurations in which exactly one thing is wrong, by the name of what
// is found, and the fields that are named.
var bad = []struct {
	name, fields string
	change       func(*Config)
}{
	{"durable-without-session", "SessionExpiry Dir", func(c *Config) { c.SessionExpiry, c.Status = NoSession, nil }},
	{"durable-without-session", "SessionExpiry Store", func(c *Config) {
		c.SessionExpiry, c.Status, c.Dir, c.Store = NoSession, nil, "", persistence.NewMemory(persistence.Options{})
	}},
	{"clean-start", "CleanStart", func(c *Config) { c.CleanStart = true }},
	{"session-shorter-than-backoff", "SessionExpiry Backoff.Max ConnectTimeout", func(c *Config) {
		c.SessionExpiry, c.Backoff, c.Status.Delay = 79*time.Second, reliability.Backoff{}, 0
	}},
	{"sync-never", "DirOptions.Sync Dir", func(c *Config) { c.DirOptions.Sync = persistence.SyncNever }},
	{"will-qos-0", "Will.QoS", func(c *Config) { c.Status, c.Will = nil, &Will{Topic: "w", Retain: true} }},
	{"will-not-retained", "Will.Retain", func(c *Config) { c.Status, c.Will = nil, &Will{Topic: "w", QoS: 1} }},
	{"will-after-session", "Status.Delay SessionExpiry", func(c *Config) { c.Status.Delay = 25 * time.Hour }},
	{"will-after-session", "Will.Delay SessionExpiry", func(c *Config) {
		*c = Config{Servers: c.Servers, SessionExpiry: NoSession, Will: &Will{Topic: "w", QoS: 1, Retain: true, Delay: time.Second}}
	}},
	{"session-never-ends", "Status.AtSessionEnd SessionExpiry", func(c *Config) {
		c.Status.AtSessionEnd, c.Status.Delay, c.SessionExpiry = true, 0, 137*365*24*time.Hour
	}},
	{"keep-alive-beyond-nat", "KeepAlive", func(c *Config) { c.KeepAlive = 4 * time.Minute }},
	{"keep-alive-beyond-nat", "KeepAlive", func(c *Config) { c.Servers[0] = "wss://broker.example.com" }},
	{"numbers-in-memory", "Sequenced Dir", func(c *Config) { c.Dir = "" }},
	{"publish-timeout", "PublishTimeout ConnectTimeout", func(c *Config) { c.PublishTimeout = 19 * time.Second }},
	{"options-without-dir", "DirOptions.Sync Dir", func(c *Config) {
		c.Dir, c.Sequenced, c.DirOptions.Sync = "", false, persistence.SyncNever
	}},
	{"options-without-dir", "DirOptions.Sync Dir", func(c *Config) {
		c.Dir, c.Sequenced, c.DirOptions.Interval = "", false, time.Second
	}},
	{"options-beside-store", "DirOptions Store", func(c *Config) {
		c.Dir, c.Store, c.DirOptions.MaxReceipts = "", persistence.NewMemory(persistence.Options{}), 10
	}},
	{"heartbeat-untold", "Status.Heartbeat Status.Structured", func(c *Config) { c.Status.Structured = false }},
	{"password-in-the-clear", "Servers Password", func(c *Config) {
		c.Servers = []string{"mqtt://localhost", "mqtt://10.0.0.1"}
		c.Dir, c.Sequenced = "", false
	}},
	{"password-in-the-clear", "Servers Credentials", func(c *Config) {
		c.Servers, c.KeepAlive = []string{"ws://broker.example.com"}, 0
		c.Username, c.Password = "", nil
		c.Credentials = func(ctx context.Context) (Credentials, error) { return Credentials{}, nil }
	}},
	{"tls-unused", "TLS Servers", func(c *Config) { c.Servers[0], c.TLS, c.Password = "mqtt://broker.example.com", &tls.Config{}, nil }},
	{"tls-unverified", "TLS.InsecureSkipVerify", func(c *Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }},
	{"receive-maximum-below-lanes", "ReceiveMaximum Lanes", func(c *Config) { c.ReceiveMaximum = 7 }},
	{"receive-maximum-below-lanes", "ReceiveMaximum Lanes", func(c *Config) { c.Lanes = 1025 }},
	{"ack-timeout-short", "AckTimeout", func(c *Config) { c.AckTimeout = 7 * time.Second }},
	{"ack-timeout-beyond-keep-alive", "AckTimeout KeepAlive", func(c *Config) { c.AckTimeout = 91 * time.Second }},
	{"keep-alive-short", "KeepAlive", func(c *Config) { c.KeepAlive, c.AckTimeout = 4*time.Second, 0 }},
	{"backoff-short", "Backoff.Max", func(c *Config) { c.Backoff.Max = 999 * time.Millisecond }},
	{"session-nobody-finds", "SessionExpiry ClientID", func(c *Config) {
		c.ClientID, c.Dir, c.Sequenced, c.SessionExpiry = "", "", false, 2*time.Hour
	}},
	{"dedupe-forgets", "Dedupe", func(c *Config) { c.Dedupe = dedupe.NewMemory(dedupe.Options{}) }},
	{"several-servers", "Servers SessionExpiry", func(c *Config) { c.Servers = append(c.Servers, "mqtts://other.example.com") }},
}

func TestWhatIsFound(t *testing.T) {
	tested := map[string]bool{}
	for _, tt := range bad {
		cfg := clean()
		tt.change(&cfg)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: it is refused anyhow: %v", tt.name, err)
		}
		before := fmt.Sprint(cfg.Servers, cfg.ClientID, cfg.Will, cfg.Status)
		found := cfg.Lint()
		if after := fmt.Sprint(cfg.Servers, cfg.ClientID, cfg.Will, cfg.Status); after != before {
			t.Errorf("%s: Lint changed %s to %s", tt.name, before, after)
		}
		if len(found) != 1 || found[0].Name != tt.name || strings.Join(found[0].Fields, " ") != tt.fields {
			t.Errorf("%s (%s): found %v", tt.name, tt.fields, found)
		}
		tested[tt.name] = true
	}
	for _, rule := range lintRules {
		if !tested[rule.Name] {
			t.Errorf("no configuration shows %s", rule.Name)
		}
		if rule.Problem == "" || rule.Fix == "" || len(rule.Fields) == 0 {
			t.Errorf("%s lacks words", rule.Name)
		}
	}
}

// TestTheWorstIsFirst.
func TestTheWorstIsFirst(t *testing.T) {
	cfg := clean()
	cfg.Servers = append(cfg.Servers, "mqtt://other.example.com")
	cfg.ReceiveMaximum, cfg.CleanStart, cfg.Status.Delay = 1, true, 30*time.Hour
	var got []Severity
	for _, f := range cfg.Lint() {
		got = append(got, f.Severity)
	}
	if want := []Severity{Loses, Misleads, Exposes, Wasteful, Note}; !slices.Equal(got, want) {
		t.Errorf("the severities are %v, want %v", got, want)
	}
	if got := cfg.Lint()[1].String(); !strings.HasPrefix(got, "misleads: Status.Delay, SessionExpiry is longer than") || !strings.HasSuffix(got, "[will-after-session]") {
		t.Errorf("a finding reads %q", got)
	}
	if got := Severity(9).String(); got != "severity(9)" {
		t.Errorf("an unknown severity reads %q", got)
	}
}

// TestStartLogsWhatIsFound, notes at level Info.
func TestStartLogsWhatIsFound(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var log bytes.Buffer
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.ReceiveMaximum, cfg.AckTimeout = 1, time.Hour
		c := mustNew(t, cfg)
		if log.Len() > 0 {
			t.Errorf("New logs %s", &log)
		}
		start(t, c)
		s.accept(control.Connack{})
		connect(t, c)
		synctest.Wait()
		must(t, c.Close())
		for _, want := range []string{"level=WARN msg=\"configuration: is lower than", "finding=receive-maximum-below-lanes severity=wasteful fields=ReceiveMaximum,Lanes fix=",
			"level=INFO msg=\"configuration: is longer than a dead link", "finding=ack-timeout-beyond-keep-alive"} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("the log has not once %s:\n%s", want, &log)
			}
		}
	})
}

var updateDoctor = flag.Bool("update-doctor", false, "write the table of docs/doctor.md")

// TestTheDoctorsTable: docs/doctor.md has a row for each rule.
func TestTheDoctorsTable(t *testing.T) {
	const file, head = "../docs/doctor.md", "| name | severity | fields | what happens | what to write |\n|---|---|---|---|---|\n"
	have, err := os.ReadFile(file)
	must(t, err)
	intro, rest, ok := strings.Cut(string(have), head)
	if !ok {
		t.Fatalf("%s has no table", file)
	}
	_, outro, _ := strings.Cut(rest, "\n\n")
	var rows strings.Builder
	rules := slices.Clone(lintRules)
	slices.SortStableFunc(rules, func(a, b lintRule) int { return int(b.Severity) - int(a.Severity) })
	for _, r := range rules {
		_, _ = io.WriteString(&rows, fmt.Sprintf("| `%s` | %s | `%s` | %s | %s |\n", r.Name, r.Severity, strings.Join(r.Fields, "`, `"), r.Problem, r.Fix))
	}
	want := intro + head + rows.String() + "\n" + outro
	if *updateDoctor {
		must(t, os.WriteFile(file, []byte(want), 0o666))
	} else if want != string(have) {
		t.Errorf("%s is not what the rules say; run go test ./client -run TheDoctorsTable -update-doctor", file)
	}
}

// TestTheFixesAreClean: the least that a fix names is enough.
func TestTheFixesAreClean(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"AckTimeout":         func(c *Config) { c.AckTimeout = 8 * time.Second },
		"AckTimeout at most": func(c *Config) { c.AckTimeout = 90 * time.Second },
		"KeepAlive":          func(c *Config) { c.KeepAlive, c.AckTimeout = 10*time.Second, 0 },
		"ReceiveMaximum":     func(c *Config) { c.ReceiveMaximum, c.Lanes = 8, 8 },
	} {
		cfg := clean()
		change(&cfg)
		if found := cfg.Lint(); len(found) != 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}
