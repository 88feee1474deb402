package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// connectionStates are the states of a connection, each at a point where it waits for something
// that never happens. TestEnd_FromEveryState has the states of a client.
var connectionStates = map[string]func(t *testing.T, s *script, cfg *client.Config) (reached func(c *client.Client)){
	"dialing": func(t *testing.T, _ *script, cfg *client.Config) func(*client.Client) {
		cfg.Connection.Dial = func(ctx context.Context, _ *url.URL) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil
	},
	"asking for credentials": func(t *testing.T, _ *script, cfg *client.Config) func(*client.Client) {
		cfg.Connection.Credentials = func(ctx context.Context) (client.Credentials, error) {
			<-ctx.Done()
			return client.Credentials{}, ctx.Err()
		}
		return nil
	},
	"TLS handshake": func(t *testing.T, s *script, cfg *client.Config) func(*client.Client) {
		cfg.Connection.Dial = func(ctx context.Context, _ *url.URL) (net.Conn, error) {
			nc := s.dial() // reads the first bytes of ClientHello and nothing else
			stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
			defer stop()
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				return nil, err
			}
			return nc, nil
		}
		return nil
	},
	"waiting for CONNACK": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(*client.Client) { s.open() }
	},
	"authenticating": func(t *testing.T, s *script, cfg *client.Config) func(*client.Client) {
		cfg.Connection.Auth = &echo{}
		return func(*client.Client) { s.open() }
	},
	"subscribing": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(c *client.Client) { s.accept(control.Connack{}).next(wire.SUBSCRIBE) }
	},
	"half-open": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(c *client.Client) {
			p := s.accept(control.Connack{})
			p.grantSubscribe()
			connect(t, c)
			time.Sleep(time.Minute)
		}
	},
	"PUBREC has come": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(c *client.Client) {
			p := s.accept(control.Connack{})
			p.grantSubscribe()
			p.ack(wire.PUBREC, p.nextPublish().PacketID, 0, "")
			p.nextAck(wire.PUBREL)
		}
	},
	"refused by the server": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(*client.Client) { s.open().send(control.AppendConnack(nil, &control.Connack{Reason: 0x97})) }
	},
	"after a takeover": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(*client.Client) {
			p := s.accept(control.Connack{})
			p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E}))
		}
	},
	"sent to another server": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(*client.Client) {
			s.open().send(control.AppendConnack(nil, &control.Connack{Reason: 0x9C, ServerReference: "else"}))
		}
	},
	"with NetworkChanged": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(c *client.Client) {
			s.open().close()
			synctest.Wait()
			c.NetworkChanged()
			s.open()
		}
	},
	"probing": func(t *testing.T, s *script, _ *client.Config) func(*client.Client) {
		return func(c *client.Client) {
			s.accept(control.Connack{}).grantSubscribe()
			connect(t, c)
			time.Sleep(time.Minute)
			c.NetworkChanged()
			synctest.Wait()
		}
	},
	"taking no room": func(t *testing.T, s *script, cfg *client.Config) func(*client.Client) {
		cfg.Connection.MaximumPacketSize, cfg.Receiving.MaxBufferedBytes = 1000, 1000
		return func(c *client.Client) {
			p := s.accept(control.Connack{})
			p.grantSubscribe()
			for id := range uint16(5) {
				go p.publish(wire.Publish{Topic: "in", QoS: 1, PacketID: id + 1, Payload: make([]byte, 600)})
			}
			synctest.Wait()
		}
	},
}

// However a client is ended, and whatever the state of its connection, it ends within CloseTimeout
// and 0.5 s, reports Stopped last, and keeps undelivered messages. Goroutines that remain fail the
// bubble.
func TestFaultEnd_FromEveryConnectionState(t *testing.T) {
	all := map[string]func(c *client.Client, cancel context.CancelFunc) error{
		"CloseWith": func(c *client.Client, _ context.CancelFunc) error {
			return c.CloseWith(client.DisconnectOptions{Reason: 0x04, ReasonString: "maintenance", SessionExpiry: time.Minute})
		},
		"Drain, and Close meanwhile": func(c *client.Client, _ context.CancelFunc) error {
			go c.Drain(context.Background())
			synctest.Wait()
			return c.Close()
		},
	}
	for name, end := range endings {
		all[name] = end
	}
	for state, prepare := range connectionStates {
		for ending, end := range all {
			t.Run(fmt.Sprint(state, "/", ending), func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					var events recorder
					cfg := testConfig("c", &events, s.dial)
					cfg.Store.Custom = persistence.NewMemory(persistence.Options{})
					cfg.Connection.Backoff = reliability.Backoff{Min: time.Hour, Max: time.Hour}
					cfg.Connection.KeepAlive, cfg.Connection.ConnectTimeout, cfg.Connection.AckTimeout, cfg.Connection.CloseTimeout = 9*time.Hour, time.Hour, time.Hour, 2*time.Second
					reached := prepare(t, s, &cfg)
					c, err := client.New(cfg)
					must(t, err)
					must1(c.Subscribe(t.Context(), "in", client.AtLeastOnce, client.HandlerFunc(func(ctx context.Context, _ *client.Message) error {
						<-ctx.Done()
						return ctx.Err()
					})))
					d := publish(t, c, "t", "kept", client.ExactlyOnce)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					must(t, c.Start(ctx))
					if reached != nil {
						reached(c)
					}
					synctest.Wait()
					began := time.Now()
					if err := end(c, cancel); err != nil {
						t.Error(err)
					}
					<-c.Done()
					limit := cfg.Connection.CloseTimeout + 500*time.Millisecond
					if ending == "Drain" {
						limit += time.Second
					}
					if took := time.Since(began); took > limit {
						t.Errorf("it took %v", took)
					}
					wantState(t, d, client.Abandoned)
					wantAccounts(t, c)
					if n := cfg.Store.Custom.Stats().Pending; n != 1 {
						t.Errorf("%d messages are in the store, want 1", n)
					}
					if s := c.State(); s.Phase != client.PhaseEnded || c.Connected() {
						t.Errorf("%+v", s)
					}
					time.Sleep(10 * time.Hour)
					if n := len(events.list); n == 0 || fmt.Sprintf("%T", events.list[n-1]) != "client.Stopped" {
						t.Errorf("the last event of %v is not Stopped", events.list)
					}
					if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}); err == nil || errors.Is(err, client.ErrNotConnected) {
						t.Errorf("Publish after the end: %v", err)
					}
				})
			})
		}
	}
}
