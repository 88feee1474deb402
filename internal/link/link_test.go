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

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// journal records the events of Run and their times.
type journal struct {
	began time.Time
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.lines = append(j.lines, fmt.Sprintf("%v ", time.Since(j.began))+fmt.Sprintf(format, args...))
}

func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	if fmt.Sprint(j.lines) != fmt.Sprint(lines) {
		t.Errorf("got\n%q, want\n%q", j.lines, lines)
	}
}

// refuseDial makes each attempt fail.
func refuseDial(c *Config) {
	c.Dial = func(context.Context, *url.URL) (net.Conn, error) { return nil, errors.New("down") }
}

// eachSecond starts each attempt a second after the end of the last one.
func eachSecond(c *Config) { c.Policy.Retry.Backoff = constant(time.Second) }

// redirect returns the CONNACK of a server that redirects to else:1883.
func redirect(reason byte) control.Connack {
	return control.Connack{Reason: reason, ServerReference: "else:1883"}
}

func TestLink_FollowsRedirects(t *testing.T) {
	for name, tt := range map[string]struct {
		reason byte
		want   string
	}{
		// The target fails. The next server of the list follows, and then the next round.
		"temporary": {0x9C, "[one:1883 else:1883 two:1883 one:1883 else:1883]"},
		"permanent": {0x9D, "[one:1883 else:1883 two:1883 else:1883 two:1883]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, eachSecond)
				var servers []string
				for range 5 {
					p := <-r.peers
					if servers = append(servers, p.server); p.server == "one:1883" {
						p.accept(redirect(tt.reason))
					}
					_ = p.Close()
					<-r.failures
				}
				r.end()
				if fmt.Sprint(servers) != tt.want {
					t.Errorf("connected to %v, want %s", servers, tt.want)
				}
			})
		})
	}
}

// The target of a redirect is retried first, like a server of the list, as long as its connections
// stay up long enough.
func TestLink_StaysAtTheTargetOfARedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, eachSecond)
		at := func(want string, uptime time.Duration) {
			t.Helper()
			p, up := r.up(control.Connack{SessionPresent: true})
			if p.server != want || up.Attempt < 1 {
				t.Errorf("connected to %s at attempt %d, want %s", p.server, up.Attempt, want)
			}
			time.Sleep(uptime)
			if p.server == "one:1883" {
				p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x9C, ServerReference: "else:1883"}))
			}
			_ = p.Close()
			<-r.downs
		}
		at("one:1883", time.Minute)
		at("else:1883", time.Minute)
		at("else:1883", 0) // dropped at once, so the others are next
		at("two:1883", 0)
		at("one:1883", time.Minute)
		r.end()
	})
}

func TestLink_CountsAttemptsSinceTheLastConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, eachSecond)
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
		r.journal.want(t, "0s 1 one:1883", "1s failed 1, 1s, wait 0s", "1s 2 two:1883", "1m1s end 2, 1m0s, wait 1s", "1m2s 1 two:1883")
	})
}

// Resumed requires the same server and Session Present 1. Another server has not held this session
// on the present link.
func TestLink_ResumedNeedsTheSameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, eachSecond)
		for i, tt := range []struct {
			present bool
			uptime  time.Duration
			server  string
			resumed bool
		}{
			{true, time.Minute, "one:1883", false}, // the first connection of this process
			{true, time.Minute, "one:1883", true},
			{false, time.Minute, "one:1883", false},
			{true, 0, "one:1883", true},
			{true, 0, "two:1883", false},
		} {
			p, up := r.up(control.Connack{SessionPresent: tt.present})
			if p.server != tt.server || up.Resumed != tt.resumed {
				t.Errorf("connection %d to %s: resumed %v, want %+v", i, p.server, up.Resumed, tt)
			}
			if r.link.Current() != up {
				t.Errorf("connection %d is not the current one", i)
			}
			time.Sleep(tt.uptime)
			_ = p.Close()
			<-r.downs
			if r.link.Current() != nil {
				t.Errorf("after connection %d there is a current one", i)
			}
		}
		r.end()
	})
}

func TestNetworkChanged_EndsTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(c *Config) { refuseDial(c); c.Servers = c.Servers[:1] })
		time.Sleep(10 * time.Second)
		r.link.NetworkChanged()
		time.Sleep(100 * time.Millisecond)
		r.link.NetworkChanged() // as if called after each failure
		time.Sleep(100 * time.Millisecond)
		r.link.NetworkChanged() // counts as the same call
		time.Sleep(2 * time.Hour)
		r.end()
		r.journal.want(t, "0s 1 one:1883", "0s failed 1, 0s, wait 1h0m0s", "10s 2 one:1883", "10s failed 2, 0s, wait 1h0m0s",
			"11s 3 one:1883", "11s failed 3, 0s, wait 1h0m0s", "1h0m11s 4 one:1883", "1h0m11s failed 4, 0s, wait 1h0m0s")
	})
}

// After a takeover the session is not resumed, because the other client has used it.
func TestLink_AsksForANewSessionAfterATakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, _ := r.up(control.Connack{SessionPresent: true})
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E}))
		<-r.downs
		for i, want := range []bool{true, false} {
			p = <-r.peers
			if c := p.accept(control.Connack{}); c.CleanStart != want {
				t.Errorf("connection %d after the takeover has Clean Start %v", i+1, c.CleanStart)
			}
			<-r.ups
			_ = p.Close()
			<-r.downs
		}
		r.end()
	})
}

// A call during an attempt shortens the following delay, unless the attempt succeeds.
func TestNetworkChanged_DuringAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p := <-r.peers
		r.link.NetworkChanged()
		_ = p.Close()
		<-r.failures
		p = <-r.peers // at once
		r.link.NetworkChanged()
		p.accept(control.Connack{})
		<-r.ups
		time.Sleep(time.Minute)
		_ = p.Close()
		<-r.downs
		began := time.Now()
		<-r.peers
		if d := time.Since(began); d != time.Hour {
			t.Errorf("the next attempt came after %v, want 1h", d)
		}
		r.end()
	})
}

// A connection ends if messages are in flight and none is acknowledged within AckTimeout. Each
// acknowledgement restarts the time.
func TestLink_EndsAConnectionWithoutAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{})
		publish := func(payload string) (id []byte) {
			image := wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 1, Payload: []byte(payload)})
			go func() { _ = up.Gen.PublishUnstored(image, func(byte, string, error) {}) }()
			return p.next(wire.PUBLISH).Body[3:5]
		}
		time.Sleep(time.Hour) // nothing is in flight
		began := time.Now()
		id := publish("1")
		publish("2")
		time.Sleep(15 * time.Second)
		p.send([]byte{0x40, 2, id[0], id[1]})
		if err := <-r.downs; !errors.Is(err, ErrAckTimeout) {
			t.Errorf("the connection ended with %v", err)
		}
		if d := time.Since(began); d <= 35*time.Second || d > 40*time.Second {
			t.Errorf("it ended after %v, want 35s to 40s", d)
		}
		r.end()
	})
}
