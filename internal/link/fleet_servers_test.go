package link

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// The server of 2,000 clients is down for a while, and other servers of their list are down
// permanently. The clients return as soon, and as spread over time, as with one server. The server
// gets no more attempts.
func TestFleet_ReturnsWithSeveralServers(t *testing.T) {
	const n = 2000
	for name, down := range map[string]time.Duration{"down for 10 s": 10 * time.Second, "down for 5 min": 5 * time.Minute} {
		one := restartOf(t, n, reliability.Backoff{}, down, 0, "server")
		for _, hosts := range []string{"dead server", "server dead", "dead server gone", "gone lost dead server"} {
			r := restartOf(t, n, reliability.Backoff{}, down, 0, strings.Fields(hosts)...)
			t.Logf("%s, %s: the worst 100 ms: %.1f %% of the fleet (one server: %.1f %%); all back after %v; %.1f attempts each", name, hosts, 100*r.peak, 100*one.peak, r.back, r.total)
			if r.peak > 2*one.peak || r.back > time.Minute+slot || !r.all || r.total > 1.1*one.total {
				t.Errorf("%s, %s: %+v; one server: %+v", name, hosts, r, one)
			}
		}
	}
}

// Servers that end connections after a while get a bounded number of attempts.
func TestFleet_BoundsAttemptsOfShortConnections(t *testing.T) {
	const n, span = 200, 10 * time.Minute
	for uptime, most := range map[time.Duration]float64{
		10 * time.Millisecond: 3, time.Second: 4, 2 * time.Second: 17, 3 * time.Second: 17, 5 * time.Second: 13, 9 * time.Second: 7, 10 * time.Second: 6,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(n, func() *Policy { return &Policy{} }, "server")
			f.uptime = uptime
			f.run(span)
			late := 0.0
			for at, got := range f.attempts {
				if at >= int(span/slot)-600 {
					late += float64(got) / n
				}
			}
			t.Logf("connections of %v: %.1f attempts per client in the last minute", uptime, late)
			if late > most {
				t.Errorf("connections of %v: %.1f attempts per client in a minute, at most %.0f", uptime, late, most)
			}
		})
	}
}

// A broker is away several times for 4 s, with connections of 3 s between. The client mostly returns
// within a few seconds. If connections of 3 s did not count, it would take up to Backoff.Max.
func TestPolicy_ReturnsSoonAfterShortConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := atServers(&Policy{}, "dead", "server")
		var waits []time.Duration
		for range 2000 {
			p.Retry.Up()
			time.Sleep(3 * time.Second)
			back := time.Now().Add(4 * time.Second)
			time.Sleep(p.Decide(End{Server: p.route.list[1], Err: errFleetRefused, Up: &Up{}, Took: 3 * time.Second}).Delay)
			server := p.Next()
			for server.Host != "server:1883" || time.Now().Before(back) {
				time.Sleep(p.Decide(End{Server: server, Err: errFleetRefused}).Delay)
				server = p.Next()
			}
			waits = append(waits, time.Since(back))
		}
		slices.Sort(waits)
		median, most := waits[len(waits)/2], waits[len(waits)*9/10]
		t.Logf("half of the waits take at most %v, nine of ten %v", median, most)
		if median > 5*time.Second || most > 15*time.Second {
			t.Error("the client returns too late")
		}
	})
}
