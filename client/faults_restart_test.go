package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/testcert"
	"github.com/mooring-mqtt/mooring/persistence"
)

// station is a broker in a bubble that can be restarted on its folder, with a link to it.
type station struct {
	t    *testing.T
	dir  string
	link *mqtttest.Proxy

	mu     sync.Mutex
	broker *mqtttest.Broker // nil while it is down
	starts int
}

var errDown = errors.New("connection refused: the broker is down")

func newStation(t *testing.T, dir string) *station {
	s := &station{t: t, dir: dir}
	s.up()
	s.link = mqtttest.NewPipeProxy(s.join)
	t.Cleanup(func() {
		_ = s.link.Close()
		s.down()
	})
	return s
}

func (s *station) join(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker == nil {
		return nil, errDown
	}
	return s.broker.Dial(), nil
}

// dial is Config.Connection.Dial. It fails while the broker is down, like a refused connection.
func (s *station) dial(context.Context, *url.URL) (net.Conn, error) {
	s.mu.Lock()
	down := s.broker == nil
	s.mu.Unlock()
	if down {
		return nil, errDown
	}
	nc, err := s.link.Dial()
	if err != nil {
		return nil, err
	}
	return withSendBuffer(nc), nil
}

// direct dials the broker without the link.
func (s *station) direct(ctx context.Context, _ *url.URL) (net.Conn, error) {
	nc, err := s.join(ctx)
	if err != nil {
		return nil, err
	}
	return withSendBuffer(nc), nil
}

// down kills the broker like SIGKILL.
func (s *station) down() {
	s.mu.Lock()
	b := s.broker
	s.broker = nil
	s.mu.Unlock()
	if b != nil {
		b.Kill()
	}
}

func (s *station) up() {
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true, Dir: s.dir, MaxPublishedBytes: 1})
	if err != nil {
		s.t.Error(err)
		return
	}
	s.mu.Lock()
	s.broker = b
	s.starts++
	s.mu.Unlock()
}

// restart kills the broker and starts it again later.
func (s *station) restart(after time.Duration) {
	s.down()
	time.Sleep(after)
	s.up()
}

// restarts are the states of a connection. Each kills the broker in that state.
var restarts = map[string]func(x *restarted){
	"dialing": func(x *restarted) {
		x.config.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			x.fall()
			return x.dial(ctx, u)
		}
	},
	"TLS handshake": func(x *restarted) {
		authority := testcert.NewAuthority(x.t, "trusted")
		leaf := authority.Issue(x.t, "broker.test", time.Hour).TLS(x.t)
		x.config.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			near, far := net.Pipe()
			inner, err := x.dial(ctx, u)
			if err != nil {
				return nil, err
			}
			go x.terminate(tls.Server(&falling{far, x}, &tls.Config{Certificates: []tls.Certificate{leaf}}), inner)
			c := tls.Client(withSendBuffer(near), &tls.Config{RootCAs: authority.Pool(), ServerName: "broker.test"})
			if err := c.HandshakeContext(ctx); err != nil {
				_ = c.NetConn().Close()
				return nil, err
			}
			return c, nil
		}
	},
	"waiting for CONNACK":      func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.CONNECT, 1) },
	"CONNACK is on its way":    func(x *restarted) { x.at(mqtttest.ToClient, mqtttest.CONNACK, 1) },
	"subscribing":              func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.SUBSCRIBE, 1) },
	"subscribed":               func(x *restarted) { x.at(mqtttest.ToClient, mqtttest.SUBACK, 1) },
	"sending":                  func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBLISH, 20) },
	"PUBREC":                   func(x *restarted) { x.at(mqtttest.ToClient, mqtttest.PUBREC, 5) },
	"PUBREL":                   func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBREL, 5) },
	"PUBCOMP":                  func(x *restarted) { x.at(mqtttest.ToClient, mqtttest.PUBCOMP, 5) },
	"receiving":                func(x *restarted) { x.at(mqtttest.ToClient, mqtttest.PUBLISH, 20) },
	"acknowledging":            func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBREC, 5) },
	"completing":               func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBCOMP, 5) },
	"asked for a sign":         func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PINGREQ, 1) },
	"idle":                     func(x *restarted) { time.AfterFunc(time.Hour, x.fall) },
	"in backoff":               func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBLISH, 1); x.twice = true },
	"draining to the end":      func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBLISH, 20); x.last = drainAll },
	"draining, before CONNACK": func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.CONNECT, 1); x.last = drainAll },
	"closing":                  func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.DISCONNECT, 1); x.last = (*client.Client).Close },
	"closing, while sending":   func(x *restarted) { x.at(mqtttest.ToServer, mqtttest.PUBLISH, 20); x.last = closeSoon },
}

func drainAll(c *client.Client) error { return c.Drain(context.Background()) }

func closeSoon(c *client.Client) error {
	time.Sleep(time.Millisecond)
	return c.Close()
}

// restarted is a client whose broker is killed in one state.
type restarted struct {
	*station
	config client.Config
	once   sync.Once
	fell   chan struct{}
	twice  bool // kill it again while the client waits for its next attempt
	last   func(*client.Client) error
}

// fall kills the broker on the first call, and starts it again after 3 s.
func (x *restarted) fall() {
	x.once.Do(func() {
		close(x.fell)
		x.down()
		go func() {
			time.Sleep(3 * time.Second)
			x.up()
			if x.twice {
				x.restart(time.Second)
			}
		}()
	})
}

// at kills the broker at the nth packet of a type, which is lost.
func (x *restarted) at(dir mqtttest.Direction, kind mqtttest.PacketType, n int) {
	var seen atomic.Int32
	x.link.OnPacket(func(d mqtttest.Direction, header byte, _ []byte) mqtttest.Action {
		if d == dir && mqtttest.PacketType(header>>4) == kind && seen.Add(1) == int32(n) {
			go x.fall()
			return mqtttest.ActionDrop
		}
		return mqtttest.ActionPass
	})
}

// terminate serves TLS in front of the broker.
func (x *restarted) terminate(outer *tls.Conn, inner net.Conn) {
	defer inner.Close()
	defer outer.Close()
	if outer.Handshake() != nil {
		return
	}
	go func() {
		_, _ = io.Copy(outer, inner)
		_ = outer.NetConn().Close()
	}()
	_, _ = io.Copy(inner, outer)
}

// falling is the server's side of a TLS connection. It kills the broker after ClientHello.
type falling struct {
	net.Conn
	x *restarted
}

func (f *falling) Write(p []byte) (int, error) {
	select {
	case <-f.x.fell:
		return f.Conn.Write(p)
	default:
		_ = f.Conn.Close()
		go f.x.fall()
		return 0, net.ErrClosed
	}
}

// The broker is killed and restarted in each state of the connection. The client reconnects by
// itself, and every message is delivered once and in order, in both directions.
func TestFaultBroker_RestartsInEveryState(t *testing.T) {
	for state, reach := range restarts {
		t.Run(state, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				x := &restarted{station: newStation(t, dir), fell: make(chan struct{})}
				var events recorder
				x.config = testConfig("c", &events, nil)
				x.config.Connection.Dial = x.dial
				x.config.Store.Custom = persistence.NewMemory(persistence.Options{})
				x.config.Connection.KeepAlive = 30 * time.Minute
				reach(x)

				// Another client without the link sends what c receives, and receives what c sends.
				otherConfig := testConfig("other", &recorder{}, nil)
				otherConfig.Connection.Dial = x.direct
				other := mustNew(t, otherConfig)
				theirs, own := newInbox(), newInbox()
				must1(other.Subscribe(t.Context(), "out", client.ExactlyOnce, theirs))
				start(t, other)
				connectSoon(t, other)
				synctest.Wait()

				c := mustNew(t, x.config)
				must1(c.Subscribe(t.Context(), "in", client.ExactlyOnce, own))
				const n = 60
				for i := range n / 2 {
					publish(t, c, "out", fmt.Sprint(i), client.ExactlyOnce)
				}
				if x.last == nil {
					start(t, c)
				} else { // so much work that the broker is killed during it
					for i := n / 2; i < n; i++ {
						publish(t, c, "out", fmt.Sprint(i), client.ExactlyOnce)
					}
					start(t, c)
					if state == "closing" {
						connectSoon(t, c)
						time.Sleep(time.Second)
					}
					began := time.Now()
					if err := x.last(c); err != nil {
						t.Errorf("it ended with %v", err)
					}
					if took := time.Since(began); took > 2*time.Minute {
						t.Errorf("it took %v to end", took)
					}
					<-x.fell
					time.Sleep(5 * time.Second)
					x.link.OnPacket(nil)
					c = mustNew(t, x.config) // the next client delivers what Close left
					must1(c.Subscribe(t.Context(), "in", client.ExactlyOnce, own))
					start(t, c)
				}
				synctest.Wait()
				time.Sleep(2 * time.Second)
				connectSoon(t, c)
				time.Sleep(2 * time.Second)
				for i := range n / 2 {
					publish(t, other, "in", fmt.Sprint(i), client.ExactlyOnce)
				}
				<-x.fell
				time.Sleep(time.Minute)
				connectSoon(t, c)
				if x.last == nil {
					for i := n / 2; i < n; i++ {
						publish(t, c, "out", fmt.Sprint(i), client.ExactlyOnce)
					}
				}
				for i := n / 2; i < n; i++ {
					publish(t, other, "in", fmt.Sprint(i), client.ExactlyOnce)
				}
				time.Sleep(time.Minute)
				var want []string
				for i := range n {
					want = append(want, fmt.Sprint(i))
				}
				if got := theirs.payloads(); !slices.Equal(got, want) {
					t.Errorf("they got %v", got)
				}
				if got := own.payloads(); !slices.Equal(got, want) {
					t.Errorf("we got %v", got)
				}
				if s := c.State(); s.Phase != client.PhaseConnected || c.Stats().Store.Pending != 0 {
					t.Errorf("%+v, %d messages are left", s, c.Stats().Store.Pending)
				}
				wantAccounts(t, c)
				if x.starts < 2 || x.last == nil && len(eventsOf[client.Disconnected](&events))+len(eventsOf[client.ConnectFailed](&events)) == 0 {
					t.Error("nothing happened to the link")
				}
				must(t, c.Close())
			})
		})
	}
}
