package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// command starts a client whose handler waits for a second and then publishes the result of the
// command, at the QoS of the command. It sends one command and returns when the handler runs.
func command(t *testing.T, s *script, cfg client.Config, qos byte, then func() error) (*client.Client, context.CancelFunc, *peer) {
	t.Helper()
	c := mustNew(t, cfg)
	must(t, c.Handle("t", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
		time.Sleep(time.Second)
		if _, err := c.Publish(ctx, client.Message{Topic: "result", Payload: m.Payload, QoS: m.QoS}); err != nil {
			return err
		}
		return then()
	})))
	ctx, cancel := context.WithCancel(t.Context())
	must(t, c.Start(ctx))
	p := s.accept(control.Connack{})
	connect(t, c)
	p.publish(appMessage(1, qos, "command"))
	synctest.Wait()
	return c, cancel, p
}

// serve answers packets until the connection ends. It returns the published topics and the packets
// that acknowledge received messages. If silent is set, it acknowledges no PUBLISH.
func (p *peer) serve(silent bool) (topics, acks []string) {
	for f := range p.got {
		switch f.Type() {
		case wire.PUBLISH:
			m, err := wire.ParsePublish(f)
			must(p.t, err)
			topics = append(topics, string(m.Topic))
			switch {
			case silent:
			case m.QoS == 1:
				p.ack(wire.PUBACK, m.PacketID, 0, "")
			default:
				p.ack(wire.PUBREC, m.PacketID, 0, "")
			}
		case wire.PUBREL:
			a, err := wire.ParseAck(f)
			must(p.t, err)
			p.ack(wire.PUBCOMP, a.PacketID, 0, "")
		case wire.PUBACK, wire.PUBREC:
			acks = append(acks, f.Type().String())
		case wire.DISCONNECT:
			return topics, append(acks, "DISCONNECT")
		}
	}
	return topics, acks
}

func TestClose_HandlerCanPublish(t *testing.T) {
	ends := maps.Clone(endings)
	ends["Drain"] = func(c *client.Client, _ context.CancelFunc) error { return c.Drain(context.Background()) }
	for name, end := range ends {
		for qos, ack := range map[byte]string{1: "PUBACK", 2: "PUBREC"} {
			t.Run(fmt.Sprintf("%s/QoS %d", name, qos), func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					cfg := testConfig("c", &recorder{}, s.dial)
					cfg.Dir = t.TempDir()
					c, cancel, p := command(t, s, cfg, qos, func() error { return nil })
					silent := name != "Drain" // Close does not wait until the result is sent
					ended := make(chan error, 1)
					go func() { ended <- end(c, cancel) }()
					topics, acks := p.serve(silent)
					if len(topics) == 0 && !silent || len(topics) > 1 || fmt.Sprint(acks) != fmt.Sprintf("[%s DISCONNECT]", ack) {
						t.Errorf("the server received %v and %v, want the result and the acknowledgement of the command", topics, acks)
					}
					must(t, <-ended)
					<-c.Done()
					wantAccounts(t, c)
					if !silent {
						return
					}
					next := mustStart(t, cfg)
					p = s.accept(control.Connack{SessionPresent: true})
					go func() { ended <- next.Drain(t.Context()) }()
					if topics, _ = p.serve(false); fmt.Sprint(topics) != "[result]" {
						t.Errorf("the next process sent %v, want the result", topics)
					}
					must(t, <-ended)
				})
			})
		}
	}
}

// A store in memory loses the result if Close does not send it within CloseTimeout, and reports
// that.
func TestClose_ReportsResultsLostWithMemory(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c, _, p := command(t, s, testConfig("c", &events, s.dial), 1, func() error { return nil })
		p.close()
		must(t, c.Close())
		if lost := eventsOf[client.MessagesAbandoned](&events); len(lost) != 1 || lost[0].Pending != 1 {
			t.Errorf("reported %+v, want one pending message", lost)
		}
	})
}

func TestDrain_SendsResultOfFailedHandler(t *testing.T) {
	for name, then := range map[string]func() error{
		"error": func() error { return errVault },
		"panic": func() error { panic("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				c, _, p := command(t, s, testConfig("c", &recorder{}, s.dial), 1, then)
				ended := make(chan error, 1)
				go func() { ended <- c.Drain(t.Context()) }()
				if topics, acks := p.serve(false); fmt.Sprint(topics, acks) != "[result] [DISCONNECT]" {
					t.Errorf("the server received %v and %v, want the result and no acknowledgement", topics, acks)
				}
				must(t, <-ended)
			})
		})
	}
}

func TestDrain_StartsNoHandler(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		runs := 0
		c, _, p := command(t, s, testConfig("c", &recorder{}, s.dial), 1, func() error { runs++; return nil })
		p.publish(appMessage(2, 1, "second"))
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- c.Drain(t.Context()) }()
		synctest.Wait()
		p.publish(appMessage(3, 1, "third"))
		if topics, acks := p.serve(false); fmt.Sprint(topics, acks) != "[result] [PUBACK DISCONNECT]" || runs != 1 {
			t.Errorf("%d handlers ran, and the server received %v and %v", runs, topics, acks)
		}
		must(t, <-ended)
	})
}

// After the handlers have ended, Publish refuses messages, so that Drain ends.
func TestDrain_EndsWhilePublishersContinue(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c, _, p := command(t, s, testConfig("c", &recorder{}, s.dial), 1, func() error { return nil })
		refused := make(chan error, 1)
		go func() {
			for {
				if _, err := c.Publish(t.Context(), client.Message{Topic: "other", QoS: 1}); err != nil {
					refused <- err
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		began, ended := time.Now(), make(chan error, 1)
		go func() { ended <- c.Drain(t.Context()) }()
		p.serve(false)
		must(t, <-ended)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Drain took %v", took)
		}
		if err := <-refused; !errors.Is(err, client.ErrDraining) && !errors.Is(err, client.ErrClosed) {
			t.Errorf("Publish returned %v, want ErrDraining or ErrClosed", err)
		}
	})
}

// While a handler hangs, Drain ends at its deadline. The handler then has CloseTimeout to publish.
func TestDrain_HandlerOutlivesDeadline(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Dir, cfg.Connection.CloseTimeout = t.TempDir(), 2*time.Second
		c := mustNew(t, cfg)
		var results []error
		try := func(ctx context.Context) {
			_, err := c.Publish(ctx, client.Message{Topic: "result", QoS: 1})
			results = append(results, err)
		}
		must(t, c.Handle("t", client.HandlerFunc(func(ctx context.Context, _ *client.Message) error {
			time.Sleep(2 * time.Second) // Drain has ended
			try(ctx)
			<-ctx.Done()
			time.Sleep(time.Minute)
			try(context.Background())
			return ctx.Err()
		})))
		start(t, c)
		p := s.accept(control.Connack{})
		p.publish(appMessage(1, 1, "x"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		var left *client.DrainError
		if err := c.Drain(ctx); !errors.As(err, &left) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain returned %v, want a *DrainError", err)
		}
		if took := time.Since(began); took != 4*time.Second { // deadline, CloseTimeout, and one second
			t.Errorf("Drain took %v", took)
		}
		<-c.Done()
		if len(results) != 2 || results[0] != nil || !errors.Is(results[1], client.ErrClosed) {
			t.Errorf("Publish returned %v, want nil within CloseTimeout and then ErrClosed", results)
		}
	})
}

// Without a running handler, a Drain whose context has ended is complete if no message is pending.
func TestDrain_EndedContext(t *testing.T) {
	for range 20 {
		publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, _ *peer, _ *recorder) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			must(t, c.Drain(ctx))
		})
	}
}

// A handler that returns after Drain's deadline, but within CloseTimeout, makes Drain incomplete
// even if no message is pending.
func TestDrain_ReportsHandlerThatOutlivesDeadline(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c, _, p := command(t, s, testConfig("c", &recorder{}, s.dial), 1, func() error { <-time.After(time.Second); return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- c.Drain(ctx) }()
		p.serve(false)
		var left *client.DrainError
		if err := <-ended; !errors.As(err, &left) || left.Pending != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain returned %v, want a *DrainError without pending messages", err)
		}
	})
}

// With Block, a handler that waits for room in the store returns from Publish after CloseTimeout.
func TestClose_EndsPublishThatWaitsForRoom(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.WhenFull, cfg.Store.Options.Limits.MaxMessages = client.Block, 1
		cfg.Connection.CloseTimeout = 2 * time.Second
		c := mustNew(t, cfg)
		publish(t, c, "first", "", client.AtLeastOnce)
		var result error
		must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error {
			_, result = c.Publish(context.Background(), client.Message{Topic: "result", QoS: 1})
			return result
		})))
		start(t, c)
		p := s.accept(control.Connack{})
		p.nextPublish()
		p.publish(appMessage(1, 1, "x"))
		synctest.Wait()
		began := time.Now()
		must(t, c.Close())
		if took := time.Since(began); took != 2*time.Second || !errors.Is(result, client.ErrClosed) {
			t.Errorf("Publish returned %v after %v, want ErrClosed after CloseTimeout", result, took)
		}
	})
}

// A handler that ends the client can still publish. After Drain in a handler, other goroutines
// cannot.
func TestClose_HandlerThatEndsTheClientCanPublish(t *testing.T) {
	for name, tt := range map[string]struct {
		end   func(c *client.Client) error
		other error
	}{
		"Close": {(*client.Client).Close, nil},
		"Drain": {func(c *client.Client) error { return c.Drain(context.Background()) }, client.ErrDraining},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				store := persistence.NewMemory(persistence.Options{})
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Store.Custom = store
				c := mustNew(t, cfg)
				must(t, c.Handle("t", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
					must(t, tt.end(c))
					other := make(chan error, 1)
					if tt.other != nil {
						go func() {
							_, err := c.Publish(ctx, client.Message{Topic: "other", QoS: 1})
							other <- err
						}()
						if err := <-other; !errors.Is(err, tt.other) {
							t.Errorf("Publish on another goroutine returned %v", err)
						}
					}
					publish(t, c, "result", "", client.AtLeastOnce)
					return nil
				})))
				start(t, c)
				p := s.accept(control.Connack{})
				p.publish(appMessage(1, 1, "x"))
				if topics, acks := p.serve(false); len(topics) > 1 || fmt.Sprint(acks) != "[PUBACK DISCONNECT]" {
					t.Errorf("the server received %v and %v", topics, acks)
				}
				<-c.Done()
				if got := store.Stats().Accepted; got != 1 {
					t.Errorf("the store accepted %d messages", got)
				}
				if _, err := c.Publish(t.Context(), client.Message{Topic: "result", QoS: 1}); !errors.Is(err, client.ErrClosed) {
					t.Errorf("Publish after the end returned %v", err)
				}
			})
		})
	}
}
