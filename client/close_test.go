package client_test

import (
	"context"
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
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// states bring a client with one message into each state in which it can be ended.
var states = map[string]func(t *testing.T, s *script, c *client.Client, start func()){
	"fresh": func(*testing.T, *script, *client.Client, func()) {},
	"connecting": func(t *testing.T, s *script, c *client.Client, start func()) {
		start()
		s.open() // no CONNACK follows
	},
	"connected": func(t *testing.T, s *script, c *client.Client, start func()) {
		start()
		p := s.accept(control.Connack{})
		p.nextPublish()
	},
	"in backoff": func(t *testing.T, s *script, c *client.Client, start func()) {
		start()
		s.accept(control.Connack{}).close()
		synctest.Wait()
	},
	"draining": func(t *testing.T, s *script, c *client.Client, start func()) {
		start()
		s.accept(control.Connack{}).nextPublish()
		go func() { _ = c.Drain(context.Background()) }()
		synctest.Wait()
	},
	"in a handler": func(t *testing.T, s *script, c *client.Client, start func()) {
		release := make(chan struct{})
		must(t, c.Handle("#", client.HandlerFunc(func(ctx context.Context, _ *client.Message) error {
			<-release // ignores ctx
			return ctx.Err()
		})))
		start()
		p := s.accept(control.Connack{})
		p.nextPublish()
		p.publish(appMessage(1, 1, "x"))
		p.publish(appMessage(2, 1, "x"))
		synctest.Wait()
		time.AfterFunc(time.Minute, func() { close(release) })
	},
	"closed": func(t *testing.T, _ *script, c *client.Client, _ func()) { must(t, c.Close()) },
}

var endings = map[string]func(c *client.Client, cancel context.CancelFunc) error{
	"Close": func(c *client.Client, _ context.CancelFunc) error { return c.Close() },
	"Close twice": func(c *client.Client, _ context.CancelFunc) error {
		_ = c.Close()
		return c.Close()
	},
	"Close by many": func(c *client.Client, _ context.CancelFunc) error {
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { _ = c.Close() })
		}
		all.Wait()
		return nil
	},
	"Drain": func(c *client.Client, _ context.CancelFunc) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Drain(ctx)
		return nil
	},
	"cancelled context": func(c *client.Client, cancel context.CancelFunc) error {
		cancel()
		if !client.Started(c) {
			return c.Close() // before Start, no context applies
		}
		<-c.Done()
		return nil
	},
}

func TestEnd_FromEveryState(t *testing.T) {
	for state, reach := range states {
		for ending, end := range endings {
			t.Run(state+"/"+ending, func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					store := persistence.NewMemory(persistence.Options{})
					cfg := testConfig("c", &recorder{}, s.dial)
					cfg.Store.Custom = store
					cfg.Connection.Backoff = reliability.Backoff{Min: time.Hour, Max: time.Hour}
					cfg.Connection.ConnectTimeout, cfg.Connection.AckTimeout, cfg.Connection.CloseTimeout = time.Hour, time.Hour, 2*time.Second
					c, err := client.New(cfg)
					must(t, err)
					d := publish(t, c, "t", "kept", client.AtLeastOnce)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					reach(t, s, c, func() { must(t, c.Start(ctx)) })
					began := time.Now()
					err = end(c, cancel)
					if limit := (*client.CloseTimeoutError)(nil); err != nil && !(state == "in a handler" && errors.As(err, &limit)) {
						t.Error(err)
					}
					if took := time.Since(began); ending != "cancelled context" && took > 8*time.Second { // Drain waits 1 s, and two calls of Close wait 3 s each
						t.Errorf("it returned after %v", took)
					}
					<-c.Done()
					took := time.Since(began)
					if handler := state == "in a handler"; handler != (took >= 59*time.Second) || took > 61*time.Second {
						t.Errorf("it took %v", took)
					}
					o := wantState(t, d, client.Abandoned)
					if o.Err == nil {
						t.Error("an abandoned message needs a reason")
					}
					if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}); err == nil {
						t.Error("Publish works after the end")
					}
					if err := c.Start(t.Context()); err == nil {
						t.Error("Start works after the end")
					}
					if err := c.AwaitConnection(t.Context()); err == nil {
						t.Error("AwaitConnection works after the end")
					}
					wantAccounts(t, c)
					if c.Connected() {
						t.Error("the client is still connected")
					}

					// Another client continues with the store.
					next := mustStart(t, cfg)
					for {
						p := s.accept(control.Connack{})
						select {
						case f, ok := <-p.got:
							if ok && f.Type() == wire.PUBLISH {
								v, err := wire.ParsePublish(f)
								must(t, err)
								p.ack(wire.PUBACK, v.PacketID, 0, "")
								must(t, next.Drain(t.Context()))
								return
							}
						case <-time.After(time.Minute):
							t.Fatal("the message does not come")
						}
					}
				})
			})
		}
	}
}

func TestClose_WaitsForHandlers(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.CloseTimeout = 10 * time.Second
		c := mustNew(t, cfg)
		var ends []error
		must(t, c.Handle("#", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
			}
			ends = append(ends, ctx.Err())
			return ctx.Err()
		})))
		start(t, c)
		p := s.accept(control.Connack{})
		p.publish(appMessage(1, 1, "x"))
		p.publish(appMessage(2, 1, "x"))
		synctest.Wait()
		must(t, c.Close())
		if a := p.nextAck(wire.PUBACK); a.PacketID != 1 {
			t.Errorf("PUBACK %d came", a.PacketID)
		}
		if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != 0 {
			t.Errorf("DISCONNECT says 0x%02X, %v", d.Reason, err)
		}
		if fmt.Sprint(ends) != "[<nil>]" {
			t.Errorf("the handler ended with %v: it should run once, to its end", ends)
		}
	})
}

// The message is neither acknowledged nor refused, and the interruption does not count as a failed
// attempt.
func TestClose_RedeliversInterruptedMessage(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.CloseTimeout, cfg.Receiving.HandlerAttempts = time.Second, 1
		c := mustNew(t, cfg)
		must(t, c.Handle("#", client.HandlerFunc(func(ctx context.Context, _ *client.Message) error {
			<-ctx.Done()
			return ctx.Err()
		})))
		start(t, c)
		p := s.accept(control.Connack{})
		p.publish(appMessage(1, 1, "x"))
		p.publish(appMessage(2, 2, "x"))
		synctest.Wait()
		must(t, c.Close())
		if f := p.next(wire.DISCONNECT); len(f.Body) > 0 && f.Body[0] != 0 {
			t.Errorf("DISCONNECT says 0x%02X", f.Body[0])
		}
		if st := c.Stats(); st.Refused != 0 || st.Failed != 0 || len(eventsOf[client.HandlerFailed](&events)) != 0 {
			t.Errorf("the counters are %+v", st)
		}
	})
}

func TestStart_ErrAbortSendsNoDisconnect(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Presence.Status = &client.Status{Topic: "status", NoCorrection: true}
		c := mustNew(t, cfg)
		release := make(chan struct{})
		must(t, c.Handle("#", client.HandlerFunc(func(context.Context, *client.Message) error { <-release; return nil })))
		why := fmt.Errorf("why: %w", client.ErrAbort)
		ctx, cancel := context.WithCancelCause(t.Context())
		must(t, c.Start(ctx))
		p := s.accept(control.Connack{})
		p.nextPublish()
		p.publish(appMessage(1, 1, "x"))
		synctest.Wait()
		began := time.Now()
		cancel(why)
		if last := p.ended(); last.Header != 0 {
			t.Errorf("the last packet was %v", last.Type())
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the connection was up for another %v while a handler ignored its context", took)
		}
		close(release)
		<-c.Done()
		if err := c.Err(); err != why {
			t.Errorf("Err is %v, want the context's cause", err)
		}
	})
}

// A service cancels Start's context on SIGTERM. The running handler finishes and its message is
// acknowledged, the status becomes offline, and DISCONNECT is sent.
func TestStart_CanceledContextClosesCleanly(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Presence.Status = &client.Status{Topic: "status", NoCorrection: true}
		c := mustNew(t, cfg)
		must(t, c.Handle("#", client.HandlerFunc(func(context.Context, *client.Message) error { time.Sleep(time.Second); return nil })))
		ctx, cancel := context.WithCancel(t.Context())
		must(t, c.Start(ctx))
		p := s.accept(control.Connack{})
		p.accepts(p.nextPublish())
		p.publish(appMessage(1, 1, "x"))
		synctest.Wait()
		cancel()
		acked, offline := false, false // in either order
		for !acked || !offline {
			f := <-p.got
			switch f.Type() {
			case wire.PUBACK:
				acked = true
			case wire.PUBLISH:
				v := must1(wire.ParsePublish(f))
				if string(v.Topic) != "status" || string(v.Payload) != "offline" {
					t.Fatalf("published %q on %s, want offline on status", v.Payload, v.Topic)
				}
				offline = true
				p.ack(wire.PUBACK, v.PacketID, 0, "")
			default:
				t.Fatalf("got %v before the acknowledgement and the offline status", f.Type())
			}
		}
		if last := p.ended(); last.Type() != wire.DISCONNECT || len(last.Body) > 0 && last.Body[0] != 0 {
			t.Errorf("the last packet was %v % x, want DISCONNECT 0x00", last.Type(), last.Body)
		}
		<-c.Done()
		if err := c.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("Err is %v, want context.Canceled", err)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Run("waits for every outcome", func(t *testing.T) {
		publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			once, exactly := publish(t, c, "t", "1", client.AtLeastOnce), publish(t, c, "t", "2", client.ExactlyOnce)
			done := make(chan error, 1)
			go func() { done <- c.Drain(t.Context()) }()
			synctest.Wait()
			if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}); !errors.Is(err, client.ErrDraining) {
				t.Errorf("Publish while draining: %v", err)
			}
			time.Sleep(time.Second)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
			m := p.nextPublish()
			p.ack(wire.PUBREC, m.PacketID, 0, "")
			p.nextAck(wire.PUBREL)
			select {
			case err := <-done:
				t.Fatalf("Drain returned %v before PUBCOMP", err)
			default:
			}
			p.ack(wire.PUBCOMP, m.PacketID, 0, "")
			must(t, <-done)
			wantState(t, once, client.Acked)
			wantState(t, exactly, client.Acked)
			if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != 0 {
				t.Errorf("DISCONNECT says 0x%02X, %v", d.Reason, err)
			}
		})
	})
	t.Run("within a deadline", func(t *testing.T) {
		publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			publish(t, c, "t", "1", client.AtLeastOnce)
			publish(t, c, "t", "2", client.AtLeastOnce)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var e *client.DrainError
			if err := c.Drain(ctx); !errors.As(err, &e) || e.Pending != 2 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain returned %v, want a *DrainError with 2 pending", err)
			}
		})
	})
	t.Run("of a client that fails", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			c := mustStart(t, testConfig("c", &recorder{}, s.dial))
			publish(t, c, "t", "1", client.AtLeastOnce)
			done := make(chan error, 2)
			for range 2 {
				go func() { done <- c.Drain(t.Context()) }()
			}
			s.accept(control.Connack{Reason: 0x87})
			for range 2 {
				var e *client.DrainError
				var refused *client.ConnectionError
				if err := <-done; !errors.As(err, &e) || e.Pending != 1 || !errors.As(err, &refused) || refused.Code != 0x87 {
					t.Errorf("Drain returned %v, want a *DrainError over a *ConnectionError", err)
				}
			}
		})
	})
}

// Every accepted message has an outcome.
func TestPublish_HasOutcomeDuringClose(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			b := mqtttest.Start(t, mqtttest.With(mqtttest.Options{NoTCP: true}))
			cfg := testConfig("c", &recorder{}, b.Dial)
			store := persistence.NewMemory(persistence.Options{})
			cfg.Store.Custom = store
			c := mustStart(t, cfg)
			connect(t, c)
			var mu sync.Mutex
			var all []*client.Delivery
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					for {
						d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1})
						if err != nil {
							return
						}
						mu.Lock()
						all = append(all, d)
						mu.Unlock()
					}
				})
			}
			group.Go(func() { _ = c.Close() })
			group.Wait()
			acked := uint64(0)
			for _, d := range all {
				select {
				case <-d.Done():
				default:
					t.Fatal("a Delivery is open after Close")
				}
				if d.Outcome().State == client.Acked {
					acked++
				}
			}
			if s := store.Stats(); s.Accepted != uint64(len(all)) || s.Acked != acked {
				t.Errorf("%d of %d acked, the store says %d of %d", acked, len(all), s.Acked, s.Accepted)
			}
		})
	}
}

func TestClose_PeerThatReadsNothing(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = far.Close() })
			go func() { // reads CONNECT and nothing else
				_, _ = wire.NewReader(far, 0).Next()
				_, _ = far.Write(control.AppendConnack(nil, &control.Connack{}))
			}()
			return near, nil
		}
		cfg.Connection.WriteTimeout, cfg.Connection.CloseTimeout = time.Hour, 3*time.Second
		c := mustStart(t, cfg)
		connect(t, c)
		publish(t, c, "t", "x", client.AtLeastOnce)
		synctest.Wait()
		began := time.Now()
		must(t, c.Close())
		if took := time.Since(began); took > cfg.Connection.CloseTimeout+time.Second {
			t.Errorf("Close took %v, its timeout is %v", took, cfg.Connection.CloseTimeout)
		}
	})
}

// slowStore is closed while it accepts a message.
type slowStore struct {
	persistence.Store
	entered, closed chan struct{}
}

func (s *slowStore) Enqueue(context.Context, *persistence.Message) (persistence.Ticket, error) {
	close(s.entered)
	<-s.closed
	return persistence.Ticket{}, persistence.ErrClosed
}

// If Close runs first, Publish returns the client's error, not the store's.
func TestPublish_ReturnsErrClosedAfterClose(t *testing.T) {
	store := &slowStore{persistence.NewMemory(persistence.Options{}), make(chan struct{}), make(chan struct{})}
	cfg := testConfig("c", &recorder{}, nil)
	cfg.Store.Custom = store
	c := mustNew(t, cfg)
	result := make(chan error, 1)
	go func() {
		_, err := c.Publish(context.Background(), client.Message{Topic: "t", QoS: client.AtLeastOnce})
		result <- err
	}()
	<-store.entered
	must(t, c.Close())
	close(store.closed)
	if err := <-result; !errors.Is(err, client.ErrClosed) {
		t.Errorf("Publish returned %v", err)
	}
}
