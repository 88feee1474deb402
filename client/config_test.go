package client

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

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

func noDial(context.Context, *url.URL) (net.Conn, error)       { return nil, net.ErrClosed }
func noCredentials(context.Context) (c Credentials, err error) { return c, err }

func TestConfigRules(t *testing.T) {
	long := strings.Repeat("x", 65_536)
	full := long[:65_535]
	for _, tt := range []struct {
		field string // "" where the Config is good
		set   func(*Config)
	}{
		{"", func(*Config) {}},
		{"Servers", func(c *Config) { c.Servers = nil }},
		{"Servers", func(c *Config) { c.Servers = []string{"mqtt://a", "b"} }},
		{"Servers", func(c *Config) { c.Servers = []string{"http://a"} }},
		{"Servers", func(c *Config) { c.Servers = []string{"mqtt://"} }},
		{"Servers", func(c *Config) { c.Servers = []string{"unix://"} }},
		{"Servers", func(c *Config) { c.Servers = []string{"mqtt://user:secret@a"} }},
		{"", func(c *Config) {
			c.Servers = []string{"mqtt://a", "tcp://a:1", "mqtts://a", "ssl://a", "tls://[::1]:1", "ws://a/mqtt", "wss://a", "unix:///tmp/s"}
		}},
		{"ClientID", func(c *Config) { c.ClientID, c.Dir = "", "d" }},
		{"ClientID", func(c *Config) { c.ClientID, c.Store = "", persistence.NewMemory(persistence.Options{}) }},
		{"ClientID", func(c *Config) { c.ClientID = "a\x00" }},
		{"ClientID", func(c *Config) { c.ClientID = long }},
		{"", func(c *Config) { c.ClientID = "" }},
		{"", func(c *Config) { c.ClientID = full }},
		{"Username", func(c *Config) { c.Username = "\xff" }},
		{"", func(c *Config) { c.Username = "u" }},
		{"Password", func(c *Config) { c.Password = []byte(long) }},
		{"", func(c *Config) { c.Password = []byte(full) }},
		{"Publisher", func(c *Config) { c.Publisher = long }},
		{"Proxy", func(c *Config) { c.Proxy = "host:3128" }},
		{"Proxy", func(c *Config) { c.Proxy = "ftp://host" }},
		{"Proxy", func(c *Config) { c.Proxy, c.Dial = "http://host", noDial }},
		{"Proxy", func(c *Config) { c.Proxy, c.Servers = "http://host", []string{"unix:///tmp/s"} }},
		{"", func(c *Config) { c.Proxy = "http://user:secret@host:3128" }},
		{"", func(c *Config) { c.Proxy, c.Servers = "socks5://host", []string{"unix:///tmp/s", "ws://a"} }},
		{"TLS", func(c *Config) { c.TLS, c.Dial = &tls.Config{MinVersion: tls.VersionTLS12}, noDial }},
		{"TLSFiles", func(c *Config) { c.TLSFiles, c.Dial = &TLSFiles{}, noDial }},
		{"TLSFiles", func(c *Config) {
			c.TLSFiles, c.TLS, c.Servers = &TLSFiles{}, &tls.Config{MinVersion: tls.VersionTLS12}, []string{"wss://a"}
		}},
		{"TLSFiles", func(c *Config) { c.TLSFiles, c.Servers = &TLSFiles{Cert: "c"}, []string{"mqtts://a"} }},
		{"TLSFiles", func(c *Config) { c.TLSFiles, c.Servers = &TLSFiles{Key: "k"}, []string{"mqtts://a"} }},
		{"TLSFiles", func(c *Config) { c.TLSFiles = &TLSFiles{CA: "ca"} }}, // no server uses it
		{"", func(c *Config) {
			c.TLSFiles, c.Servers = &TLSFiles{CA: "ca", Cert: "c", Key: "k"}, []string{"mqtt://a", "wss://a"}
		}},
		{"Credentials", func(c *Config) { c.Credentials, c.Username = noCredentials, "u" }},
		{"Credentials", func(c *Config) { c.Credentials, c.Password = noCredentials, []byte("p") }},
		{"", func(c *Config) { c.Credentials = noCredentials }},
		{"Store", func(c *Config) { c.Dir, c.Store = "d", persistence.NewMemory(persistence.Options{}) }},
		{"DirOptions", func(c *Config) { c.DirOptions.MaxMessages = -1 }},
		{"KeepAlive", func(c *Config) { c.KeepAlive = -1 }},
		{"KeepAlive", func(c *Config) { c.KeepAlive = 65_536 * time.Second }},
		{"", func(c *Config) { c.KeepAlive = 65_535 * time.Second }},
		{"StableAfter", func(c *Config) { c.StableAfter = -1 }},
		{"ConnectTimeout", func(c *Config) { c.ConnectTimeout = -1 }},
		{"WriteTimeout", func(c *Config) { c.WriteTimeout = -1 }},
		{"AckTimeout", func(c *Config) { c.AckTimeout = -1 }},
		{"PublishTimeout", func(c *Config) { c.PublishTimeout = -1 }},
		{"CloseTimeout", func(c *Config) { c.CloseTimeout = -1 }},
		{"SessionExpiry", func(c *Config) { c.SessionExpiry = -2 }},
		{"", func(c *Config) { c.SessionExpiry = NoSession }},
		{"", func(c *Config) { c.SessionExpiry = 1 << 62 }},
		{"MaximumPacketSize", func(c *Config) { c.MaximumPacketSize = 63 }},
		{"", func(c *Config) { c.MaximumPacketSize = 64 }},
		{"Lanes", func(c *Config) { c.Lanes = -1 }},
		{"TopicAliases", func(c *Config) { c.TopicAliases = -1 }},
		{"Auth", func(c *Config) { c.Auth = namedAuth("") }},
		{"Auth", func(c *Config) { c.Auth = namedAuth("a\x00b") }},
		{"Session", func(c *Config) { c.Session = StrictSession + 1 }},
		{"Session", func(c *Config) { c.Session, c.SessionExpiry = StrictSession, NoSession }},
		{"TopicAliases", func(c *Config) { c.TopicAliases = 65_536 }},
		{"QoS0Queue", func(c *Config) { c.QoS0Queue = -1 }},
		{"HandlerAttempts", func(c *Config) { c.HandlerAttempts = -1 }},
		{"PoisonAttempts", func(c *Config) { c.PoisonAttempts = -1 }},
		{"LaneKey", func(c *Config) { c.LaneKey, c.Ordering = func(*Message) string { return "" }, &Ordering{} }},
		{"", func(c *Config) { c.Ordering = &Ordering{} }},
		{"OnSessionLost", func(c *Config) { c.OnSessionLost = FailInFlight + 1 }},
		{"", func(c *Config) { c.OnSessionLost = FailInFlight }},
		{"WhenFull", func(c *Config) { c.WhenFull = DropNewest + 1 }},
		{"WhenFull", func(c *Config) { c.WhenFull, c.Store = DropOldest, persistence.NewMemory(persistence.Options{}) }},
		{"WhenFull", func(c *Config) { c.WhenFull, c.DirOptions.WhenFull = Block, persistence.DropOldest }},
		{"", func(c *Config) { c.WhenFull, c.DirOptions.WhenFull = DropOldest, persistence.DropOldest }},
		{"", func(c *Config) { c.WhenFull, c.Store = Block, persistence.NewMemory(persistence.Options{}) }},
		{"DeadLetters", func(c *Config) { c.DeadLetters = -1 }},
		{"DeadLetters", func(c *Config) { c.DeadLetters = 100_001 }},
		{"Publisher", func(c *Config) { c.Publisher, c.Sequenced = full, true }},
		{"Will", func(c *Config) { c.Will, c.Status = &Will{Topic: "w"}, &Status{Topic: "s"} }},
		{"Status.Topic", func(c *Config) { c.Status = &Status{} }},
		{"Status.Topic", func(c *Config) { c.Status = &Status{Topic: "a/#"} }},
		{"Status.Delay", func(c *Config) { c.Status = &Status{Topic: "s", Delay: -1} }},
		{"Status.Offline", func(c *Config) { c.Status = &Status{Topic: "s", Online: []byte(long)} }},
		{"Status.Offline", func(c *Config) { c.Status = &Status{Topic: "s", Offline: []byte(long)} }},
		{"", func(c *Config) { c.Status = &Status{Topic: "s"} }},
		{"Will", func(c *Config) { c.Will = &Will{} }},
		{"Will", func(c *Config) { c.Will = &Will{Topic: "+"} }},
		{"Will", func(c *Config) { c.Will = &Will{Topic: "w", QoS: 3} }},
		{"Will", func(c *Config) { c.Will = &Will{Topic: "w", PayloadIsUTF8: true, Payload: []byte{0xff}} }},
		{"Will", func(c *Config) { c.Will = &Will{Topic: "w", UserProperties: []UserProperty{{Key: long}}} }},
		{"Will.Delay", func(c *Config) { c.Will = &Will{Topic: "w", Delay: -1} }},
		{"Will.Delay", func(c *Config) { c.Will = &Will{Topic: "w", Expiry: -1} }},
		{"Will.Payload", func(c *Config) { c.Will = &Will{Topic: "w", Payload: []byte(long)} }},
		{"", func(c *Config) { c.Will = &Will{Topic: "w", Payload: []byte(full), QoS: 2} }},
	} {
		cfg := Config{Servers: []string{"mqtt://server"}, ClientID: "c"}
		tt.set(&cfg)
		err := cfg.Validate()
		var bad *ConfigError
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("a good Config is refused: %v", err)
		case tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field):
			t.Errorf("%s: got %v", tt.field, err)
		case tt.field != "" && len(err.Error()) < len("client: Config."+tt.field+": ")+10:
			t.Errorf("%s: %q says too little", tt.field, err)
		}
		if tt.field != "" {
			if c, err := New(cfg); c != nil || !errors.As(err, &bad) {
				t.Errorf("%s: New returned %v, %v", tt.field, c, err)
			}
		}
	}
}

// What the packages that Config takes its policies from would take for their defaults.
func TestPoliciesThatCannotBe(t *testing.T) {
	nan := math.NaN()
	type backoff = reliability.Backoff
	type breaker = reliability.BreakerOptions
	type order = ordering.Options
	for _, tt := range []struct {
		field string // "" where the Config is good
		set   func(*Config)
	}{
		{"Backoff.Min", func(c *Config) { c.Backoff = backoff{Min: -1} }},
		{"Backoff.Max", func(c *Config) { c.Backoff = backoff{Max: -1} }},
		{"Backoff.Max", func(c *Config) { c.Backoff = backoff{Min: 2 * time.Second, Max: time.Second} }},
		{"Backoff.Factor", func(c *Config) { c.Backoff = backoff{Factor: -2} }},
		{"Backoff.Factor", func(c *Config) { c.Backoff = backoff{Factor: 0.99} }},
		{"Backoff.Factor", func(c *Config) { c.Backoff = backoff{Factor: nan} }},
		{"Backoff.Factor", func(c *Config) { c.Backoff = backoff{Factor: math.Inf(1)} }},
		{"Backoff.Factor", func(c *Config) { c.Backoff = backoff{Factor: math.Inf(-1)} }},
		{"", func(c *Config) { c.Backoff = backoff{Min: time.Second, Max: time.Second, Factor: 1} }},
		{"", func(c *Config) { c.Backoff = backoff{Min: 2 * time.Minute} }}, // the default of Max rises with it
		{"HandlerBackoff.Min", func(c *Config) { c.HandlerBackoff = backoff{Min: -time.Second} }},
		{"HandlerBackoff.Max", func(c *Config) { c.HandlerBackoff = backoff{Min: 2, Max: 1} }},
		{"HandlerBackoff.Factor", func(c *Config) { c.HandlerBackoff = backoff{Factor: 0.5} }},
		{"Breaker.FailureThreshold", func(c *Config) { c.Breaker = breaker{FailureThreshold: -1} }},
		{"Breaker.RecoveryTimeout", func(c *Config) { c.Breaker = breaker{RecoveryTimeout: -1} }},
		{"Breaker.SuccessesToClose", func(c *Config) { c.Breaker = breaker{SuccessesToClose: -1} }},
		{"Breaker.SlowAck", func(c *Config) { c.Breaker = breaker{SlowAck: -time.Second} }},
		{"", func(c *Config) {
			c.Breaker = breaker{FailureThreshold: 1, RecoveryTimeout: 1, SuccessesToClose: 1, SlowAck: 1}
		}},
		{"Ordering.MaxKeys", func(c *Config) { c.Ordering = &Ordering{Options: order{MaxKeys: -1}} }},
		{"Ordering.MaxHeldPerKey", func(c *Config) { c.Ordering = &Ordering{Options: order{MaxHeldPerKey: -1}} }},
		{"Ordering.MaxHeld", func(c *Config) { c.Ordering = &Ordering{Options: order{MaxHeld: -1}} }},
		{"Ordering.MaxRanges", func(c *Config) { c.Ordering = &Ordering{Options: order{MaxRanges: -1}} }},
		{"Ordering.GapTimeout", func(c *Config) { c.Ordering = &Ordering{Options: order{GapTimeout: -1}} }},
		{"Ordering.Start", func(c *Config) { c.Ordering = &Ordering{Options: order{Start: ordering.FromOne + 1}} }},
		{"Ordering.Late", func(c *Config) { c.Ordering = &Ordering{Options: order{Late: ordering.DropLate + 1}} }},
		{"", func(c *Config) {
			c.Ordering = &Ordering{Options: order{MaxKeys: 1, MaxHeldPerKey: 1, MaxHeld: 1, MaxRanges: 1, GapTimeout: 1, Start: ordering.FromOne, Late: ordering.DropLate}}
		}},
	} {
		cfg := Config{Servers: []string{"mqtt://server"}, ClientID: "c"}
		tt.set(&cfg)
		err := cfg.Validate()
		var bad *ConfigError
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("a good Config is refused: %v", err)
		case tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field || !strings.Contains(err.Error(), "; ")):
			t.Errorf("%s: got %v", tt.field, err)
		}
		if tt.field != "" {
			if c, err := New(cfg); c != nil || !errors.As(err, &bad) {
				t.Errorf("%s: New returned %v, %v", tt.field, c, err)
			}
		}
		_ = cfg.Lint() // reads what Validate refuses
	}
}

func TestConfigDefaults(t *testing.T) {
	c := mustNew(t, Config{Servers: []string{"mqtt://server"}})
	got := c.cfg
	if !strings.HasPrefix(got.ClientID, "mooring-") || c.ClientID() != got.ClientID || got.Publisher != got.ClientID {
		t.Errorf("the client identifier is %q, the publisher %q", got.ClientID, got.Publisher)
	}
	if other := mustNew(t, Config{Servers: []string{"mqtt://server"}}); other.ClientID() == c.ClientID() {
		t.Error("two clients have the same identifier")
	}
	summary := fmt.Sprint(got.KeepAlive, got.SessionExpiry, got.ReceiveMaximum, got.MaximumPacketSize, got.TopicAliasMaximum,
		got.Lanes, got.QoS0Queue, got.HandlerAttempts, got.PoisonAttempts, got.ConnectTimeout, got.WriteTimeout, got.AckTimeout,
		got.PublishTimeout, got.CloseTimeout, got.OnSessionLost == Republish, got.Logger != nil)
	if want := "30s 24h0m0s 1024 16777216 0 8 1024 3 5 20s 10s 30s 0s 5s true true"; summary != want {
		t.Errorf("the defaults are\n%s, want\n%s", summary, want)
	}
	status := Status{Topic: "s"}
	cfg := Config{Servers: []string{"mqtt://server"}, Status: &status}.withDefaults()
	if w := cfg.Will; w == nil || w.Topic != "s" || string(w.Payload) != "offline" || w.QoS != AtLeastOnce || !w.Retain {
		t.Errorf("the status makes the will %+v", w)
	}
	if status.Online != nil || status.Offline != nil {
		t.Error("the caller's Status was changed")
	}
}

func TestAWillTakesAllItsProperties(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Username, cfg.Password = "me", []byte{0, 1}
		cfg.SessionExpiry, cfg.CleanStart = NoSession, true
		cfg.Will = &Will{Topic: "w", Payload: []byte("gone"), QoS: 2, Retain: true, Delay: 90 * time.Second, Expiry: time.Hour,
			ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte("c"), PayloadIsUTF8: true,
			UserProperties: []UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}}
		mustStart(t, cfg)
		p := s.open()
		got := p.connect
		w := got.Will
		if w == nil || w.Topic != "w" || string(w.Payload) != "gone" || w.QoS != 2 || !w.Retain || w.Delay != 90 {
			t.Fatalf("the will is %+v", w)
		}
		want := cfg.Will.packet()
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

func TestMessageIDs(t *testing.T) {
	id := NewMessageID()
	if id.IsZero() || ParseMessageID(id.String()) != id {
		t.Errorf("%v does not come back from its text", id)
	}
	text, err := id.MarshalText()
	must(t, err)
	var back MessageID
	must(t, back.UnmarshalText(text))
	if back != id {
		t.Errorf("%v came back as %v", id, back)
	}
	if err := back.UnmarshalText([]byte("no")); err == nil {
		t.Error("text that is no UUID was taken")
	}
	a, b := ParseMessageID("order 17"), ParseMessageID("order 18")
	if a == b || a.IsZero() || a != ParseMessageID("order 17") {
		t.Error("foreign IDs must keep apart, and stay the same")
	}
}

func TestSecondsAreRoundedUpAndFit(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		-1: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2, 1<<63 - 1: 1<<32 - 1, (1<<32 - 1) * time.Second: 1<<32 - 1,
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v is %d s, want %d", d, got, want)
		}
	}
}

func FuzzReceived(f *testing.F) {
	f.Add("t", propID, "x", propSeq, "1", uint32(5))
	f.Add("t", propSeq, "-1", propEpoch, "99999999999999999999", uint32(0))
	f.Fuzz(func(t *testing.T, topic, k1, v1, k2, v2 string, expiry uint32) {
		m := received(&wire.Publish{Topic: topic, MessageExpiry: expiry, User: []wire.UserProperty{{Key: k1, Value: v1}, {Key: k2, Value: v2}, {Key: "own", Value: "kept"}}})
		if n := len(m.UserProperties); n == 0 || m.UserProperties[n-1].Value != "kept" {
			t.Errorf("the program's own properties are %v", m.UserProperties)
		}
	})
}
