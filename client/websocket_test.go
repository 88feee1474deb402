package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/reliability"
)

// signedGateway passes WebSockets on to a broker if their signature was not used before, and refuses
// others with 403 and a body that repeats it.
func signedGateway(t *testing.T, b *mqtttest.Broker) (server string) {
	target, err := url.Parse(strings.Replace(b.WebSocketURL(), "ws:", "http:", 1))
	must(t, err)
	target.Path = ""
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	var mu sync.Mutex
	used := map[string]bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signature := r.URL.Query().Get("signature")
		mu.Lock()
		known := used[signature] || signature == "" || r.Header.Get("Origin") != "https://app.test"
		used[signature] = true
		mu.Unlock()
		if known {
			http.Error(w, "signature "+signature+" has expired", http.StatusForbidden)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http:", "ws:", 1) + "/mqtt"
}

func webSocketConfig(server string, events *recorder) client.Config {
	return client.Config{Servers: []string{server}, ClientID: "c", OnEvent: events.add, Logger: slog.New(slog.DiscardHandler),
		Connection: client.ConnectionConfig{Backoff: reliability.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond}}}
}

func TestWebSocketRequest_IsCalledForEachAttempt(t *testing.T) {
	b := mqtttest.Start(t, func(o *mqtttest.Options) { o.WebSocket = true })
	var events recorder
	cfg := webSocketConfig(signedGateway(t, b), &events)
	n := 0
	cfg.Connection.WebSocketRequest = func(_ context.Context, r *client.WebSocketRequest) error {
		n++
		r.Header.Set("Origin", "https://app.test")
		r.URL.RawQuery = fmt.Sprint("signature=sig-number-", max(n, 2)) // the second attempt uses an old one
		return nil
	}
	c := mustStart(t, cfg)
	defer c.Close()
	connect(t, c)
	b.Cut("c")
	awaitEvents[client.Connected](t, &events, 2, 10*time.Second)
	_, err := publish(t, c, "t", "x", client.AtLeastOnce).Wait(t.Context())
	must(t, err)
	failed := eventsOf[client.ConnectFailed](&events)
	refused := &client.WebSocketError{}
	if len(failed) != 1 || !errors.As(failed[0].Err, &refused) || refused.Status != 403 || refused.Body != "signature xxxxx has expired" {
		t.Fatalf("got %+v", failed)
	}
	for _, text := range []string{"403", "expired", "WebSocketRequest"} {
		if !strings.Contains(failed[0].Err.Error(), text) {
			t.Errorf("%q is not in %v", text, failed[0].Err)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v %v", failed, c.State()), "sig-number") {
		t.Errorf("the signature is in %+v", failed)
	}
}

// Whatever the application's function does is a failed attempt, within ConnectTimeout, and never two
// calls at a time.
func TestWebSocketRequest_Fails(t *testing.T) {
	errVault := errors.New("the vault is closed")
	for name, tt := range map[string]struct {
		change func(ctx context.Context, r *client.WebSocketRequest) error
		is     error
		panics bool
	}{
		"an error":    {change: func(context.Context, *client.WebSocketRequest) error { return errVault }, is: errVault},
		"a panic":     {change: func(context.Context, *client.WebSocketRequest) error { panic("boom") }, panics: true},
		"Goexit":      {change: func(context.Context, *client.WebSocketRequest) error { runtime.Goexit(); return nil }, panics: true},
		"a scheme":    {change: func(_ context.Context, r *client.WebSocketRequest) error { r.URL.Scheme = "http"; return nil }},
		"no URL":      {change: func(_ context.Context, r *client.WebSocketRequest) error { r.URL = nil; return nil }},
		"its context": {change: func(ctx context.Context, _ *client.WebSocketRequest) error { <-ctx.Done(); return ctx.Err() }, is: context.DeadlineExceeded},
		"its context ignored": {change: func(ctx context.Context, _ *client.WebSocketRequest) error {
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond)
			return nil
		}, is: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			b := mqtttest.Start(t, func(o *mqtttest.Options) { o.WebSocket = true })
			var events recorder
			cfg := webSocketConfig(b.WebSocketURL(), &events)
			cfg.Connection.ConnectTimeout = 2 * time.Second
			if errors.Is(tt.is, context.DeadlineExceeded) {
				cfg.Connection.ConnectTimeout = 100 * time.Millisecond
			}
			var calls, running atomic.Int32
			cfg.Connection.WebSocketRequest = func(ctx context.Context, r *client.WebSocketRequest) error {
				if running.Add(1) > 1 {
					t.Error("two calls at a time")
				}
				defer running.Add(-1)
				if calls.Add(1) == 1 {
					return tt.change(ctx, r)
				}
				return nil
			}
			c := mustStart(t, cfg)
			connect(t, c)
			must(t, c.Close())
			failed := eventsOf[client.ConnectFailed](&events)
			refused := &client.WebSocketError{}
			if len(failed) == 0 || !errors.As(failed[0].Err, &refused) || refused.Status != 0 || tt.is != nil && !errors.Is(failed[0].Err, tt.is) {
				t.Fatalf("got %+v", failed)
			}
			if n := len(eventsOf[client.CallbackPanicked](&events)); (n == 1) != tt.panics {
				t.Errorf("%d panics were reported", n)
			}
		})
	}
}

func TestWebSocketRequest_MayClose(t *testing.T) {
	b := mqtttest.Start(t, func(o *mqtttest.Options) { o.WebSocket = true })
	var c *client.Client
	cfg := webSocketConfig(b.WebSocketURL(), &recorder{})
	cfg.Connection.WebSocketRequest = func(context.Context, *client.WebSocketRequest) error { return c.Close() }
	c = mustNew(t, cfg)
	start(t, c)
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Close in WebSocketRequest hangs")
	}
}
