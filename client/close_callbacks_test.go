package client_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// closingAuth closes the client in one step of the authentication.
type closingAuth struct {
	echo
	step string
	then func()
}

func (a *closingAuth) at(step string) {
	if a.step == step {
		a.then()
	}
}

func (a *closingAuth) Start(ctx context.Context) ([]byte, error) {
	a.at("Start")
	return a.echo.Start(ctx)
}

func (a *closingAuth) Continue(ctx context.Context, data []byte) ([]byte, error) {
	a.at("Continue")
	return a.echo.Continue(ctx, data)
}

func (a *closingAuth) Done(ctx context.Context, data []byte) error {
	a.at("Done")
	return a.echo.Done(ctx, data)
}

// callbacks are the functions of a Config that the client calls, except handlers, OnEvent and
// OnChange, which other tests cover.
var callbacks = map[string]func(cfg *client.Config, then func()){
	"Dial": func(cfg *client.Config, then func()) {
		dial := cfg.Connection.Dial
		cfg.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			then()
			return dial(ctx, u)
		}
	},
	"Credentials": func(cfg *client.Config, then func()) {
		cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) {
			then()
			return client.Credentials{}, nil
		}
	},
	"Auth.Start": func(cfg *client.Config, then func()) { cfg.Connection.Auth = &closingAuth{step: "Start", then: then} },
	"Auth.Continue": func(cfg *client.Config, then func()) {
		cfg.Connection.Auth = &closingAuth{step: "Continue", then: then}
	},
	"Auth.Done": func(cfg *client.Config, then func()) { cfg.Connection.Auth = &closingAuth{step: "Done", then: then} },
	"LaneKey": func(cfg *client.Config, then func()) {
		cfg.Receiving.OrderingKey = func(*client.Message) string { then(); return "" }
	},
	"DedupeKey": func(cfg *client.Config, then func()) {
		cfg.Receiving.Dedupe, cfg.Receiving.DedupeKey = dedupe.NewMemory(dedupe.Options{}), func(*client.Message) (string, error) { then(); return "", nil }
	},
	"Ordering.OnGap": func(cfg *client.Config, then func()) {
		cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{OnGap: func(ordering.Gap) { then() }}}
	},
	"Status.Details": func(cfg *client.Config, then func()) {
		cfg.Presence.Status = &client.Status{Topic: "status/c", Structured: true, Details: func() map[string]string { then(); return nil }}
	},
	"Backoff.Rand": func(cfg *client.Config, then func()) {
		cfg.Connection.Backoff.Rand = func() float64 { then(); return 0 }
	},
	"HandlerBackoff.Rand": func(cfg *client.Config, then func()) {
		cfg.Receiving.HandlerBackoff.Rand = func() float64 { then(); return 0 }
	},
	"Breaker.Judge": func(cfg *client.Config, then func()) {
		cfg.Publishing.Breaker.Judge = func(error) reliability.Judgment { then(); return 0 }
	},
	"Breaker.OnStateChange": func(cfg *client.Config, then func()) {
		cfg.Publishing.Breaker.OnStateChange = func(_, _ reliability.State) { then() }
	},
}

// Close in a function that the client calls cannot wait for that function. It returns at once, or
// at least does not hang.
func TestClose_FromEveryCallback(t *testing.T) {
	for name, set := range callbacks {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var c *client.Client
				var once sync.Once
				called := false
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Publishing.Breaker.FailureThreshold, cfg.Receiving.HandlerAttempts = 1, 3
				set(&cfg, func() {
					once.Do(func() {
						called = true
						if err := c.Close(); err != nil {
							t.Error(err)
						}
					})
				})
				var err error
				c, err = client.New(cfg)
				must(t, err)
				must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error { return errVault })))
				publish(t, c, "t", "x", client.AtLeastOnce)
				start(t, c)
				var server sync.WaitGroup
				server.Go(func() {
					for {
						select {
						case nc := <-s.conns:
							serveABit(nc, cfg.Connection.Auth != nil)
						case <-c.Done():
							return
						}
					}
				})
				select {
				case <-c.Done():
				case <-time.After(time.Hour):
					t.Error("it does not end")
					_ = c.Close()
				}
				server.Wait()
				if !called {
					t.Error("it was not called")
				}
			})
		})
	}
}

// serveABit authenticates, sends messages with a gap, and refuses messages, for ten seconds.
func serveABit(nc net.Conn, auth bool) {
	defer nc.Close()
	send := func(b []byte) { _, _ = nc.Write(b) } // the client may have closed
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	r := wire.NewReader(nc, 0)
	if _, err := r.Next(); err != nil {
		return
	}
	ack := control.Connack{}
	if auth {
		send(control.AppendAuth(nil, &control.Auth{Reason: 0x18, Method: "echo", Data: []byte("a")}))
		if _, err := r.Next(); err != nil {
			return
		}
		ack.AuthMethod = "echo"
	}
	send(control.AppendConnack(nil, &ack))
	for id, seq := range []uint64{1, 3} {
		m := numbered("t", uint16(id+1), 1, seq)
		image := wire.AppendPublish(nil, &m)
		send(wire.AppendImage(nil, image, m.PacketID, false, 0))
	}
	for {
		f, err := r.Next()
		if err != nil {
			return
		}
		if v, err := wire.ParsePublish(f); err == nil && v.QoS > 0 {
			send(wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID, Reason: 0x97}))
		}
	}
}
