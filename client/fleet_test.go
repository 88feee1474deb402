package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/reliability"
)

// crowd is a broker as far as a crowd of clients sees it: it is up or down, and takes
// so many connections a second. It counts who comes when.
type crowd struct {
	mu       sync.Mutex
	began    time.Time
	up       bool
	rate     float64 // connections a second; 0: any number
	burst    float64
	tokens   float64
	filled   time.Time
	gone     chan struct{} // closed when the broker goes
	attempts map[int]int   // per 100 ms since began
	accepted map[int]int
	standing int
}

func newCrowd(rate, burst float64) *crowd {
	return &crowd{began: time.Now(), up: true, rate: rate, burst: burst, tokens: burst, filled: time.Now(), gone: make(chan struct{}),
		attempts: map[int]int{}, accepted: map[int]int{}}
}

const slot = 100 * time.Millisecond

// come is an attempt. It returns what ends the connection, or nil.
func (b *crowd) come() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	at := int(now.Sub(b.began) / slot)
	b.attempts[at]++
	if !b.up {
		return nil
	}
	if b.rate > 0 {
		b.tokens = min(b.burst, b.tokens+now.Sub(b.filled).Seconds()*b.rate)
		b.filled = now
		if b.tokens < 1 {
			return nil
		}
		b.tokens--
	}
	b.accepted[at]++
	b.standing++
	return b.gone
}

func (b *crowd) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.standing--
}

// set brings the broker up or down, and begins to count anew.
func (b *crowd) set(up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.up = up; !up {
		close(b.gone)
		b.gone = make(chan struct{})
	}
	b.tokens, b.filled = b.burst, time.Now()
	b.began, b.attempts, b.accepted = time.Now(), map[int]int{}, map[int]int{}
}

// peak is the most attempts in 100 ms, and how many there were in all.
func (b *crowd) peak() (peak, total int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.attempts {
		peak, total = max(peak, n), total+n
	}
	return peak, total
}

func (b *crowd) connected() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.standing
}

// member is a client's decisions without its connections: what link.Run asks it after
// each end, and how long it then waits.
func (b *crowd) member(ctx context.Context, cfg Config, first time.Duration) {
	c := &Client{cfg: cfg.withDefaults()}
	c.retry = reliability.Retry{Backoff: cfg.Connection.Backoff, Stable: cfg.Connection.StableAfter}
	server := &url.URL{Scheme: "mqtt", Host: "broker:1883"}
	refused := errors.New("connection refused")
	rest := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for wait := first; rest(wait); {
		end := link.End{Server: server, Err: refused}
		if gone := b.come(); gone != nil {
			end.Up, end.Err = &link.Up{}, net.ErrClosed
			c.retry.Up()
			select {
			case <-gone:
			case <-ctx.Done():
			}
			b.leave()
		}
		wait = c.decide(end).Delay
	}
}

// restartOf is what a restart of the broker looks like to it.
type restartOf struct {
	peak, total int
	back        time.Duration // until all are connected
	all         bool          // they still are, a while later
}

// fleet lets n clients stand, takes the broker away for a while, and watches them come
// back. noJitter has all wait the longest that they may.
func fleet(t *testing.T, n int, backoff reliability.Backoff, down time.Duration, rate float64) (r restartOf) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newCrowd(0, 0)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer stop()
		for i := range n {
			first := time.Duration(i) * time.Minute / time.Duration(n)
			all.Go(func() { b.member(ctx, Config{Connection: ConnectionConfig{Backoff: backoff}}, first) })
		}
		time.Sleep(5 * time.Minute)
		if b.connected() != n {
			t.Fatalf("%d of %d are connected", b.connected(), n)
		}
		b.rate, b.burst = rate, rate/10 // the backlog of its listener, say
		b.set(false)
		synctest.Wait()
		time.Sleep(down)
		b.set(true)
		began := time.Now()
		for b.connected() < n && time.Since(began) < time.Hour {
			time.Sleep(slot)
		}
		r.back = time.Since(began)
		r.peak, r.total = b.peak()
		time.Sleep(5 * time.Minute)
		r.all = b.connected() == n
	})
	return r
}

func withoutJitter(b reliability.Backoff) reliability.Backoff {
	b.Rand = func() float64 { return 1 }
	return b
}

// 10,000 clients (under the race detector fewer), each with the decisions of a real
// one, and one broker that goes away
// for a while: they do not come back at one moment, and all are back soon. Without
// jitter they would, which is what the figures are held against.
func TestFleetComesBackWithoutAHerd(t *testing.T) {
	const n = fleetSize
	for name, tt := range map[string]struct {
		backoff reliability.Backoff
		down    time.Duration
		rate    float64 // connections a second that the broker takes
		share   float64 // of the fleet that may come in the worst 100 ms
		better  float64 // times less than without jitter
		within  time.Duration
	}{
		// A client's next attempt is never further away than Backoff.Max.
		"down for 10 s":                                       {reliability.Backoff{}, 10 * time.Second, 0, 0.04, 15, time.Minute + slot},
		"down for 5 min":                                      {reliability.Backoff{}, 5 * time.Minute, 0, 0.015, 50, time.Minute + slot},
		"down for 10 s, then a tenth a second":                {reliability.Backoff{}, 10 * time.Second, n / 10, 0.04, 15, 2 * time.Minute},
		"down for no time, Min of 5 s":                        {reliability.Backoff{Min: 5 * time.Second}, 0, 0, 0.04, 15, 11 * time.Second},
		"down for no time, a tenth a second":                  {reliability.Backoff{}, 0, n / 10, 1, 1, 2 * time.Minute}, // the first wait is spread over Min alone
		"down for no time, Min of 5 s, three tenths a second": {reliability.Backoff{Min: 5 * time.Second}, 0, 3 * n / 10, 0.04, 15, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			with := fleet(t, n, tt.backoff, tt.down, tt.rate)
			without := fleet(t, n, withoutJitter(tt.backoff), tt.down, tt.rate)
			ratio := float64(without.peak) / float64(with.peak)
			t.Logf("the worst 100 ms: %.1f %% of the fleet, without jitter %.1f %%, %.0f times as many; all back after %v, without jitter %v; %.1f attempts each, without jitter %.1f",
				100*float64(with.peak)/n, 100*float64(without.peak)/n, ratio, with.back, without.back, float64(with.total)/n, float64(without.total)/n)
			if float64(with.peak) > tt.share*n {
				t.Errorf("%d came in 100 ms, at most %.0f may", with.peak, tt.share*n)
			}
			if ratio < tt.better {
				t.Errorf("without jitter it would be %.1f times as many; a herd should show", ratio)
			}
			if with.back > tt.within || !with.all {
				t.Errorf("all are back after %v, want %v", with.back, tt.within)
			}
		})
	}
}

// A broker that takes connections and drops them at once, as one does that is out of
// memory: the delays grow all the same, until a connection has stood for StableAfter.
func TestFleetLeavesABrokerAloneThatDropsConnections(t *testing.T) {
	const span = 10 * time.Minute
	drops := func(n int, stable time.Duration) (late, total float64) {
		synctest.Test(t, func(t *testing.T) {
			b := newCrowd(0, 0)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for range n {
				all.Go(func() { b.member(ctx, Config{Connection: ConnectionConfig{StableAfter: stable}}, 0) })
			}
			gone := time.NewTicker(50 * time.Millisecond) // every connection ends within
			defer gone.Stop()
			for began := time.Now(); time.Since(began) < span; <-gone.C {
				b.mu.Lock()
				close(b.gone)
				b.gone = make(chan struct{})
				b.mu.Unlock()
			}
			stop()
			all.Wait()
			for at, got := range b.attempts {
				if total += float64(got) / float64(n); at >= int(span/slot)-600 {
					late += float64(got) / float64(n)
				}
			}
		})
		return late, total
	}
	late, total := drops(fleetSize, 0)
	lateFlapping, totalFlapping := drops(100, time.Nanosecond)
	t.Logf("in 10 minutes %.0f attempts each, %.1f of them in the last one; if each connection counted as stable, %.0f and %.0f", total, late, totalFlapping, lateFlapping)
	if late > 3 || total > 40 { // the wait is half of Backoff.Max on average
		t.Error("it is hammered")
	}
	if lateFlapping < 50*late {
		t.Error("this test could not tell")
	}
}

// The same restart with real clients and a real broker, sessions and subscriptions
// included.
func TestFleetOfRealClients(t *testing.T) {
	const n = realFleetSize
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
		clients := make([]*Client, n)
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
			c, err := New(cfg)
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
			if d := publish(t, c, "t", "x", AtLeastOnce); d != nil {
				wantState(t, d, Acked)
			}
		}
		stop()
		for _, c := range clients {
			<-c.Done()
		}
	})
	t.Logf("the worst 100 ms: %.1f %% of the fleet; all back after %v", 100*float64(peak)/n, back)
	if peak > n/10 || back > time.Minute+slot {
		t.Errorf("%d of %d came in 100 ms, all are back after %v", peak, n, back)
	}
}
