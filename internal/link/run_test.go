package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// journal is what Run did, and when.
type journal struct {
	began time.Time
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.lines = append(j.lines, fmt.Sprintf("%v ", time.Since(j.began))+fmt.Sprintf(format, args...))
}

func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	if fmt.Sprint(j.lines) != fmt.Sprint(lines) {
		t.Errorf("got\n%q, want\n%q", j.lines, lines)
	}
	j.lines = nil
}

// watch writes down attempts and ends.
func (j *journal) watch(c *Config) {
	j.began = time.Now()
	c.Attempt = func(server *url.URL, n int) { j.note("%d %s", n, server.Host) }
	told := c.Failed
	c.Failed = func(end End, d Decision) { j.note("failed %d", end.Attempt); told(end, d) }
}

func TestRunGoesWhereItIsSent(t *testing.T) {
	down := errors.New("down")
	for name, tt := range map[string]struct {
		decide func(End) Decision
		want   []string
	}{
		"for once": {
			func(end End) Decision {
				if end.Server.Host == "one:1883" {
					return Decision{Delay: time.Second, Server: &url.URL{Scheme: "mqtt", Host: "else:1883"}}
				}
				return Decision{Delay: time.Second}
			},
			// The detour failed: back to the one that sent us, which sends us again.
			[]string{"0s 1 one:1883", "0s failed 1", "1s 2 else:1883", "1s failed 2", "2s 3 one:1883", "2s failed 3", "3s 4 else:1883", "3s failed 4"},
		},
		"for good": {
			func(end End) Decision {
				if end.Server.Host == "one:1883" {
					return Decision{Delay: time.Second, Server: &url.URL{Scheme: "mqtt", Host: "else:1883"}, Permanent: true}
				}
				return Decision{Delay: time.Second}
			},
			[]string{"0s 1 one:1883", "0s failed 1", "1s 2 else:1883", "1s failed 2", "2s 3 two:1883", "2s failed 3", "3s 4 else:1883", "3s failed 4"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				r := run(t, func(c *Config) {
					j.watch(c)
					c.Dial = func(context.Context, *url.URL) (net.Conn, error) { return nil, down }
					c.Decide = tt.decide
				})
				time.Sleep(3500 * time.Millisecond)
				r.end()
				j.want(t, tt.want...)
			})
		})
	}
}

// A server that we were sent to is kept to like one of the list, as long as its
// connections stand.
func TestRunStaysWhereItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(c *Config) {
			c.Decide = func(end End) Decision {
				if end.Server.Host == "one:1883" {
					return Decision{Server: &url.URL{Scheme: "mqtt", Host: "else:1883"}}
				}
				return Decision{Delay: time.Second}
			}
		})
		at := func(want string, stands time.Duration) {
			t.Helper()
			p, up := r.up(control.Connack{})
			if p.server != want || up.Attempt < 1 {
				t.Errorf("connected to %s at attempt %d, want %s", p.server, up.Attempt, want)
			}
			time.Sleep(stands)
			_ = p.Close()
			<-r.downs
		}
		at("one:1883", time.Minute)
		at("else:1883", time.Minute)
		at("else:1883", 0) // dropped at once: like a refusal
		at("one:1883", 0)
		r.end()
	})
}

func TestAttemptsAreCountedSinceThereWasAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		r := run(t, func(c *Config) {
			j.watch(c)
			c.Decide = func(end End) Decision {
				j.note("end %d %v %v", end.Attempt, end.Up != nil, end.Took)
				return Decision{Delay: time.Second}
			}
		})
		p := <-r.peers
		time.Sleep(time.Second)
		_ = p.Close()
		<-r.failures
		p, up := r.up(control.Connack{})
		if up.Attempt != 2 || up.Took != 0 {
			t.Errorf("attempt %d took %v", up.Attempt, up.Took)
		}
		time.Sleep(time.Minute)
		_ = p.Close()
		<-r.downs
		<-r.peers
		r.end()
		j.want(t, "0s 1 one:1883", "1s end 1 false 1s", "1s failed 1", "2s 2 two:1883", "1m2s end 2 true 1m0s", "1m3s 1 two:1883")
	})
}

func TestHurryEndsADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		hurry := make(chan struct{}, 1)
		r := run(t, func(c *Config) {
			j.watch(c)
			c.Hurry = hurry
			c.Dial = func(context.Context, *url.URL) (net.Conn, error) { return nil, errors.New("down") }
			c.Decide = func(End) Decision { return Decision{Delay: time.Hour} }
		})
		time.Sleep(10 * time.Second)
		hurry <- struct{}{}
		time.Sleep(100 * time.Millisecond)
		hurry <- struct{}{} // at each failure, say
		time.Sleep(100 * time.Millisecond)
		hurry <- struct{}{} // is as good as the one before
		time.Sleep(2 * time.Hour)
		r.end()
		j.want(t, "0s 1 one:1883", "0s failed 1", "10s 2 two:1883", "10s failed 2", "11s 3 one:1883", "11s failed 3",
			"1h0m11s 4 two:1883", "1h0m11s failed 4")
	})
}
