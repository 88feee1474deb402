package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/testcert"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// secret is what no text may have, in any of its forms.
const secret = "HunTer2/+zebra"

// shows returns the form of the secret that text has, or "".
func shows(text, secret string) string {
	b := []byte(secret)
	whole := func(enc *base64.Encoding) string { // without the end, which depends on what follows
		return enc.EncodeToString(b[:len(b)/3*3])
	}
	for name, form := range map[string]string{
		"as it is": secret, "quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`), "escaped": url.QueryEscape(secret), "path": url.PathEscape(secret),
		"base64": whole(base64.StdEncoding), "base64 URL": whole(base64.URLEncoding), "hex": hex.EncodeToString(b), "bytes": strings.Trim(fmt.Sprint(b), "[]"),
		"Go bytes": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte{"), "}"),
		"a part":   secret[:7], "the other part": secret[9:],
	} {
		if strings.Contains(text, form) {
			return name
		}
	}
	return ""
}

// transcript has everything that a client says.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// print adds a value, printed in every way.
func (s *transcript) print(values ...any) {
	for _, v := range values {
		fmt.Fprintf(s, "%v\n%+v\n%#v\n%s\n%q\n", v, v, v, v, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(s, nil), slog.NewJSONHandler(s, nil)} {
			slog.New(h).Info("a line", slog.Any("value", v), slog.Any("in a struct", struct{ V any }{v}), slog.Any("in a list", []any{v}))
		}
		if b, err := json.Marshal(v); err == nil {
			fmt.Fprintf(s, "%s\n", b)
		}
		if err, ok := v.(error); ok {
			for ; err != nil; err = errors.Unwrap(err) {
				fmt.Fprintf(s, "%T %v\n", err, err)
			}
		}
	}
}

// of records what a client with this configuration says.
func (s *transcript) of(cfg *client.Config) {
	tell := cfg.OnEvent
	cfg.Logger = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug - 10}))
	cfg.OnEvent = func(e client.Event) {
		s.print(e)
		if tell != nil {
			tell(e)
		}
	}
}

func (s *transcript) check(t *testing.T, secret, must string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.text.String()) {
		if form := shows(line, secret); form != "" {
			t.Errorf("the secret is shown (%s): %s", form, line)
		}
	}
	if !strings.Contains(s.text.String(), must) {
		t.Errorf("nothing has %q, so the test proves nothing:\n%s", must, s.text.String())
	}
}

// secretive has a secret in every field that may have one.
func secretive(server string) client.Config {
	return client.Config{
		Servers: []string{server}, ClientID: "secretive",
		TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{[]byte(secret)}}}},
		Connection: client.ConnectionConfig{
			Username: "user", Password: []byte(secret), UserProperties: []client.UserProperty{{Key: "token", Value: secret}},
			Auth: valueAuth{secret}, Backoff: reliability.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond},
		},
		Presence: client.PresenceConfig{Will: &client.Will{Topic: "will", Payload: []byte(secret), UserProperties: []client.UserProperty{{Key: "token", Value: secret}}}},
	}
}

// valueAuth is an Authenticator whose secret is no pointer away.
type valueAuth struct{ Token string }

func (valueAuth) Method() string                                     { return "token" }
func (a valueAuth) Start(context.Context) ([]byte, error)            { return []byte(a.Token), nil }
func (valueAuth) Done(context.Context, []byte) error                 { return nil }
func (a valueAuth) Continue(context.Context, []byte) ([]byte, error) { return []byte(a.Token), nil }

// TestSecrets_PrintedConfig prints configurations that have a secret in each field that may have one.
func TestSecrets_PrintedConfig(t *testing.T) {
	escaped := url.QueryEscape(secret)
	full := secretive("wss://broker.example/mqtt?token=" + escaped)
	full.Connection.Proxy = "http://user:" + escaped + "@proxy.example:3128"
	nameOnly := client.ConnectionConfig{Username: secret, Proxy: "http://" + escaped + "@proxy.example"}
	for name, v := range map[string]any{
		"Config": full, "*Config": &full, "ConnectionConfig": full.Connection, "*ConnectionConfig": &full.Connection, "name without a password": nameOnly,
		"Credentials": client.Credentials{Username: "user", Password: []byte(secret)}, "token as name": &client.Credentials{Username: secret},
		"in a struct":         struct{ MQTT client.Config }{full},
		"a proxy badly typed": client.Config{Connection: client.ConnectionConfig{Proxy: "http://user:" + secret + "@proxy.example"}},
		"a space":             client.Config{Connection: client.ConnectionConfig{Proxy: "http://user:" + secret + " @proxy.example"}},
		"no scheme":           client.Config{Servers: []string{"user:" + secret + "@broker.example", "mqtt://user:" + secret + "@broker.example"}},
		"a fragment":          client.Config{Servers: []string{"mqtt://broker.example#" + secret, "mqtt://user:1#" + secret + "@broker.example"}},
		"a list of configs":   []client.Config{full},
	} {
		t.Run(name, func(t *testing.T) {
			var s transcript
			s.print(v)
			s.check(t, secret, "xxxxx")
		})
	}
	if text := fmt.Sprintf("%+v", full); !strings.Contains(text, `"wss://broker.example/mqtt?xxxxx"`) || !strings.Contains(text, `ClientID:"secretive"`) || !strings.Contains(text, "Backoff:{Min:1ms Max:5ms}") ||
		!strings.Contains(text, `Username:"user" Password:xxxxx`) || !strings.Contains(text, `"token":xxxxx`) || !strings.Contains(text, "TLS:*tls.Config") || !strings.Contains(text, "Auth:client_test.valueAuth") ||
		!strings.Contains(text, `Proxy:"http://user:xxxxx@proxy.example:3128"`) {
		t.Errorf("the text does not show what is no secret: %s", text)
	}
	if text := fmt.Sprintf("%#v", full); !strings.HasPrefix(text, "client.Config{") {
		t.Errorf("%%#v: %s", text)
	}
}

// TestSecrets_ConfigErrors lets New refuse URLs that have a secret.
func TestSecrets_ConfigErrors(t *testing.T) {
	servers := []string{
		"mqtt://user:%s@h", "mqtt://%s@h", "user:%s@h:1883", "%s@h", "mqtt:user:%s@h", "http://user:%s@h", "quic://user:%s@h?%s",
		"mqtt://h?token=%s", "mqtt://h#%s", "mqtt://h/x?%s", "mqtt://user:1#%s@h", "wss://user:1?%s@h/mqtt", "wss://h:x/mqtt?token=%s", "wss://a,b/mqtt?token=%s",
		"wss://h/mqtt?token=%s#x", "wss://h/mqtt?token=%s@", "wss://h/%%zz?token=%s", "wss://h/mqtt?token=%s ", "wss://h/mqtt?tok en=%s", "://user:%s@h", "unix://user:%s@h/x",
	}
	for _, form := range servers {
		for _, as := range []string{secret, url.QueryEscape(secret)} {
			var s transcript
			cfg := client.Config{Servers: []string{"mqtt://a", strings.ReplaceAll(strings.ReplaceAll(form, "%s", as), "%%", "%")}}
			_, err := client.New(cfg)
			var bad *client.ConfigError
			if !errors.As(err, &bad) || bad.Field != "Servers" || !strings.HasPrefix(bad.Problem, "entry 2: ") {
				t.Errorf("%s: %v, want a *ConfigError about the second server", form, err)
				continue
			}
			s.print(err, cfg, cfg.Lint())
			s.check(t, secret, "entry 2: ")
		}
	}
	for _, form := range []string{
		"user:%s@proxy", "http://user:%s@", "ftp://user:%s@h", "http://user:%s@h/x", "http://user:%s@h?x", "http://user:%s@h#x", "http://user:%s@h:0", "http://user:%s@a,b",
		"http://user:1#%s@h", "http://u:s %s@h", "http://user:%%zz%s@h", "http://a%%3Ab:%s@h", "socks5://:%s@h", "http://h?%s", "%s",
	} {
		for _, as := range []string{secret, url.QueryEscape(secret)} {
			var s transcript
			cfg := client.Config{Servers: []string{"mqtt://a"}}
			cfg.Connection.Proxy = strings.ReplaceAll(strings.ReplaceAll(form, "%s", as), "%%", "%")
			_, err := client.New(cfg)
			var bad *client.ConfigError
			if !errors.As(err, &bad) || bad.Field != "Connection.Proxy" {
				t.Errorf("%s: %v, want a *ConfigError", form, err)
				continue
			}
			s.print(err)
			s.check(t, secret, "Connection.Proxy")
		}
	}
}

// TestSecrets_Attempts lets attempts to connect fail in each way, and the server repeat what it got.
func TestSecrets_Attempts(t *testing.T) {
	escaped := url.QueryEscape(secret)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "cannot serve "+r.URL.String(), http.StatusForbidden)
	}))
	t.Cleanup(refusing.Close)
	moved := httptest.NewServer(http.RedirectHandler("/elsewhere?token="+escaped, http.StatusFound))
	t.Cleanup(moved.Close)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL) }))
	t.Cleanup(plain.Close)
	closed := listenOn(t, "tcp", "127.0.0.1:0")
	must(t, closed.Close())
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, "ca")
	pair := ca.Issue(t, "client", time.Hour)
	key := filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), pair.Cert, 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte(secret + "                ")}), 0o600))

	ws := func(s *httptest.Server, path string) string {
		return strings.Replace(s.URL, "http", "ws", 1) + path + "?token=" + escaped
	}
	proxied := func(scheme string) func(cfg *client.Config) {
		p := startProxy(t, "user", "other", nil)
		return func(cfg *client.Config) { cfg.Connection.Proxy = scheme + "://user:" + escaped + "@" + p.addr }
	}
	for name, tt := range map[string]struct {
		server string
		set    func(cfg *client.Config)
		must   string
	}{
		"refused WebSocket":    {ws(refusing, "/mqtt"), nil, "403"},
		"redirected WebSocket": {ws(moved, "/mqtt"), nil, "302"},
		"no WebSocket":         {ws(plain, ""), nil, "200"},
		"nobody listens":       {"ws://" + closed.Addr().String() + "/mqtt?token=" + escaped, nil, "connection refused"},
		"no TLS":               {strings.Replace(ws(plain, "/mqtt"), "ws:", "wss:", 1), nil, "tls:"},
		"HTTP proxy":           {"mqtt://broker.test", proxied("http"), "407"},
		"SOCKS5 proxy":         {"mqtt://broker.test", proxied("socks5"), "authentication failed"},
		"no proxy": {"mqtt://broker.test", func(cfg *client.Config) {
			cfg.Connection.Proxy = "http://" + escaped + ":@" + closed.Addr().String()
		}, "connection refused"},
		"Credentials": {"ws://" + closed.Addr().String(), func(cfg *client.Config) {
			cfg.Connection.Username, cfg.Connection.Password = "", nil
			cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) {
				return client.Credentials{Username: "u\x00", Password: []byte(secret)}, nil
			}
		}, "Username"},
		"an invalid TLS key": {"mqtts://" + closed.Addr().String(), func(cfg *client.Config) {
			cfg.TLS, cfg.Connection.TLSFiles = nil, &client.TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: key}
		}, "key.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			var s transcript
			cfg, failed := secretive(tt.server), make(attempts, 1000)
			cfg.OnEvent = failed.add
			if tt.set != nil {
				tt.set(&cfg)
			}
			s.of(&cfg)
			c, err := client.New(cfg)
			if err != nil {
				s.print(err)
				s.check(t, secret, tt.must)
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			start(t, c)
			for range 2 {
				err := fails[error](t, failed)
				s.print(err)
			}
			s.print(c.State(), c.Err(), c.Stats(), cfg, cfg.Lint())
			must(t, c.Close())
			s.print(c)
			s.check(t, secret, tt.must)
		})
	}
}

// TestSecrets_Refusals lets servers repeat the secrets of a CONNECT.
func TestSecrets_Refusals(t *testing.T) {
	for name, tt := range map[string]struct {
		ack control.Connack
		set func(cfg *client.Config)
	}{
		"password":      {control.Connack{Reason: 0x88, ReasonString: "the password " + secret + " is wrong"}, func(*client.Config) {}},
		"user name":     {control.Connack{Reason: 0x88, ReasonString: "no user " + secret}, func(cfg *client.Config) { cfg.Connection.Username, cfg.Connection.Password = secret, nil }},
		"query":         {control.Connack{Reason: 0x88, ReasonString: "the token " + secret + " has expired"}, func(cfg *client.Config) { cfg.Servers = []string{"wss://h/mqtt?token=" + url.QueryEscape(secret)} }},
		"another URL":   {control.Connack{Reason: 0x9C, ReasonString: "there", ServerReference: "wss://user:" + url.QueryEscape(secret) + "@other/mqtt?token=" + url.QueryEscape(secret)}, func(*client.Config) {}},
		"a redirection": {control.Connack{Reason: 0x9C, ReasonString: "there", ServerReference: "wss://other/mqtt?token=" + url.QueryEscape(secret)}, func(*client.Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var said transcript
				cfg := secretive("mqtt://h")
				cfg.TLS, cfg.Connection.Auth = nil, nil
				cfg.Connection.StopOn.When = client.StopNever
				cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) { return s.dial(), nil }
				tt.set(&cfg)
				said.of(&cfg)
				c := mustStart(t, cfg)
				s.accept(tt.ack)
				p := s.accept(control.Connack{})
				connect(t, c)
				_ = p.nc.Close()
				time.Sleep(time.Second)
				said.print(c.State())
				must(t, c.Close())
				said.check(t, secret, "disconnected")
			})
		})
	}
}
