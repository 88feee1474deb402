package client_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/reliability"
)

// The race detector follows 8,128 goroutines at a time and no more: 200 clients are
// for each run, and 2,000 for the gate.
var fleetClients = flag.Int("fleet.clients", 200, "how many clients TestFleet_OfRealClients has")

const slot = 100 * time.Millisecond

// A restart of the broker with real clients, sessions and subscriptions included: the
// clients do not return at one moment. internal/link has the same for 10,000 policies.
func TestFleet_OfRealClients(t *testing.T) {
	n := *fleetClients
	dir := t.TempDir()
	var peak int
	var back time.Duration
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, dir)
		var mu sync.Mutex
		var began time.Time
		came := map[int]int{}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		clients := make([]*client.Client, n)
		for i := range clients {
			cfg := testConfig(fmt.Sprint("device ", i), &recorder{}, nil)
			cfg.Connection.Backoff, cfg.OnEvent, cfg.Receiving.Concurrency = reliability.Backoff{}, nil, 1
			cfg.Connection.KeepAlive = time.Hour
			cfg.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
				mu.Lock()
				came[int(time.Since(began)/slot)]++
				mu.Unlock()
				return s.direct(ctx, u)
			}
			c, err := client.New(cfg)
			must(t, err)
			must(t, c.Handle("#", newInbox()))
			must(t, c.Start(ctx))
			clients[i] = c
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		s.down()
		time.Sleep(10 * time.Second)
		mu.Lock()
		began, came = time.Now(), map[int]int{}
		mu.Unlock()
		s.up()
		for _, c := range clients {
			connectSoon(t, c)
		}
		back = time.Since(began)
		mu.Lock()
		for _, k := range came {
			peak = max(peak, k)
		}
		mu.Unlock()
		for _, c := range clients {
			if d := publish(t, c, "t", "x", client.AtLeastOnce); d != nil {
				wantState(t, d, client.Acked)
			}
		}
		stop()
		for _, c := range clients {
			<-c.Done()
		}
	})
	t.Logf("the worst 100 ms: %.1f %% of the fleet; all back after %v", 100*float64(peak)/float64(n), back)
	if peak > n/10 || back > time.Minute+slot {
		t.Errorf("%d of %d came in 100 ms, all are back after %v", peak, n, back)
	}
}
