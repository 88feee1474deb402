package link

import (
	"container/heap"
	"errors"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// fleet simulates the policies of many clients, and one server that is up or down and accepts a
// limited number of connections per second. It is an event queue with fake time. Each client has
// the time of its next attempt, or of the end of its connection.
type fleet struct {
	clients []*fleetClient
	queue   fleetQueue

	up     bool
	rate   float64 // connections per second; 0: no limit
	burst  float64
	tokens float64
	filled time.Time
	drop   time.Duration // connections end at the next multiple; 0: they do not end
	uptime time.Duration // connections end after this time; 0: they do not end

	counted   time.Time   // start of counting
	attempts  map[int]int // by slot, since counted
	connected int
}

type fleetClient struct {
	policy    *Policy
	server    *url.URL
	connected bool
	up        time.Time // start of the connection
	next      time.Time // time of the next attempt; while connected: end of the connection
}

const slot = 100 * time.Millisecond

var errFleetRefused = errors.New("connection refused")

// newFleet returns a fleet whose clients have a list of servers. Only "server" is ever up.
func newFleet(n int, policy func() *Policy, hosts ...string) *fleet {
	f := &fleet{up: true, counted: time.Now(), attempts: map[int]int{}}
	for i := range n {
		c := &fleetClient{policy: atServers(policy(), hosts...), next: time.Now().Add(time.Duration(i) * time.Minute / time.Duration(n))}
		f.clients = append(f.clients, c)
		heap.Push(&f.queue, c)
	}
	return f
}

// run processes the events of the next d.
func (f *fleet) run(d time.Duration) {
	until := time.Now().Add(d)
	for len(f.queue) > 0 && !f.queue[0].next.After(until) {
		c := heap.Pop(&f.queue).(*fleetClient)
		time.Sleep(time.Until(c.next))
		if c.connected {
			f.end(c)
		} else {
			f.attempt(c)
		}
	}
	time.Sleep(time.Until(until))
}

func (f *fleet) attempt(c *fleetClient) {
	now := time.Now()
	c.server = c.policy.Next()
	here := c.server.Host == "server:1883"
	if here {
		f.attempts[int(now.Sub(f.counted)/slot)]++
	}
	if !here || !f.accepts(now) {
		c.next = now.Add(c.policy.Decide(End{Server: c.server, Err: errFleetRefused}).Delay)
		heap.Push(&f.queue, c)
		return
	}
	c.policy.Retry.Up()
	c.connected, c.up = true, now
	f.connected++
	if f.drop > 0 {
		c.next = f.counted.Add((now.Sub(f.counted)/f.drop + 1) * f.drop)
		heap.Push(&f.queue, c)
	}
	if f.uptime > 0 {
		c.next = now.Add(f.uptime)
		heap.Push(&f.queue, c)
	}
}

func (f *fleet) accepts(now time.Time) bool {
	if !f.up || f.rate == 0 {
		return f.up
	}
	f.tokens = min(f.burst, f.tokens+now.Sub(f.filled).Seconds()*f.rate)
	f.filled = now
	if f.tokens < 1 {
		return false
	}
	f.tokens--
	return true
}

// end ends a connection whose event is not in the queue.
func (f *fleet) end(c *fleetClient) {
	c.connected = false
	f.connected--
	c.next = time.Now().Add(c.policy.Decide(End{Server: c.server, Err: net.ErrClosed, Up: &Up{}, Took: time.Since(c.up)}).Delay)
	heap.Push(&f.queue, c)
}

// set starts or stops the server and resets the counts.
func (f *fleet) set(up bool) {
	if f.up = up; !up {
		for _, c := range f.clients {
			if c.connected {
				f.end(c)
			}
		}
	}
	f.tokens, f.filled = f.burst, time.Now()
	f.counted, f.attempts = time.Now(), map[int]int{}
}

// restart measures how a restart of the server affects it.
type restart struct {
	peak  float64       // share of the fleet that connected in the worst 100 ms
	total float64       // attempts per client
	back  time.Duration // until all clients are connected
	all   bool          // all are still connected five minutes later
}

// restartOf connects n clients, stops the server for a while, and measures how the clients return.
// rate is the share of the fleet that the server accepts per second.
func restartOf(t *testing.T, n int, backoff reliability.Backoff, down time.Duration, rate float64, hosts ...string) (r restart) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(n, func() *Policy { return &Policy{Retry: reliability.Retry{Backoff: backoff}} }, hosts...)
		f.run(5 * time.Minute)
		if f.connected != n {
			t.Fatalf("%d of %d are connected", f.connected, n)
		}
		f.rate, f.burst = rate*float64(n), rate*float64(n)/10 // the backlog of the server's listener
		f.set(false)
		f.run(down)
		f.set(true)
		began := time.Now()
		for f.connected < n && time.Since(began) < 5*time.Minute {
			f.run(slot)
		}
		r.back = time.Since(began)
		for _, k := range f.attempts {
			r.peak, r.total = max(r.peak, float64(k)/float64(n)), r.total+float64(k)/float64(n)
		}
		f.run(5 * time.Minute)
		r.all = f.connected == n
	})
	return r
}

func withoutJitter(b reliability.Backoff) reliability.Backoff {
	b.Rand = func() float64 { return 1 }
	return b
}

// The server of 10,000 clients is down for a while. The clients do not all return at the same
// moment, but all return soon. Without jitter, where each waits for the maximum delay, they would
// return together. The test compares the figures with that case, for 1,000 clients.
func TestFleet_ReturnsSpreadOverTime(t *testing.T) {
	const n = 10_000
	for name, tt := range map[string]struct {
		backoff reliability.Backoff
		down    time.Duration
		rate    float64 // share of the fleet that the server accepts per second
		share   float64 // maximum share of the fleet in the worst 100 ms
		better  float64 // minimum improvement over no jitter, as a factor
		within  time.Duration
	}{
		// A client's next attempt is at most Backoff.Max away.
		"down for 10 s":                                       {reliability.Backoff{}, 10 * time.Second, 0, 0.04, 15, time.Minute + slot},
		"down for 5 min":                                      {reliability.Backoff{}, 5 * time.Minute, 0, 0.015, 50, time.Minute + slot},
		"down for 10 s, then a tenth a second":                {reliability.Backoff{}, 10 * time.Second, 0.1, 0.04, 15, 2 * time.Minute},
		"down for no time, Min of 5 s":                        {reliability.Backoff{Min: 5 * time.Second}, 0, 0, 0.04, 15, 11 * time.Second},
		"down for no time, a tenth a second":                  {reliability.Backoff{}, 0, 0.1, 1, 1, 2 * time.Minute}, // the first delay is spread only over Min
		"down for no time, Min of 5 s, three tenths a second": {reliability.Backoff{Min: 5 * time.Second}, 0, 0.3, 0.04, 15, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			with := restartOf(t, n, tt.backoff, tt.down, tt.rate, "server")
			without := restartOf(t, n/10, withoutJitter(tt.backoff), tt.down, tt.rate, "server")
			ratio := without.peak / with.peak
			t.Logf("the worst 100 ms: %.1f %% of the fleet, without jitter %.1f %%, %.0f times as many; all back after %v, without jitter %v; %.1f attempts each, without jitter %.1f",
				100*with.peak, 100*without.peak, ratio, with.back, without.back, with.total, without.total)
			if with.peak > tt.share {
				t.Errorf("%.1f %% came in 100 ms, at most %.1f %% may", 100*with.peak, 100*tt.share)
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

// A server accepts connections and drops them at once. The delays grow until a connection has been
// up for Retry.Stable. The test compares that with clients that treat each connection as stable.
func TestFleet_BacksOffFromAServerThatDropsConnections(t *testing.T) {
	const span = 10 * time.Minute
	drops := func(n int, stable time.Duration) (late, total float64) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(n, func() *Policy { return &Policy{Retry: reliability.Retry{Stable: stable}} }, "server")
			f.drop = slot / 2
			f.run(span)
			for at, got := range f.attempts {
				if total += float64(got) / float64(n); at >= int(span/slot)-600 {
					late += float64(got) / float64(n)
				}
			}
		})
		return late, total
	}
	late, total := drops(10_000, 0)
	lateFlapping, totalFlapping := drops(100, time.Nanosecond)
	t.Logf("in 10 minutes %.0f attempts each, %.1f of them in the last one; if each connection counted as stable, %.0f and %.0f", total, late, totalFlapping, lateFlapping)
	if late > 3 || total > 40 { // the delay is half of Backoff.Max on average
		t.Error("the server gets too many attempts")
	}
	if lateFlapping < 50*late {
		t.Error("the comparison shows no difference")
	}
}

// fleetQueue is a heap of clients by their next event.
type fleetQueue []*fleetClient

func (q fleetQueue) Len() int           { return len(q) }
func (q fleetQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q fleetQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *fleetQueue) Push(c any)        { *q = append(*q, c.(*fleetClient)) }
func (q *fleetQueue) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}
