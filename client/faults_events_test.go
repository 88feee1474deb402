package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// story checks the events of a connection: each may follow the previous one, State matches it, and
// nothing follows Stopped.
type story struct {
	t  testing.TB
	c  *client.Client
	mu sync.Mutex // like a lock of an application

	before  client.Event // last event about the connection
	ended   int          // Stopped was reported
	ups     int
	failed  int
	lost    int
	publish bool // publish inside OnEvent
	err     error
}

func (s *story) tell(e client.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, stats := s.c.State(), s.c.Stats()
	_, _, _ = s.c.Connected(), s.c.Err(), s.c.ClientID()
	if s.ended > 0 {
		s.t.Errorf("%T behind Stopped", e)
	}
	if s.publish {
		if _, err := s.c.Publish(context.Background(), client.Message{Topic: "told", QoS: client.AtLeastOnce}); err != nil && !errors.Is(err, client.ErrClosed) && !errors.Is(err, client.ErrDraining) {
			s.err = err
		}
	}
	switch e := e.(type) {
	case client.Connecting:
		s.behind(e, nil, client.ConnectFailed{}, client.Disconnected{}, client.Redirected{})
	case client.ConnectFailed:
		s.failed++
		s.behind(e, client.Connecting{})
		if e.Err == nil || e.Action == reliability.ActionStop {
			s.t.Errorf("%+v", e)
		}
	case client.Connected:
		s.ups++
		s.behind(e, client.Connecting{})
		if stats.Connections < uint64(s.ups) {
			s.t.Errorf("%+v, and the state is %+v, with %d connections", e, state, stats.Connections)
		}
	case client.Disconnected:
		s.lost++
		s.behind(e, client.Connected{})
		if e.Action == reliability.ActionStop && state.Phase < client.PhaseEnding {
			s.t.Errorf("%+v, and the state is %+v", e, state)
		}
	case client.Redirected:
		s.behind(e, client.ConnectFailed{}, client.Disconnected{})
	case client.Stopped:
		s.ended++
		if state.Phase != client.PhaseEnded || !errors.Is(state.Err, e.Err) {
			s.t.Errorf("%+v, and the state is %+v", e, state)
		}
	default:
		return
	}
	s.before = e
}

// behind checks that the previous event has one of these types. nil means no previous event.
func (s *story) behind(e client.Event, types ...client.Event) {
	for _, want := range types {
		if fmt.Sprintf("%T", s.before) == fmt.Sprintf("%T", want) {
			return
		}
	}
	s.t.Errorf("%T behind %T", e, s.before)
}

// agrees wants the state that the last event about the connection reported. All goroutines wait.
func (s *story) agrees() {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.c.State(), false
	switch e := s.before.(type) {
	case client.Connecting:
		ok = state.Phase == client.PhaseConnecting && state.Server == e.Server && state.Attempt == e.Attempt
	case client.ConnectFailed:
		ok = state.Phase == client.PhaseWaiting && state.Err != nil && time.Until(state.RetryAt) <= e.Delay
	case client.Connected:
		ok = state.Phase == client.PhaseConnected && state.Err == nil && state.Server == e.Server && s.c.Connected()
	case client.Disconnected:
		ok = state.Phase == client.PhaseWaiting && time.Until(state.RetryAt) <= e.Delay && !s.c.Connected()
	case client.Redirected:
		ok = state.Phase == client.PhaseWaiting
	}
	if !ok {
		s.t.Errorf("the last event is %T: %+v, and the state is %+v", s.before, s.before, state)
	}
}

func (s *story) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != 1 || s.ups != s.lost {
		s.t.Errorf("Stopped came %d times; %d times connected, %d times disconnected", s.ended, s.ups, s.lost)
	}
	if s.err != nil {
		s.t.Errorf("publishing from OnEvent: %v", s.err)
	}
}

// Links break in every way, servers refuse or redirect, and the client is ended in each way at a
// random moment. The events are consistent, and Stopped is the last one.
func TestFaultEvents_AreConsistent(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				s := &story{t: t, publish: seed%2 == 0}
				cfg := testConfig("c", &recorder{}, sendingThrough(p))
				cfg.OnEvent = s.tell
				cfg.Connection.KeepAlive, cfg.Connection.AckTimeout, cfg.Connection.ConnectTimeout, cfg.Connection.CloseTimeout = time.Second, time.Second, time.Second, time.Second
				c, err := client.New(cfg)
				must(t, err)
				s.c = c
				must1(c.Subscribe(t.Context(), "#", client.ExactlyOnce, newInbox()))
				ctx, cancel := context.WithCancelCause(context.Background())
				must(t, c.Start(ctx))
				for range 40 {
					if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.QoS(1 + random.IntN(2))}); err != nil {
						t.Error(err)
					}
					switch random.IntN(8) {
					case 0:
						p.Cut()
					case 1:
						p.CutAfter(mqtttest.Direction(random.IntN(2)), random.IntN(200))
					case 2:
						p.StallFor(time.Duration(random.IntN(3000))*time.Millisecond, mqtttest.Direction(random.IntN(2)))
					case 3:
						b.Disconnect("c", []byte{0x8B, 0x9C, 0x80, 0x97, 0x9D}[random.IntN(5)])
					case 4:
						p.Refuse(random.IntN(2) == 0)
					case 5:
						b.DropSession("c")
					case 6:
						c.NetworkChanged()
					}
					time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
					s.agrees()
				}
				var all sync.WaitGroup
				all.Go(func() { // races with the end
					for {
						if _, err := c.Publish(context.Background(), client.Message{Topic: "t", QoS: 1}); err != nil {
							return
						}
					}
				})
				switch random.IntN(4) {
				case 0:
					must(t, c.Close())
				case 1:
					must(t, c.CloseWith(client.DisconnectOptions{Reason: 0x04}))
				case 2:
					cancel(errVault)
				case 3:
					soon, stop := context.WithTimeout(t.Context(), 2*time.Second)
					_ = c.Drain(soon)
					stop()
				}
				<-c.Done()
				cancel(nil)
				all.Wait()
				time.Sleep(time.Hour)
				s.end()
			})
		})
	}
}

// The events report the action that follows each answer of the server, and the client performs that
// action.
func TestFaultEvents_ReportTheNextAction(t *testing.T) {
	for name, tt := range map[string]struct {
		end    control.Disconnect
		ignore bool // IgnoreRedirects
		stop   bool // TakeoverStop
		want   reliability.Action
		to     string // server of the next attempt
	}{
		"nothing said":            {control.Disconnect{Reason: 0x00}, false, false, reliability.ActionRetry, "one:1883"},
		"shutting down":           {control.Disconnect{Reason: 0x8B}, false, false, reliability.ActionRetry, "one:1883"},
		"a quota":                 {control.Disconnect{Reason: 0x97}, false, false, reliability.ActionRetryLater, "one:1883"},
		"sent on":                 {control.Disconnect{Reason: 0x9C, ServerReference: "else"}, false, false, reliability.ActionRedirect, "else:1883"},
		"sent on, and not going":  {control.Disconnect{Reason: 0x9C, ServerReference: "else"}, true, false, reliability.ActionRetry, "one:1883"},
		"sent on without a where": {control.Disconnect{Reason: 0x9C}, false, false, reliability.ActionRetry, "one:1883"},
		"taken over":              {control.Disconnect{Reason: 0x8E}, false, false, reliability.ActionTakenOver, "one:1883"},
		"taken over, for good":    {control.Disconnect{Reason: 0x8E}, false, true, reliability.ActionStop, ""},
	} {
		t.Run(name, func(t *testing.T) {
			withServers(t, func(t *testing.T, a addressed) {
				var events recorder
				s := &story{t: t}
				cfg := a.config(&events, "mqtt://one")
				cfg.OnEvent = func(e client.Event) { events.add(e); s.tell(e) }
				cfg.Connection.IgnoreRedirects = tt.ignore
				if tt.stop {
					cfg.Session.OnTakeover = client.TakeoverStop
				}
				c := mustNew(t, cfg)
				s.c = c
				start(t, c)
				<-a.asked
				p := a.accept(control.Connack{})
				time.Sleep(time.Minute)
				p.send(control.AppendDisconnect(nil, &tt.end))
				if tt.stop {
					<-c.Done()
				} else if to := <-a.asked; to != tt.to {
					t.Errorf("the next attempt was at %s, want %s", to, tt.to)
				}
				if e := eventsOf[client.Disconnected](&events); len(e) != 1 || e[0].Action != tt.want {
					t.Errorf("%+v, want the action %v", e, tt.want)
				}
				must(t, c.Close())
				s.end()
			})
		})
	}
}

// If the client itself ends a connection, the event announces no next attempt.
func TestFaultEvents_OfTheClientsOwnEnd(t *testing.T) {
	for name, end := range map[string]func(c *client.Client, cancel context.CancelFunc){
		"Close":     func(c *client.Client, _ context.CancelFunc) { _ = c.Close() },
		"CloseWith": func(c *client.Client, _ context.CancelFunc) { _ = c.CloseWith(client.DisconnectOptions{Reason: 0x98}) },
		"Drain":     func(c *client.Client, _ context.CancelFunc) { _ = c.Drain(context.Background()) },
		"context":   func(c *client.Client, cancel context.CancelFunc) { cancel(); <-c.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				c := mustNew(t, testConfig("c", &events, s.dial))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				must(t, c.Start(ctx))
				s.accept(control.Connack{})
				connect(t, c)
				time.Sleep(time.Second)
				end(c, cancel)
				if e := eventsOf[client.Disconnected](&events); len(e) != 1 || e[0].Err != nil || e[0].Action != reliability.ActionStop || e[0].Delay != 0 || e[0].After != time.Second {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// hastyPeer closes when it receives DISCONNECT, like most servers, so the client detects the end
// before it closes the connection.
type hastyPeer struct {
	net.Conn
	far net.Conn
}

func (c hastyPeer) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if wire.Type(b[0]>>4) == wire.DISCONNECT {
		_ = c.far.Close()
		time.Sleep(time.Millisecond)
	}
	return n, err
}

func TestFaultEnd_ServerClosesFirst(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
			near, far := net.Pipe()
			s.conns <- &turns{far, make(chan struct{}, 1)}
			return hastyPeer{near, far}, nil
		}
		c := mustNew(t, cfg)
		must(t, c.Start(t.Context()))
		s.accept(control.Connack{})
		connect(t, c)
		must(t, c.Close())
		if e := eventsOf[client.Disconnected](&events); len(e) != 1 || e[0].Err != nil {
			t.Errorf("the requested end is reported as a fault: %+v", e)
		}
	})
}

// Close in OnEvent cannot wait for OnEvent. It returns at once, and the client ends afterwards, for
// every event.
func TestClose_FromEveryEvent(t *testing.T) {
	for _, kind := range []client.Event{client.Connecting{}, client.Connected{}, client.ConnectFailed{}, client.Disconnected{}, client.Redirected{}, client.SessionLost{}, client.Stopped{},
		client.MessageRefused{}, client.MessageDeferred{}, client.MessageExpired{}, client.HandlerFailed{}, client.Unhandled{}, client.SubscriptionFailed{}, client.StatusFailed{}, client.BreakerChanged{}} {
		t.Run(fmt.Sprintf("%T", kind), func(t *testing.T) {
			withServers(t, func(t *testing.T, a addressed) {
				var c *client.Client
				var once sync.Once
				closed := false
				cfg := a.config(&recorder{}, "mqtt://one")
				cfg.Store.Custom = usedStore(t)
				cfg.Presence.Status = &client.Status{Topic: "status", NoCorrection: true}
				cfg.Publishing.Breaker.FailureThreshold = 1
				cfg.Receiving.HandlerAttempts = 1
				if _, deferred := kind.(client.MessageDeferred); !deferred {
					cfg.Publishing.Refusals = finalRefusals
				}
				cfg.OnEvent = func(e client.Event) {
					if fmt.Sprintf("%T", e) != fmt.Sprintf("%T", kind) {
						return
					}
					once.Do(func() {
						began := time.Now()
						if err := c.CloseWith(client.DisconnectOptions{Reason: 0x98}); err != nil || time.Since(began) > 0 {
							t.Errorf("it returned %v after %v", err, time.Since(began))
						}
						closed = true
					})
				}
				var err error
				c, err = client.New(cfg)
				must(t, err)
				must1(c.Subscribe(t.Context(), "refused", client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error { return errVault })))
				_, err = c.Publish(t.Context(), client.Message{Topic: "late", QoS: 1, Expiry: time.Nanosecond})
				must(t, err)
				publish(t, c, "t", "x", client.AtLeastOnce)
				publish(t, c, "t", "x", client.AtLeastOnce)
				time.Sleep(time.Second)
				start(t, c)
				var server sync.WaitGroup
				server.Go(func() { // causes all events
					for i := 0; ; i++ {
						select {
						case nc := <-a.conns:
							serveBadly(nc, i%3 == 2)
						case <-c.Done():
							return
						}
					}
				})
				time.AfterFunc(10*time.Minute, func() { go c.Close() })
				<-c.Done()
				server.Wait()
				if !closed {
					t.Errorf("no %T came", kind)
				}
			})
		})
	}
}

// serveBadly redirects a client, or refuses as much as possible, for a minute.
func serveBadly(nc net.Conn, away bool) {
	defer nc.Close()
	r := wire.NewReader(nc, 0)
	send := func(b []byte) { _, _ = nc.Write(b) } // the client may have closed
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := r.Next(); err != nil {
		return
	}
	if away {
		send(control.AppendConnack(nil, &control.Connack{Reason: 0x9C, ServerReference: "else"}))
		return
	}
	send(control.AppendConnack(nil, &control.Connack{}))
	for id, topic := range []string{"", "refused", "nobody"} {
		if id > 0 {
			image := wire.AppendPublish(nil, &wire.Publish{Topic: topic, QoS: 1})
			send(wire.AppendImage(nil, image, uint16(id), false, 0))
		}
	}
	for {
		f, err := r.Next()
		if err != nil {
			return
		}
		switch f.Type() {
		case wire.PUBLISH:
			if v, err := wire.ParsePublish(f); err == nil && v.QoS > 0 {
				send(wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID, Reason: 0x97}))
			}
		case wire.SUBSCRIBE:
			if sub, err := control.ParseSubscribe(f); err == nil {
				send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{0x87}}))
			}
		}
	}
}

// While OnEvent blocks, State is updated, and the client sends messages.
func TestOnEvent_Blocks(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var events recorder
		cfg := testConfig("c", &events, through(p))
		cfg.Store.Custom = persistence.NewMemory(persistence.Options{})
		cfg.OnEvent = func(e client.Event) {
			events.add(e)
			switch e.(type) {
			case client.Connecting, client.Connected, client.ConnectFailed, client.Disconnected:
				time.Sleep(time.Minute)
			}
		}
		c := mustStart(t, cfg)
		for range 5 {
			publish(t, c, "t", "x", client.ExactlyOnce)
			time.Sleep(10 * time.Minute)
			if s := c.State(); s.Phase != client.PhaseConnected {
				t.Errorf("%+v", s)
			}
			if n := c.Stats().Store.Pending; n != 0 {
				t.Errorf("%d messages wait", n)
			}
			p.Cut()
		}
		synctest.Wait()
		began := time.Now()
		if err := c.Close(); !errors.As(err, new(*client.CloseTimeoutError)) { // because OnEvent does not return
			t.Errorf("Close: %v", err)
		}
		<-c.Done()
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("the client took %v to end", took)
		}
	})
}

// late is a store whose Enqueue waits and then fails.
type late struct {
	persistence.Store
	begun, release chan struct{}
}

func (l *late) Enqueue(context.Context, *persistence.Message) (persistence.Ticket, error) {
	close(l.begun)
	<-l.release
	return persistence.Ticket{}, persistence.ErrFailed
}

// A Publish that ends after the client returns its error, and reports no event.
func TestFaultEvents_NoneAfterStopped(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		store := &late{persistence.NewMemory(persistence.Options{}), make(chan struct{}), make(chan struct{})}
		cfg := testConfig("c", &events, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		failed := make(chan error, 1)
		go func() {
			_, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1})
			failed <- err
		}()
		<-store.begun
		must(t, c.Close())
		close(store.release)
		if err := <-failed; !errors.Is(err, persistence.ErrFailed) {
			t.Errorf("Publish: %v", err)
		}
		if n := len(events.list); n == 0 || events.list[n-1] != (client.Stopped{}) {
			t.Errorf("the last of %v is not Stopped", events.list)
		}
	})
}
