package client_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/reliability"
)

// A server that asks for a later retry delays only itself. Backoff is the default, so that the
// later retry comes after 30 s or more.
func TestServers_BusyServerDoesNotDelayOthers(t *testing.T) {
	for _, code := range []byte{0x89, 0x97, 0x9F} {
		t.Run(fmt.Sprintf("%02X", code), func(t *testing.T) {
			busy := mqtttest.Start(t, mqtttest.With(mqtttest.Options{Authenticate: func(context.Context, string, string, []byte) byte { return code }}))
			free := mqtttest.Start(t)
			a := make(attempts, 1000)
			cfg := overSockets("", a)
			cfg.Servers, cfg.Connection.Backoff = []string{busy.URL(), free.URL()}, reliability.Backoff{}
			c := mustStart(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			if err := c.AwaitConnection(ctx); err != nil {
				t.Fatal(err)
			}
			if got := c.State().Server; got != free.URL() {
				t.Errorf("connected to %s", got)
			}
		})
	}
}

// While six servers of seven are down, the client finds the seventh within Backoff.Max.
func TestServers_DeadServersDoNotDelayOthers(t *testing.T) {
	const longest = time.Second
	b := mqtttest.Start(t)
	cfg := overSockets("", make(attempts, 10_000))
	cfg.Servers, cfg.Connection.Backoff = nil, reliability.Backoff{Min: longest, Max: longest}
	var last net.Listener
	for range 7 {
		last = listenOn(t, "tcp", "127.0.0.1:0")
		must(t, last.Close())
		cfg.Servers = append(cfg.Servers, "mqtt://"+last.Addr().String())
	}
	c := mustStart(t, cfg)
	time.Sleep(2 * longest)
	served(t, listenOn(t, "tcp", last.Addr().String()), func(in net.Conn) {
		if out, err := net.Dial("tcp", b.Addr()); err == nil {
			pump(in, out)
		}
	})
	began := time.Now()
	connectSoon(t, c)
	if d := time.Since(began); d > 3*longest { // with time for a busy machine
		t.Errorf("connected %v after the server came back, want %v", d, longest)
	}
	wantState(t, publish(t, c, "t", "x", client.AtLeastOnce), client.Acked)
}
