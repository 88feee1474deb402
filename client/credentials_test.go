package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// After a refused password, Credentials is called again, for every refusing code. Without
// Credentials the client stops.
func TestCredentials_RetriesAfterWrongPassword(t *testing.T) {
	for _, reason := range []byte{0x86, 0x87, 0x8C} {
		refuse := func(_ context.Context, _, user string, password []byte) byte {
			if user == "device" && string(password) == "right" {
				return 0
			}
			return reason
		}
		inBubble(t, mqtttest.Options{Authenticate: refuse}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			var events recorder
			cfg := testConfig("c", &events, through(p))
			asked := 0
			cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) {
				if asked++; asked > 3 {
					return client.Credentials{Username: "device", Password: []byte("right")}, nil
				}
				return client.Credentials{Username: "device", Password: fmt.Append(nil, "wrong", asked)}, nil
			}
			c := mustStart(t, cfg)
			connect(t, c)
			failed := eventsOf[client.ConnectFailed](&events)
			for _, e := range failed {
				var refused *client.ConnectionError
				if !errors.As(e.Err, &refused) || refused.Code != reason || e.Delay == 0 || strings.Contains(e.Err.Error(), "wrong") {
					t.Errorf("got %+v", e)
				}
			}
			if len(failed) != 3 || asked != 4 {
				t.Errorf("%d attempts failed, %d times asked; want 3 and 4", len(failed), asked)
			}
			b.Cut("c")
			synctest.Wait()
			time.Sleep(time.Minute)
			if connect(t, c); asked != 5 {
				t.Errorf("asked %d times, want once for each attempt", asked)
			}

			cfg = testConfig("d", &recorder{}, through(p))
			cfg.Connection.Username, cfg.Connection.Password = "device", []byte("wrong")
			fixed := mustStart(t, cfg)
			<-fixed.Done()
			var refused *client.ConnectionError
			if !errors.As(fixed.Err(), &refused) || refused.Code != reason {
				t.Errorf("with a fixed password: %v", fixed.Err())
			}
		})
	}
}

// Credentials gets the server of each attempt, also that of a redirect.
func TestCredentials_GetTheServer(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one", "wss://two/mqtt?token=x")
		cfg.Connection.Credentials = func(ctx context.Context) (client.Credentials, error) {
			at := client.ServerOf(ctx)
			user := at.String()
			at.Host = "changed" // a copy
			return client.Credentials{Username: user}, nil
		}
		mustStart(t, cfg)
		for _, want := range []string{"mqtt://one:1883", "mqtt://else:1883", "wss://two:443/mqtt?token=x"} {
			<-a.asked
			refusal := control.Connack{Reason: 0x88}
			if strings.Contains(want, "one") {
				refusal = control.Connack{Reason: 0x9C, ServerReference: "else"}
			}
			if p := a.accept(refusal); p.connect.Username != want {
				t.Errorf("credentials for %s, want %s", p.connect.Username, want)
			}
		}
	})
	if at := client.ServerOf(t.Context()); at != nil {
		t.Errorf("without an attempt: %v", at)
	}
}

// Other refusals do not concern credentials.
func TestCredentials_DoNotHelpAnInvalidClientID(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) { return client.Credentials{Username: "u"}, nil }
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{Reason: 0x85})
		if p.connect.Username != "u" || p.connect.Password != nil {
			t.Errorf("CONNECT has %q, %q", p.connect.Username, p.connect.Password)
		}
		if <-c.Done(); c.Err() == nil {
			t.Error("it goes on")
		}
	})
}

var errVault = errors.New("the vault is locked")

// Whatever Credentials does, only the attempt fails, within ConnectTimeout, and calls do not
// overlap.
func TestCredentials_Fail(t *testing.T) {
	hang := make(chan struct{})
	var field *client.FieldError
	for name, tt := range map[string]struct {
		ask  func(ctx context.Context) (client.Credentials, error)
		is   error
		as   any
		took time.Duration
	}{
		"an error":               {func(context.Context) (client.Credentials, error) { return client.Credentials{}, errVault }, errVault, nil, 0},
		"a panic":                {func(context.Context) (client.Credentials, error) { panic("no vault") }, nil, nil, 0},
		"the end of a goroutine": {func(context.Context) (client.Credentials, error) { runtime.Goexit(); panic("unreachable") }, nil, nil, 0},
		"no user name":           {func(context.Context) (client.Credentials, error) { return client.Credentials{Username: "a\x00"}, nil }, nil, &field, 0},
		"no password": {func(context.Context) (client.Credentials, error) {
			return client.Credentials{Password: make([]byte, 65_536)}, nil
		}, nil, &field, 0},
		"waits for its context": {func(ctx context.Context) (client.Credentials, error) {
			<-ctx.Done()
			return client.Credentials{}, ctx.Err()
		}, context.DeadlineExceeded, nil, 20 * time.Second},
		"waits for something else": {func(context.Context) (client.Credentials, error) { <-hang; return client.Credentials{}, nil }, context.DeadlineExceeded, nil, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				hang = make(chan struct{}) // belongs to this bubble
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				var calls, running atomic.Int64
				cfg.Connection.Credentials = func(ctx context.Context) (client.Credentials, error) {
					if running.Add(1) > 1 {
						t.Error("two calls at a time")
					}
					defer running.Add(-1)
					if calls.Add(1) == 1 {
						return tt.ask(ctx)
					}
					return client.Credentials{Username: "u", Password: []byte("p")}, nil
				}
				began := time.Now()
				c := mustStart(t, cfg)
				time.AfterFunc(time.Minute, func() { close(hang) })
				p := s.accept(control.Connack{})
				connect(t, c)
				if p.connect.Username != "u" || string(p.connect.Password) != "p" {
					t.Errorf("CONNECT has %q, %q", p.connect.Username, p.connect.Password)
				}
				failed := eventsOf[client.ConnectFailed](&events)
				told := new(client.CredentialsError)
				if len(failed) == 0 || !errors.As(failed[0].Err, &told) || tt.is != nil && !errors.Is(told, tt.is) || tt.as != nil && !errors.As(told, tt.as) {
					t.Fatalf("got %+v after %v", failed, time.Since(began))
				}
			})
		})
	}
	withScript(t, func(t *testing.T, s *script) { // Close does not wait for the function
		never := make(chan struct{})
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) { <-never; return client.Credentials{}, nil }
		c := mustStart(t, cfg)
		synctest.Wait()
		began := time.Now()
		if err := c.Close(); err != nil || time.Since(began) > 0 {
			t.Errorf("Close took %v, %v", time.Since(began), err)
		}
		close(never)
	})
}

func TestCredentials_HidePassword(t *testing.T) {
	who := client.Credentials{Username: "user", Password: []byte("secret")}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("connecting", "as", who)
	}
	text := log.String() + fmt.Sprintf("%v %+v %#v %s %v", who, who, who, who, &who)
	if strings.Contains(text, "secret") || strings.Contains(text, fmt.Sprint([]byte("secret"))) || strings.Contains(text, "c2VjcmV0") || strings.Count(text, "user") != 7 {
		t.Errorf("got %s", text)
	}
}
