package link

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// scripted are servers that answer attempts as a script defines.
type scripted struct {
	policy  *Policy
	began   time.Time
	answers map[string]string // by host: "down", "hangs", "up 3s", "up 3s 0x97", "0x97", or "0x9C to" a host
	trace   []string          // times and hosts of the attempts
}

// grow is a backoff whose delays are 1, 2, 4 and 8 s, and whose long delay is 8 s.
var grow = reliability.Backoff{Min: time.Second / 2, Max: 8 * time.Second, Rand: func() float64 { return 1 }}

func newScripted(hosts string, answers map[string]string) *scripted {
	p := &Policy{Retry: reliability.Retry{Backoff: grow}, StopOn: StopNever}
	return &scripted{policy: atServers(p, strings.Fields(hosts)...), began: time.Now(), answers: answers}
}

// attempt makes one attempt and waits until the next one.
func (s *scripted) attempt() Decision {
	server := s.policy.Next()
	host := strings.TrimSuffix(server.Host, ":1883")
	s.trace = append(s.trace, fmt.Sprint(time.Since(s.began), " ", host))
	end := End{Server: server, Err: io.EOF, Redirected: !s.policy.route.lists(server)}
	kind, rest, _ := strings.Cut(s.answers[host], " ")
	refused := &ConnackError{}
	switch {
	case kind == "hangs":
		time.Sleep(5 * time.Second)
	case kind == "up":
		uptime, code, _ := strings.Cut(rest, " ")
		end.Took, _ = time.ParseDuration(uptime)
		s.policy.Retry.Up()
		time.Sleep(end.Took)
		end.Up = &Up{}
		if code != "" {
			_, _ = fmt.Sscanf(code, "0x%x", &refused.Reason)
			end.Err = (*DisconnectError)(refused)
		}
	case strings.HasPrefix(kind, "0x"):
		_, _ = fmt.Sscanf(kind, "0x%x", &refused.Reason)
		refused.ServerReference = ServerReference(strings.TrimPrefix(rest, "to "))
		end.Err = refused
	}
	d := s.policy.Decide(end)
	time.Sleep(d.Delay)
	return d
}

func TestRoute_TriesAllServersInARound(t *testing.T) {
	for name, tt := range map[string]struct {
		hosts   string
		answers map[string]string
		want    string
	}{
		"one, down":      {"a", nil, "0s a, 1s a, 3s a, 7s a, 15s a, 23s a"},
		"two, down":      {"a b", nil, "0s a, 0s b, 1s a, 1s b, 3s a, 3s b, 7s a, 7s b, 15s a, 15s b, 23s a"},
		"three, down":    {"a b c", nil, "0s a, 0s b, 0s c, 1s a, 1s b, 1s c, 3s a"},
		"the same twice": {"a a", nil, "0s a, 1s a, 3s a"},
		"one hangs":      {"a b", map[string]string{"a": "hangs"}, "0s a, 5s b, 6s a, 11s b, 13s a"},

		// A busy server is tried again after 8 s, whatever the others do.
		"one, busy":           {"a", map[string]string{"a": "0x97"}, "0s a, 8s a, 16s a"},
		"first busy":          {"a b", map[string]string{"a": "0x97"}, "0s a, 0s b, 1s b, 3s b, 7s b, 8s a, 15s b, 16s a, 23s b"},
		"first busy once":     {"a b", map[string]string{"a": "0x97 once"}, "0s a, 0s b, 1s b, 3s b, 7s b, 8s a, 15s a, 15s b, 23s a"},
		"second busy":         {"a b", map[string]string{"b": "0x89"}, "0s a, 0s b, 1s a, 3s a, 7s a, 8s b, 15s a"},
		"both busy":           {"a b", map[string]string{"a": "0x9F", "b": "0x97"}, "0s a, 0s b, 8s a, 8s b, 16s a, 16s b"},
		"busy, other is up":   {"a b", map[string]string{"a": "0x97", "b": "up 1m"}, "0s a, 0s b, 1m1s b, 2m2s b"},
		"cuts as busy":        {"a b", map[string]string{"a": "up 0s 0x97"}, "0s a, 1s b, 2s b, 4s b, 8s b, 8s a"},
		"stable, cut as busy": {"a b", map[string]string{"a": "up 1m 0x97"}, "0s a, 1m1s b, 1m3s b, 1m7s b, 1m8s a"},
		"taken over":          {"a b", map[string]string{"a": "up 1m 0x8E", "b": "up 1m 0x8E"}, "0s a, 1m8s a, 2m16s a"},
		"taken over, busy":    {"a b", map[string]string{"a": "0x97", "b": "0x8E"}, "0s a, 0s b, 8s a, 8s b"},

		// After a short connection, the other servers are tried after the first delay.
		"cuts at once":                {"a", map[string]string{"a": "up 0s"}, "0s a, 1s a, 3s a, 7s a, 15s a, 23s a"},
		"first cuts at once":          {"a b", map[string]string{"a": "up 0s"}, "0s a, 1s b, 2s b, 2s a, 4s b, 4s a, 8s b, 8s a, 16s b"},
		"both cut at once":            {"a b", map[string]string{"a": "up 0s", "b": "up 0s"}, "0s a, 1s b, 2s a, 3s b, 5s a, 6s b, 10s a"},
		"cut at once, third is up":    {"a b c", map[string]string{"a": "up 0s", "b": "up 0s", "c": "up 1m"}, "0s a, 1s b, 2s c, 1m3s c"},
		"the last stable comes first": {"a b c", map[string]string{"b": "up 1m"}, "0s a, 0s b, 1m1s b, 2m2s b"},

		"redirect, target down":      {"a b", map[string]string{"a": "0x9C to x"}, "0s a, 0s x, 0s b, 1s a, 1s x, 1s b, 3s a"},
		"moved, target down":         {"a b", map[string]string{"a": "0x9D to x"}, "0s a, 0s x, 0s b, 1s x, 1s b, 3s x"},
		"redirect, target up":        {"a b", map[string]string{"a": "0x9C to x", "x": "up 1m"}, "0s a, 0s x, 1m1s x, 2m2s x"},
		"redirect, target cuts":      {"a b", map[string]string{"a": "0x9C to x", "x": "up 0s"}, "0s a, 0s x, 1s b, 2s b, 2s a, 2s x"},
		"redirect, target busy":      {"a", map[string]string{"a": "0x9C to x", "x": "0x97"}, "0s a, 0s x, 1s a, 3s a, 7s a, 15s a, 15s x"},
		"redirect to each other":     {"a b", map[string]string{"a": "0x9C to b", "b": "0x9C to a"}, "0s a, 0s b, 1s a, 1s b, 3s a"},
		"redirect in a circle":       {"a", map[string]string{"a": "0x9C to x", "x": "0x9C to y", "y": "0x9C to a"}, "0s a, 0s x, 0s y, 1s a, 1s x"},
		"redirect after the circle":  {"a b", map[string]string{"a": "0x9C to x", "b": "0x9C to x"}, "0s a, 0s x, 0s b, 1s a, 1s x, 1s b"},
		"redirect to a busy one":     {"a b", map[string]string{"a": "0x97", "b": "0x9C to a"}, "0s a, 0s b, 1s b, 3s b, 7s b, 8s a"},
		"moved to one in the list":   {"a b", map[string]string{"a": "0x9D to b"}, "0s a, 0s b, 1s b, 3s b"},
		"refused with several codes": {"a b c", map[string]string{"a": "0x87", "b": "0x88", "c": "0x80"}, "0s a, 0s b, 0s c, 1s a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(tt.hosts, tt.answers)
				n := len(strings.Split(tt.want, ", "))
				for range n {
					s.attempt()
					if strings.HasSuffix(tt.answers["a"], " once") {
						tt.answers["a"] = strings.TrimSuffix(tt.answers["a"], " once")
						if len(s.trace) == 1 {
							tt.answers["a"] = "down"
						}
					}
				}
				if got := strings.Join(s.trace, ", "); got != tt.want {
					t.Errorf("attempts:\n%s, want\n%s", got, tt.want)
				}
			})
		})
	}
}

// A server that comes back is tried within Backoff.Max, not counting the time that attempts and
// connections take and the short delays after connections. No server is tried more often than the
// backoff allows. Both hold for each server, whatever the servers answer.
func TestRoute_IsBoundedForEachServer(t *testing.T) {
	answers := []string{"down", "hangs", "0x97", "0x87", "up 0s", "up 3s", "up 0s 0x97", "0x9C to x", "0x9C to a"}
	for hosts := 1; hosts <= 4; hosts++ {
		for _, first := range answers {
			for _, others := range answers {
				synctest.Test(t, func(t *testing.T) {
					list := strings.Fields("a b c d")[:hosts]
					s := newScripted(strings.Join(list, " "), map[string]string{"a": first, "b": others, "c": others, "d": others})
					last, busy := map[string]time.Duration{}, time.Duration(0) // attempts, in time without busy
					for n := range 15 * hosts {
						at := time.Since(s.began) - busy
						began := time.Now()
						d := s.attempt()
						host := s.trace[n][strings.LastIndex(s.trace[n], " ")+1:]
						if before, ok := last[host]; ok && at-before < grow.Min {
							t.Fatalf("%d servers, %s, %s: %s is tried again too soon: %v", hosts, first, others, host, s.trace)
						}
						last[host] = at
						busy += time.Since(began) - d.Delay
						for _, host := range list {
							if idle := time.Since(s.began) - busy - last[host]; idle > grow.Max+time.Duration(hosts)*2*grow.Min {
								t.Fatalf("%d servers, %s, %s: %s was not tried for %v: %v", hosts, first, others, host, idle, s.trace)
							}
						}
					}
				})
			}
		}
	}
}

// NetworkChanged makes all servers available, even a postponed one.
func TestRoute_NetworkChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted("a b", map[string]string{"a": "0x97"})
		for range 3 {
			s.attempt()
		}
		time.Sleep(time.Second / 2)
		s.policy.Retry.Reset()
		s.policy.RetryNow()
		for range 3 {
			s.attempt()
		}
		if got := strings.Join(s.trace, ", "); got != "0s a, 0s b, 1s b, 3.5s a, 3.5s b, 4.5s b" {
			t.Error(got)
		}
	})
}

// Servers that ask for new redirect targets and later retries do not fill the memory.
func TestRoute_ForgetsPostponedServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted("a", map[string]string{})
		for i := range 1000 {
			target := fmt.Sprint("x", i)
			s.answers["a"], s.answers[target] = "0x9C to "+target, "0x97"
			s.attempt()
		}
		if n := len(s.policy.route.later); n > 20 {
			t.Errorf("%d postponed servers", n)
		}
	})
}

// The server of an unknown session is tried again at once, because the next attempt resumes or
// discards the session there.
func TestLink_AdoptsASessionAtItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(c *Config) {
			c.Identity = NewIdentity(IdentityConfig{ClientID: "c", Expiry: time.Hour, Store: fakeStore{}})
			c.AdoptSession = func() error { return nil }
		})
		(<-r.peers).accept(control.Connack{SessionPresent: true})
		if err := <-r.failures; err == nil || !strings.Contains(err.Error(), "resuming") {
			t.Errorf("the first attempt ended with %v", err)
		}
		if p := <-r.peers; p.server != "one:1883" || time.Since(r.journal.began) != 0 {
			t.Errorf("the next attempt was at %s after %v", p.server, time.Since(r.journal.began))
		}
		r.end()
	})
}

// The default of StableAfter is the same in Retry and in Policy.
func TestPolicy_StableAfterIsThatOfRetry(t *testing.T) {
	for _, stable := range []time.Duration{0, time.Second, -1, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			p := &Policy{Retry: reliability.Retry{Stable: stable}}
			for uptime, want := range map[time.Duration]bool{p.stableAfter() - 1: false, p.stableAfter(): true} {
				p.Retry.Next()
				p.Retry.Up()
				time.Sleep(uptime)
				if got := p.Retry.Attempts() == 0; got != want {
					t.Errorf("Stable %v: reset after %v: %v", stable, uptime, got)
				}
				p.Retry.Down()
			}
		})
	}
}
