package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// The tests named TestPitfall of connections and of reconnecting.

func TestPitfall12_ReconnectsWithBackoffAndStops(t *testing.T) {
	t.Run("refused credentials stop it", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			c := mustStart(t, testConfig("c", &events, s.dial))
			s.accept(control.Connack{Reason: 0x86, ReasonString: "who are you"})
			err := c.AwaitConnection(t.Context())
			var refused *client.ConnectionError
			if !errors.As(err, &refused) || refused.Code != 0x86 || refused.Reason != "who are you" {
				t.Errorf("AwaitConnection returned %v, want a *ConnectionError with 0x86", err)
			}
			<-c.Done()
			time.Sleep(time.Hour)
			if n := len(eventsOf[client.Connecting](&events)); n != 1 {
				t.Errorf("%d attempts, want 1", n)
			}
			if got := eventsOf[client.Stopped](&events); len(got) != 1 || !errors.As(got[0].Err, &refused) {
				t.Errorf("Stopped events are %v", got)
			}
		})
	})
	t.Run("a connection that comes and goes does not reset the delay", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Connection.Backoff = reliability.Backoff{Min: time.Second, Max: time.Hour, Rand: func() float64 { return 0.999_999 }}
			cfg.Connection.StableAfter = 5 * time.Second
			mustStart(t, cfg)
			var delays []time.Duration
			for i := range 5 {
				p := s.accept(control.Connack{SessionPresent: i > 0})
				p.close()
				began := time.Now()
				nc := <-s.conns
				delays = append(delays, time.Since(began).Round(time.Second))
				s.conns <- nc
			}
			if got := fmt.Sprint(delays); got != "[2s 4s 8s 16s 32s]" {
				t.Errorf("the delays were %v, want each twice the previous one", got)
			}
			p := s.accept(control.Connack{SessionPresent: true})
			time.Sleep(5 * time.Second) // stable
			p.close()
			began := time.Now()
			<-s.conns
			if d := time.Since(began).Round(time.Second); d != 2*time.Second {
				t.Errorf("the delay after a stable connection was %v, want 2s", d)
			}
		})
	})
	t.Run("a packet that is too large each time does not reset the delay", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Connection.Backoff = reliability.Backoff{Min: time.Second, Max: time.Hour, Rand: func() float64 { return 0.999_999 }}
			cfg.Connection.MaximumPacketSize = 100
			mustStart(t, cfg)
			var delays []time.Duration
			for i := range 5 {
				p := s.accept(control.Connack{SessionPresent: i > 0})
				time.Sleep(time.Minute) // stable, but for what comes now
				p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 1, Payload: make([]byte, 100)})
				if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != wire.ReasonPacketTooLarge {
					t.Fatalf("got DISCONNECT 0x%02X, %v, want 0x95", d.Reason, err)
				}
				began := time.Now()
				nc := <-s.conns
				delays = append(delays, time.Since(began).Round(time.Second))
				s.conns <- nc
			}
			if got := fmt.Sprint(delays); got != "[2s 4s 8s 16s 32s]" {
				t.Errorf("the delays were %v, want each twice the previous one", got)
			}
		})
	})
	t.Run("a takeover is reported", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			mustStart(t, testConfig("c", &events, s.dial))
			p := s.accept(control.Connack{})
			p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E}))
			p.ended()
			s.accept(control.Connack{})
			synctest.Wait()
			var e *client.ConnectionError
			if got := eventsOf[client.Disconnected](&events); len(got) != 1 || !errors.As(got[0].Err, &e) || reliability.Classify(e.Code) != reliability.Takeover {
				t.Errorf("Disconnected events are %v, want one with 0x8E", got)
			}
		})
	})
}

// TestPitfall19 covers direct TLS; TestProxy_EveryTransport has the
// same behind proxies.
func TestPitfall19_TLSVerifiesNameAndHonorsContext(t *testing.T) {
	t.Run("server name", func(t *testing.T) {
		b := mqtttest.Start(t, func(o *mqtttest.Options) { o.TLS = true })
		u, err := url.Parse(b.TLSURL())
		must(t, err)
		u.Host = net.JoinHostPort("localhost", u.Port())
		conf := b.TLSConfig()
		conf.ServerName = "" // as users write it
		named := make(chan string, 1)
		conf.VerifyConnection = func(s tls.ConnectionState) error { named <- s.ServerName; return nil }
		c := mustStart(t, client.Config{Servers: []string{u.String()}, ClientID: "c", TLS: conf})
		connect(t, c)
		if got := <-named; got != u.Hostname() {
			t.Errorf("the certificate was checked for %q, want %q", got, u.Hostname())
		}
		if conf.ServerName != "" {
			t.Error("the caller's tls.Config was changed")
		}
	})
	t.Run("a handshake that is never answered", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		var mu sync.Mutex
		var held []net.Conn
		accepted := make(chan struct{}, 64)
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				held = append(held, nc)
				mu.Unlock()
				accepted <- struct{}{}
			}
		}()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			for _, nc := range held {
				_ = nc.Close()
			}
		}()
		failed := make(chan error, 64)
		c := mustStart(t, client.Config{
			Servers:    []string{"mqtts://" + l.Addr().String()},
			ClientID:   "c",
			Connection: client.ConnectionConfig{ConnectTimeout: 50 * time.Millisecond},
			OnEvent: func(e client.Event) {
				if f, ok := e.(client.ConnectFailed); ok {
					failed <- f.Err
				}
			},
		})
		if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the attempt failed with %v, want the deadline", err)
		}
		<-accepted
		must(t, c.Close()) // also in the middle of a handshake
	})
}

func TestPitfallAlso_ConcurrentPacketsDoNotMix(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		c := mustStart(t, testConfig("c", &recorder{}, through(p)))
		connect(t, c)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range 50 {
					_, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: make([]byte, 10*n), QoS: client.QoS(n % 3)})
					if err != nil {
						t.Error(err)
					}
				}
			})
			all.Go(func() {
				for n := range 20 {
					if _, err := c.Subscribe(t.Context(), fmt.Sprintf("s/%d/%d/+", i, n), client.AtLeastOnce, newInbox()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		must(t, c.Drain(t.Context()))
		if s := b.Stats(); s.ProtocolErrors != 0 || s.ConnectionsTotal != 1 || s.MessagesIn != 400 {
			t.Errorf("the server saw %d messages, %d protocol errors, %d connections", s.MessagesIn, s.ProtocolErrors, s.ConnectionsTotal)
		}
	})
}

func TestPitfallAlso_KeepAliveCountsAllPackets(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.KeepAlive = 10 * time.Second
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		if p.connect.KeepAlive != 10 {
			t.Fatalf("CONNECT says Keep Alive %d", p.connect.KeepAlive)
		}
		for range 20 { // a message each 3 s: nothing to ask
			publish(t, c, "t", "x", client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
			time.Sleep(3 * time.Second)
		}
		if n := pingsOf(p); n != 0 {
			t.Errorf("%d PINGREQ came while messages and acknowledgements went", n)
		}
		time.Sleep(time.Minute)
		if n := pingsOf(p); n < 5 {
			t.Errorf("%d PINGREQ came in a minute of silence", n)
		}
		p.quiet()
	})
}

func pingsOf(p *peer) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pings
}
