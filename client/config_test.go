package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

func noDial(context.Context, *url.URL) (net.Conn, error)              { return nil, net.ErrClosed }
func noRequest(context.Context, *client.WebSocketRequest) error       { return nil }
func noCredentials(context.Context) (c client.Credentials, err error) { return c, err }

// refusals sets the rules for refused messages.
func refusals(rules ...client.RefusalRule) func(*client.Config) {
	return func(c *client.Config) { c.Publishing.Refusals = rules }
}

func TestConfig_Validate(t *testing.T) {
	long := strings.Repeat("x", 65_536)
	full := long[:65_535]
	for _, tt := range []struct {
		field string // "" if the Config is valid
		set   func(*client.Config)
	}{
		{"", func(*client.Config) {}},
		{"Servers", func(c *client.Config) { c.Servers = nil }},
		{"Servers", func(c *client.Config) { c.Servers = []string{"mqtt://a", "b"} }},
		{"Servers", func(c *client.Config) { c.Servers = []string{"http://a"} }},
		{"Servers", func(c *client.Config) { c.Servers = []string{"mqtt://"} }},
		{"Servers", func(c *client.Config) { c.Servers = []string{"unix://"} }},
		{"Publishing.Publisher", func(c *client.Config) { c.Publishing.Publisher = "press+high" }},
		{"Publishing.Publisher", func(c *client.Config) { c.Publishing.Publisher = "+urgent" }},
		{"Publishing.Publisher", func(c *client.Config) { c.ClientID, c.Publishing.Sequenced = "press+urgent", true }},
		{"Presence.Will.UserProperties", func(c *client.Config) {
			c.Presence.Will = &client.Will{Topic: "t", UserProperties: []client.UserProperty{{Key: "m-seq", Value: "1"}}}
		}},
		{"Servers", func(c *client.Config) { c.Servers = []string{"mqtt://user:secret@a"} }},
		{"", func(c *client.Config) {
			c.Servers = []string{"mqtt://a", "tcp://a:1", "mqtts://a", "ssl://a", "tls://[::1]:1", "ws://a/mqtt", "wss://a", "unix:///tmp/s"}
		}},
		{"ClientID", func(c *client.Config) { c.ClientID, c.Dir = "", "d" }},
		{"ClientID", func(c *client.Config) { c.ClientID, c.Store.Custom = "", persistence.NewMemory(persistence.Options{}) }},
		{"ClientID", func(c *client.Config) { c.ClientID = "a\x00" }},
		{"ClientID", func(c *client.Config) { c.ClientID = long }},
		{"", func(c *client.Config) { c.ClientID = "" }},
		{"", func(c *client.Config) { c.ClientID = full }},
		{"Connection.Username", func(c *client.Config) { c.Connection.Username = "\xff" }},
		{"", func(c *client.Config) { c.Connection.Username = "u" }},
		{"Connection.Password", func(c *client.Config) { c.Connection.Password = []byte(long) }},
		{"", func(c *client.Config) { c.Connection.Password = []byte(full) }},
		{"Publishing.Publisher", func(c *client.Config) { c.Publishing.Publisher = long }},
		{"Publishing.Refusals[1].Filter", refusals(client.RefusalRule{}, client.RefusalRule{Filter: "a/#/b"})},
		{"Publishing.Refusals[0].Filter", refusals(client.RefusalRule{Filter: "$share/group/a"})},
		{"Publishing.Refusals[0].Codes", refusals(client.RefusalRule{Codes: []byte{0x87, 0x10}})},
		{"Publishing.Refusals[0].Codes", refusals(client.RefusalRule{Codes: []byte{0x9B, 0x87}, Action: client.LowerQoS})},
		{"Publishing.Refusals[0].Action", refusals(client.RefusalRule{Action: client.LowerQoS + 1})},
		{"Publishing.Refusals[0].Action", refusals(client.RefusalRule{Action: client.SetAside})},
		{"Publishing.Refusals[0].MaxAttempts", refusals(client.RefusalRule{MaxAttempts: -1})},
		{"Publishing.Refusals[0].MaxAttempts", refusals(client.RefusalRule{MaxAttempts: 1, Action: client.GiveUp})},
		{"Publishing.Refusals[0].MaxTime", refusals(client.RefusalRule{MaxTime: -1})},
		{"Publishing.Refusals[0].MaxTime", refusals(client.RefusalRule{MaxTime: 1, Action: client.LowerQoS})},
		{"", refusals(client.RefusalRule{Filter: "$SYS/+/x", Codes: []byte{0x80, 0xFF}, MaxAttempts: 1, MaxTime: 1}, client.RefusalRule{Action: client.LowerQoS}, client.RefusalRule{Codes: []byte{0x9B}, Action: client.LowerQoS}, client.RefusalRule{Action: client.GiveUp})},
		{"", func(c *client.Config) {
			refusals(client.RefusalRule{Action: client.SetAside})(c)
			c.Store.DeadLetters = 1
		}},
		{"Publishing.RetryBackoff.Min", func(c *client.Config) { c.Publishing.RetryBackoff.Min = -1 }},
		{"Publishing.RetryBackoff.Max", func(c *client.Config) { c.Publishing.RetryBackoff.Min, c.Publishing.RetryBackoff.Max = 2, 1 }},
		{"Connection.Proxy", func(c *client.Config) { c.Connection.Proxy = "host:3128" }},
		{"Connection.Proxy", func(c *client.Config) { c.Connection.Proxy = "ftp://host" }},
		{"Connection.Proxy", func(c *client.Config) { c.Connection.Proxy, c.Connection.Dial = "http://host", noDial }},
		{"Connection.Proxy", func(c *client.Config) { c.Connection.Proxy, c.Servers = "http://host", []string{"unix:///tmp/s"} }},
		{"", func(c *client.Config) { c.Connection.Proxy = "http://user:secret@host:3128" }},
		{"", func(c *client.Config) {
			c.Connection.Proxy, c.Servers = "socks5://host", []string{"unix:///tmp/s", "ws://a"}
		}},
		{"TLS", func(c *client.Config) { c.TLS, c.Connection.Dial = &tls.Config{MinVersion: tls.VersionTLS12}, noDial }},
		{"Connection.TLSFiles", func(c *client.Config) { c.Connection.TLSFiles, c.Connection.Dial = &client.TLSFiles{}, noDial }},
		{"Connection.TLSFiles", func(c *client.Config) {
			c.Connection.TLSFiles, c.TLS, c.Servers = &client.TLSFiles{}, &tls.Config{MinVersion: tls.VersionTLS12}, []string{"wss://a"}
		}},
		{"Connection.TLSFiles", func(c *client.Config) {
			c.Connection.TLSFiles, c.Servers = &client.TLSFiles{Cert: "c"}, []string{"mqtts://a"}
		}},
		{"Connection.TLSFiles", func(c *client.Config) {
			c.Connection.TLSFiles, c.Servers = &client.TLSFiles{Key: "k"}, []string{"mqtts://a"}
		}},
		{"Connection.TLSFiles", func(c *client.Config) { c.Connection.TLSFiles = &client.TLSFiles{CA: "ca"} }}, // no server uses TLS
		{"", func(c *client.Config) {
			c.Connection.TLSFiles, c.Servers = &client.TLSFiles{CA: "ca", Cert: "c", Key: "k"}, []string{"mqtt://a", "wss://a"}
		}},
		{"Connection.WebSocketRequest", func(c *client.Config) { c.Connection.WebSocketRequest = noRequest }}, // no server uses WebSocket
		{"Connection.WebSocketRequest", func(c *client.Config) {
			c.Connection.WebSocketRequest, c.Servers, c.Connection.Dial = noRequest, []string{"ws://a"}, noDial
		}},
		{"", func(c *client.Config) {
			c.Connection.WebSocketRequest, c.Servers = noRequest, []string{"mqtt://a", "wss://a"}
		}},
		{"Connection.Credentials", func(c *client.Config) { c.Connection.Credentials, c.Connection.Username = noCredentials, "u" }},
		{"Connection.Credentials", func(c *client.Config) { c.Connection.Credentials, c.Connection.Password = noCredentials, []byte("p") }},
		{"", func(c *client.Config) { c.Connection.Credentials = noCredentials }},
		{"Store.Custom", func(c *client.Config) { c.Dir, c.Store.Custom = "d", persistence.NewMemory(persistence.Options{}) }},
		{"Store.Options", func(c *client.Config) { c.Store.Options.Limits.MaxMessages = -1 }},
		{"Connection.KeepAlive", func(c *client.Config) { c.Connection.KeepAlive = -2 }},
		{"", func(c *client.Config) { c.Connection.KeepAlive = client.NoKeepAlive }},
		{"Connection.StopOn.When", func(c *client.Config) { c.Connection.StopOn.When = 3 }},
		{"Connection.StopOn.Codes", func(c *client.Config) { c.Connection.StopOn.Codes = []byte{0x87, 0x01} }},
		{"Connection.StopOn.Codes", func(c *client.Config) {
			c.Connection.StopOn = client.StopPolicy{When: client.StopNever, Codes: []byte{0x87}}
		}},
		{"", func(c *client.Config) {
			c.Connection.StopOn = client.StopPolicy{When: client.StopAlways, Codes: []byte{0x87, 0xFF}}
		}},
		{"Connection.UserProperties", func(c *client.Config) {
			c.Connection.UserProperties = []client.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: "\xFF"}}
		}},
		{"Connection.UserProperties", func(c *client.Config) {
			c.Connection.UserProperties = []client.UserProperty{{Key: "\x00"}}
		}},
		{"Connection.KeepAlive", func(c *client.Config) { c.Connection.KeepAlive = 65_536 * time.Second }},
		{"", func(c *client.Config) { c.Connection.KeepAlive = 65_535 * time.Second }},
		{"Connection.StableAfter", func(c *client.Config) { c.Connection.StableAfter = -1 }},
		{"Connection.ConnectTimeout", func(c *client.Config) { c.Connection.ConnectTimeout = -1 }},
		{"Connection.WriteTimeout", func(c *client.Config) { c.Connection.WriteTimeout = -1 }},
		{"Connection.AckTimeout", func(c *client.Config) { c.Connection.AckTimeout = -1 }},
		{"Publishing.WaitTimeout", func(c *client.Config) { c.Publishing.WaitTimeout = -1 }},
		{"Connection.CloseTimeout", func(c *client.Config) { c.Connection.CloseTimeout = -1 }},
		{"Session.Expiry", func(c *client.Config) { c.Session.Expiry = -2 }},
		{"", func(c *client.Config) { c.Session.Expiry = client.NoSession }},
		{"", func(c *client.Config) { c.Session.Expiry = 1 << 62 }},
		{"Connection.MaximumPacketSize", func(c *client.Config) { c.Connection.MaximumPacketSize = 63 }},
		{"", func(c *client.Config) { c.Connection.MaximumPacketSize = 64 }},
		{"Receiving.Concurrency", func(c *client.Config) { c.Receiving.Concurrency = -1 }},
		{"Publishing.TopicAliases", func(c *client.Config) { c.Publishing.TopicAliases = -1 }},
		{"Connection.Auth", func(c *client.Config) { c.Connection.Auth = namedAuth("") }},
		{"Connection.Auth", func(c *client.Config) { c.Connection.Auth = namedAuth("a\x00b") }},
		{"Session.Mode", func(c *client.Config) { c.Session.Mode = client.StrictSession + 1 }},
		{"Session.Mode", func(c *client.Config) { c.Session.Mode, c.Session.Expiry = client.StrictSession, client.NoSession }},
		{"Publishing.TopicAliases", func(c *client.Config) { c.Publishing.TopicAliases = 65_536 }},
		{"Receiving.QoS0QueueSize", func(c *client.Config) { c.Receiving.QoS0QueueSize = -1 }},
		{"Receiving.HandlerAttempts", func(c *client.Config) { c.Receiving.HandlerAttempts = -1 }},
		{"Receiving.UnhandledGrace", func(c *client.Config) { c.Receiving.UnhandledGrace = -2 }},
		{"Receiving.SetAside.MaxMessages", func(c *client.Config) { c.Receiving.SetAside.MaxMessages = -1 }},
		{"Receiving.SetAside.MaxBytes", func(c *client.Config) { c.Receiving.SetAside.MaxBytes = -1 }},
		{"Publishing.PoisonAttempts", func(c *client.Config) { c.Publishing.PoisonAttempts = -1 }},
		{"Receiving.OrderingKey", func(c *client.Config) {
			c.Receiving.OrderingKey, c.Receiving.Ordering = func(*client.Message) string { return "" }, &client.Ordering{}
		}},
		{"", func(c *client.Config) { c.Receiving.Ordering = &client.Ordering{} }},
		{"Session.OnLost", func(c *client.Config) { c.Session.OnLost = client.FailInFlight + 1 }},
		{"", func(c *client.Config) { c.Session.OnLost = client.FailInFlight }},
		{"Store.WhenFull", func(c *client.Config) { c.Store.WhenFull = client.DropNewest + 1 }},
		{"Store.WhenFull", func(c *client.Config) {
			c.Store.WhenFull, c.Store.Custom = client.DropOldest, persistence.NewMemory(persistence.Options{})
		}},
		{"Store.Options.Limits.WhenFull", func(c *client.Config) { c.Store.Options.Limits.WhenFull = persistence.DropOldest }},
		{"Store.Options.Limits.WhenFull", func(c *client.Config) {
			c.Store.WhenFull, c.Store.Options.Limits.WhenFull = client.DropOldest, persistence.DropOldest
		}},
		{"", func(c *client.Config) { c.Store.WhenFull = client.DropOldest }},
		{"Store.Options.Retention.MaxDeadLetters", func(c *client.Config) { c.Store.Options.Retention.MaxDeadLetters = 10 }},
		{"", func(c *client.Config) { c.Store.DeadLetters = 10 }},
		{"", func(c *client.Config) {
			c.Store.WhenFull, c.Store.Custom = client.Block, persistence.NewMemory(persistence.Options{})
		}},
		{"Store.DeadLetters", func(c *client.Config) { c.Store.DeadLetters = -1 }},
		{"Store.DeadLetters", func(c *client.Config) { c.Store.DeadLetters = 100_001 }},
		{"Publishing.Publisher", func(c *client.Config) { c.Publishing.Publisher, c.Publishing.Sequenced = full, true }},
		{"Presence.Will", func(c *client.Config) {
			c.Presence.Will, c.Presence.Status = &client.Will{Topic: "w"}, &client.Status{Topic: "s"}
		}},
		{"Presence.Status.Topic", func(c *client.Config) { c.Presence.Status = &client.Status{} }},
		{"Presence.Status.Topic", func(c *client.Config) { c.Presence.Status = &client.Status{Topic: "a/#"} }},
		{"Presence.Status.Delay", func(c *client.Config) { c.Presence.Status = &client.Status{Topic: "s", Delay: -1} }},
		{"Presence.Status.Offline", func(c *client.Config) { c.Presence.Status = &client.Status{Topic: "s", Online: []byte(long)} }},
		{"Presence.Status.Offline", func(c *client.Config) { c.Presence.Status = &client.Status{Topic: "s", Offline: []byte(long)} }},
		{"", func(c *client.Config) { c.Presence.Status = &client.Status{Topic: "s"} }},
		{"Presence.Will", func(c *client.Config) { c.Presence.Will = &client.Will{} }},
		{"Presence.Will", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "+"} }},
		{"Presence.Will", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", QoS: 3} }},
		{"Presence.Will", func(c *client.Config) {
			c.Presence.Will = &client.Will{Topic: "w", PayloadIsUTF8: true, Payload: []byte{0xff}}
		}},
		{"Presence.Will", func(c *client.Config) {
			c.Presence.Will = &client.Will{Topic: "w", UserProperties: []client.UserProperty{{Key: long}}}
		}},
		{"Presence.Will.Delay", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", Delay: -1} }},
		{"Presence.Will.Delay", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", Expiry: -1} }},
		{"Presence.Will.Payload", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", Payload: []byte(long)} }},
		{"", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", Payload: []byte(full), QoS: 2} }},
	} {
		cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c"}
		tt.set(&cfg)
		err := cfg.Validate()
		var bad *client.ConfigError
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("a good Config is refused: %v", err)
		case tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field):
			t.Errorf("%s: got %v", tt.field, err)
		case tt.field != "" && len(err.Error()) < len("client: Config."+tt.field+": ")+10:
			t.Errorf("%s: %q says too little", tt.field, err)
		}
		if tt.field != "" {
			if c, err := client.New(cfg); c != nil || !errors.As(err, &bad) {
				t.Errorf("%s: New returned %v, %v", tt.field, c, err)
			}
		}
	}
}

// Invalid values are rejected, although other packages would treat them as their defaults.
func TestConfig_RejectsInvalidPolicies(t *testing.T) {
	nan := math.NaN()
	type backoff = reliability.Backoff
	type breaker = reliability.BreakerOptions
	type order = ordering.Options
	for _, tt := range []struct {
		field string // "" if the Config is valid
		set   func(*client.Config)
	}{
		{"Connection.Backoff.Min", func(c *client.Config) { c.Connection.Backoff = backoff{Min: -1} }},
		{"Connection.Backoff.Max", func(c *client.Config) { c.Connection.Backoff = backoff{Max: -1} }},
		{"Connection.Backoff.Max", func(c *client.Config) { c.Connection.Backoff = backoff{Min: 2 * time.Second, Max: time.Second} }},
		{"Connection.Backoff.Factor", func(c *client.Config) { c.Connection.Backoff = backoff{Factor: -2} }},
		{"Connection.Backoff.Factor", func(c *client.Config) { c.Connection.Backoff = backoff{Factor: 0.99} }},
		{"Connection.Backoff.Factor", func(c *client.Config) { c.Connection.Backoff = backoff{Factor: nan} }},
		{"Connection.Backoff.Factor", func(c *client.Config) { c.Connection.Backoff = backoff{Factor: math.Inf(1)} }},
		{"Connection.Backoff.Factor", func(c *client.Config) { c.Connection.Backoff = backoff{Factor: math.Inf(-1)} }},
		{"", func(c *client.Config) { c.Connection.Backoff = backoff{Min: time.Second, Max: time.Second, Factor: 1} }},
		{"", func(c *client.Config) { c.Connection.Backoff = backoff{Min: 2 * time.Minute} }}, // the default of Max is raised too
		{"Receiving.HandlerBackoff.Min", func(c *client.Config) { c.Receiving.HandlerBackoff = backoff{Min: -time.Second} }},
		{"Receiving.HandlerBackoff.Max", func(c *client.Config) { c.Receiving.HandlerBackoff = backoff{Min: 2, Max: 1} }},
		{"Receiving.HandlerBackoff.Factor", func(c *client.Config) { c.Receiving.HandlerBackoff = backoff{Factor: 0.5} }},
		{"Publishing.Breaker.FailureThreshold", func(c *client.Config) { c.Publishing.Breaker = breaker{FailureThreshold: -1} }},
		{"Publishing.Breaker.RecoveryTimeout", func(c *client.Config) { c.Publishing.Breaker = breaker{RecoveryTimeout: -1} }},
		{"Publishing.Breaker.SuccessesToClose", func(c *client.Config) { c.Publishing.Breaker = breaker{SuccessesToClose: -1} }},
		{"Publishing.Breaker.SlowAck", func(c *client.Config) { c.Publishing.Breaker = breaker{SlowAck: -time.Second} }},
		{"", func(c *client.Config) {
			c.Publishing.Breaker = breaker{FailureThreshold: 1, RecoveryTimeout: 1, SuccessesToClose: 1, SlowAck: 1}
		}},
		{"Receiving.Ordering.MaxKeys", func(c *client.Config) { c.Receiving.Ordering = &client.Ordering{Options: order{MaxKeys: -1}} }},
		{"Receiving.Ordering.MaxHeldPerKey", func(c *client.Config) { c.Receiving.Ordering = &client.Ordering{Options: order{MaxHeldPerKey: -1}} }},
		{"Receiving.Ordering.MaxHeld", func(c *client.Config) { c.Receiving.Ordering = &client.Ordering{Options: order{MaxHeld: -1}} }},
		{"Receiving.Ordering.MaxRanges", func(c *client.Config) { c.Receiving.Ordering = &client.Ordering{Options: order{MaxRanges: -1}} }},
		{"Receiving.Ordering.GapTimeout", func(c *client.Config) { c.Receiving.Ordering = &client.Ordering{Options: order{GapTimeout: -1}} }},
		{"Receiving.Ordering.Start", func(c *client.Config) {
			c.Receiving.Ordering = &client.Ordering{Options: order{Start: ordering.FromOne + 1}}
		}},
		{"Receiving.Ordering.Late", func(c *client.Config) {
			c.Receiving.Ordering = &client.Ordering{Options: order{Late: ordering.DropLate + 1}}
		}},
		{"", func(c *client.Config) {
			c.Receiving.Ordering = &client.Ordering{Options: order{MaxKeys: 1, MaxHeldPerKey: 1, MaxHeld: 1, MaxRanges: 1, GapTimeout: 1, Start: ordering.FromOne, Late: ordering.DropLate}}
		}},
	} {
		cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c"}
		tt.set(&cfg)
		err := cfg.Validate()
		var bad *client.ConfigError
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("a good Config is refused: %v", err)
		case tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field || !strings.Contains(err.Error(), "; ")):
			t.Errorf("%s: got %v", tt.field, err)
		}
		if tt.field != "" {
			if c, err := client.New(cfg); c != nil || !errors.As(err, &bad) {
				t.Errorf("%s: New returned %v, %v", tt.field, c, err)
			}
		}
		_ = cfg.Lint() // accepts an invalid Config
	}
}

// A Max below the default of RetryBackoff.Min lowers Min.
func TestConfig_RetryBackoffDefaults(t *testing.T) {
	for _, tt := range []struct{ setMin, setMax, wantMin, wantMax time.Duration }{
		{0, 0, 250 * time.Millisecond, time.Minute},
		{0, 50 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond},
		{0, 1, 1, 1},
		{0, time.Second, 250 * time.Millisecond, time.Second},
		{time.Second, 0, time.Second, time.Minute},
	} {
		cfg := client.Config{Publishing: client.PublishingConfig{RetryBackoff: reliability.Backoff{Min: tt.setMin, Max: tt.setMax}}}.WithDefaults()
		if b := cfg.Publishing.RetryBackoff; b.Min != tt.wantMin || b.Max != tt.wantMax {
			t.Errorf("%v to %v: got %v to %v, want %v to %v", tt.setMin, tt.setMax, b.Min, b.Max, tt.wantMin, tt.wantMax)
		}
	}
}

func TestConfig_Defaults(t *testing.T) {
	c := mustNew(t, client.Config{Servers: []string{"mqtt://server"}})
	got := client.Settings(c)
	if !strings.HasPrefix(got.ClientID, "mooring-") || c.ClientID() != got.ClientID || got.Publishing.Publisher != got.ClientID {
		t.Errorf("the client identifier is %q, the publisher %q", got.ClientID, got.Publishing.Publisher)
	}
	if other := mustNew(t, client.Config{Servers: []string{"mqtt://server"}}); other.ClientID() == c.ClientID() {
		t.Error("two clients have the same identifier")
	}
	summary := fmt.Sprint(got.Connection.KeepAlive, got.Session.Expiry, got.Receiving.ReceiveMaximum, got.Connection.MaximumPacketSize, got.Receiving.TopicAliasMaximum,
		got.Receiving.Concurrency, got.Receiving.QoS0QueueSize, got.Receiving.HandlerAttempts, got.Publishing.PoisonAttempts, got.Connection.ConnectTimeout, got.Connection.WriteTimeout, got.Connection.AckTimeout,
		got.Publishing.WaitTimeout, got.Connection.CloseTimeout, got.Session.OnLost == client.Republish, got.Logger == nil)
	if want := "30s 24h0m0s 1024 16777216 0 8 1024 0 5 20s 10s 30s 0s 5s true true"; summary != want {
		t.Errorf("the defaults are\n%s, want\n%s", summary, want)
	}
	status := client.Status{Topic: "s"}
	cfg := client.Config{Servers: []string{"mqtt://server"}, Presence: client.PresenceConfig{Status: &status}}.WithDefaults()
	if w := cfg.Presence.Will; w == nil || w.Topic != "s" || string(w.Payload) != "offline" || w.QoS != client.AtLeastOnce || !w.Retain {
		t.Errorf("the status makes the will %+v", w)
	}
	if status.Online != nil || status.Offline != nil {
		t.Error("the caller's Status was changed")
	}
}

func TestWill_SendsAllProperties(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.Username, cfg.Connection.Password = "me", []byte{0, 1}
		cfg.Session.Expiry, cfg.Session.CleanStart = client.NoSession, true
		cfg.Presence.Will = &client.Will{Topic: "w", Payload: []byte("gone"), QoS: 2, Retain: true, Delay: 90 * time.Second, Expiry: time.Hour,
			ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte("c"), PayloadIsUTF8: true,
			UserProperties: []client.UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}}
		mustStart(t, cfg)
		p := s.open()
		got := p.connect
		w := got.Will
		if w == nil || w.Topic != "w" || string(w.Payload) != "gone" || w.QoS != 2 || !w.Retain || w.Delay != 90 {
			t.Fatalf("the will is %+v", w)
		}
		want := cfg.Presence.Will.Packet()
		if string(w.Properties) != string(want.AppendProperties(nil)) {
			t.Errorf("its properties are % x", w.Properties)
		}
		if got.ClientID != "c" || !got.CleanStart || got.SessionExpiry != 0 || got.Username != "me" || string(got.Password) != "\x00\x01" {
			t.Errorf("CONNECT says %+v", got)
		}
		p.close()
		if again := s.accept(control.Connack{}).connect; !again.CleanStart {
			t.Error("CONNECT asked for a new session, was not answered, and does not ask again")
		}
	})
}

func TestMessageID(t *testing.T) {
	id := client.NewMessageID()
	if id.IsZero() || client.ParseMessageID(id.String()) != id {
		t.Errorf("%v does not come back from its text", id)
	}
	text, err := id.MarshalText()
	must(t, err)
	var back client.MessageID
	must(t, back.UnmarshalText(text))
	if back != id {
		t.Errorf("%v came back as %v", id, back)
	}
	if err := back.UnmarshalText([]byte("no")); err == nil {
		t.Error("text that is no UUID was taken")
	}
	a, b := client.ParseMessageID("order 17"), client.ParseMessageID("order 18")
	if a == b || a.IsZero() || a != client.ParseMessageID("order 17") {
		t.Error("foreign IDs must keep apart, and stay the same")
	}
}

func TestSeconds_RoundsUpAndSaturates(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		-1: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2, 1<<63 - 1: 1<<32 - 1, (1<<32 - 1) * time.Second: 1<<32 - 1,
	} {
		if got := wire.Seconds(d); got != want {
			t.Errorf("%v is %d s, want %d", d, got, want)
		}
	}
}

func FuzzReceived(f *testing.F) {
	f.Add("t", client.PropID, "x", client.PropSeq, "1", uint32(5))
	f.Add("t", client.PropSeq, "-1", client.PropEpoch, "99999999999999999999", uint32(0))
	f.Fuzz(func(t *testing.T, topic, k1, v1, k2, v2 string, expiry uint32) {
		m := client.Received(&wire.Publish{Topic: topic, MessageExpiry: expiry, User: []wire.UserProperty{{Key: k1, Value: v1}, {Key: k2, Value: v2}, {Key: "own", Value: "kept"}}})
		if n := len(m.UserProperties); n == 0 || m.UserProperties[n-1].Value != "kept" {
			t.Errorf("the application's own properties are %v", m.UserProperties)
		}
	})
}
