package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/reliability"
)

// scene is one run of a case with one broker. Each scene has its own client identifiers and topics, so
// that many scenes can run at the same time.
type scene struct {
	*scenario
	ctx    context.Context
	broker *broker
	onStep func(string) // prints a step, for -case; may be nil
	id     string       // the device's Client Identifier
	topic  string       // of the will

	line    *line          // of the device
	client  *client.Client // the device, if it is a mooring client
	peer    *peer          // the device, if it is a raw client
	ended   chan error     // the reasons why its connections ended
	cleanup []func()       // called in reverse order at the end
	ending  atomic.Bool    // steps are not printed any more

	mu      sync.Mutex
	endedAt time.Time // taken just before the device's connection ended
	came    []arrival // messages on topic
	news    chan struct{}
	facts   []string
}

type arrival struct {
	at      time.Time
	message *client.Message
}

// outcome is the observed result of a case.
type outcome struct {
	wills []time.Duration // times of the wills, from the end of the connection
	facts []string
	err   error // the case could not be run
}

const (
	offline = "offline"
	// settled is how long to wait for a second will after the expected one.
	settled = 500 * time.Millisecond
)

// play runs a case with a broker.
func play(ctx context.Context, c *scenario, b *broker, onStep func(string)) outcome {
	id := "will" + strings.ToLower(rand.Text()[:8])
	s := &scene{scenario: c, ctx: ctx, broker: b, onStep: onStep, id: id, topic: id + "/status",
		ended: make(chan error, 16), news: make(chan struct{}, 1)}
	s.line = &line{dial: b.dial}
	defer s.clean()
	if err := s.watch(); err != nil {
		return outcome{err: fmt.Errorf("the watcher cannot subscribe: %w", err)}
	}
	for _, step := range c.steps {
		if err := step(s); err != nil {
			return outcome{err: err}
		}
	}
	if !c.untimed {
		s.await(len(c.wills), s.deadline())
		if s.count() >= len(c.wills) && len(c.wills) > 0 {
			s.await(len(c.wills)+1, time.Now().Add(settled))
		}
	}
	return s.outcome()
}

func (s *scene) printf(format string, args ...any) {
	if s.onStep != nil && !s.ending.Load() {
		s.onStep(fmt.Sprintf(format, args...))
	}
}

func (s *scene) fact(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts = append(s.facts, what)
}

// end records the time from which the wills are counted.
func (s *scene) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endedAt = time.Now()
}

// clean closes all clients. It may cause wills, which do not count.
func (s *scene) clean() {
	s.ending.Store(true)
	for _, f := range slices.Backward(s.cleanup) {
		f()
	}
}

// later registers a function that clean calls.
func (s *scene) later(f func()) { s.cleanup = append(s.cleanup, f) }

// config returns the configuration of a client whose session ends with its connection.
func (s *scene) config(id string) client.Config {
	return client.Config{
		Servers:  []string{s.broker.server},
		ClientID: id,
		Logger:   slog.New(slog.DiscardHandler), // the scene prints what matters
		Connection: client.ConnectionConfig{
			Username:     s.broker.user,
			Password:     s.broker.password,
			Dial:         (&line{dial: s.broker.dial}).Dial,
			Backoff:      reliability.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond},
			CloseTimeout: 2 * time.Second,
		},
		Session:   client.SessionConfig{Expiry: client.NoSession},
		Receiving: client.ReceivingConfig{Concurrency: 1},
	}
}

// start starts a client and waits until it is connected. clean closes the client.
func (s *scene) start(cfg client.Config) (*client.Client, error) {
	c, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	s.later(func() { _ = c.Close() }) // an error does not matter here
	if err := c.Start(context.WithoutCancel(s.ctx)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	if err := c.AwaitConnection(ctx); err != nil {
		return nil, fmt.Errorf("%s cannot connect: %w", cfg.ClientID, err)
	}
	return c, nil
}

// watch subscribes to the topic of the will and records the messages and their times.
func (s *scene) watch() error {
	c, err := s.start(s.config(s.id + "w"))
	if err != nil {
		return err
	}
	s.later(s.cleanBroker)
	s.printf("A watcher subscribes to %s.", s.topic)
	_, err = c.Subscribe(s.ctx, s.topic, client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		s.mu.Lock()
		now := time.Now()
		since := ""
		if !s.endedAt.IsZero() {
			since = fmt.Sprintf(", %.1f s after the end of the connection", now.Sub(s.endedAt).Seconds())
		}
		s.came = append(s.came, arrival{now, m})
		s.mu.Unlock()
		s.printf("The watcher receives %q%s.", m.Payload, since)
		select {
		case s.news <- struct{}{}:
		default:
		}
		return nil
	}))
	return err
}

// cleanBroker removes the retained message and a session that never expires, if the broker continues
// to run. Other sessions expire.
func (s *scene) cleanBroker() {
	retains := s.device.retain || s.device.status
	if !s.broker.outlives || !retains && !s.device.v311 {
		return
	}
	cfg := s.config(s.id) // takes over the session of the device and ends it
	cfg.Session.CleanStart = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), timeout)
	defer cancel()
	c, err := client.New(cfg)
	if err != nil {
		return
	}
	if err := c.Start(ctx); err == nil && c.AwaitConnection(ctx) == nil && retains {
		if d, err := c.Publish(ctx, client.Message{Topic: s.topic, QoS: client.AtLeastOnce, Retain: true}); err == nil {
			_, _ = d.Wait(ctx) // if it fails, the message stays at the broker
		}
	}
	_ = c.Close() // an error does not matter here
}

// deviceConfig returns the configuration of the device, with its will and session.
func (s *scene) deviceConfig() client.Config {
	cfg, d := s.config(s.id), s.device
	cfg.Connection.Dial = s.line.Dial
	if d.expiry > 0 {
		cfg.Session.Expiry = time.Duration(d.expiry) * time.Second
	}
	if d.keepAlive > 0 {
		cfg.Connection.KeepAlive = time.Duration(d.keepAlive) * time.Second
	}
	cfg.OnEvent = func(e client.Event) {
		if e, ok := e.(client.Disconnected); ok {
			select {
			case s.ended <- e.Err:
			default:
			}
		}
	}
	if d.status {
		cfg.Presence.Status = &client.Status{Topic: s.topic}
		return cfg
	}
	will := client.Will{}
	if d.properties {
		will = decorated
	}
	will.Topic, will.Payload, will.QoS = s.topic, []byte(offline), client.AtLeastOnce
	will.Retain, will.Delay = d.retain, time.Duration(d.delay)*time.Second
	cfg.Presence.Will = &will
	return cfg
}

// decorated is a will that has every property.
var decorated = client.Will{
	Expiry: time.Hour, ContentType: "text/plain; charset=utf-8", ResponseTopic: "whom/to/ask", CorrelationData: []byte{0, 1, 0xFF},
	PayloadIsUTF8: true, UserProperties: []client.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
}

func (s *scene) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came)
}

// await waits until n messages have been received, and then returns true. With n 0, it waits for any
// message. It returns false at the deadline.
func (s *scene) await(n int, deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for s.count() < n || n == 0 {
		select {
		case <-s.news:
			if n == 0 {
				return true // a message that the case does not expect
			}
		case <-timer.C:
			return false
		case <-s.ctx.Done():
			return false
		}
	}
	return true
}

// deadline returns the time after which no will can arrive. It includes the expected wills, and a will
// that the broker wrongly publishes after the delay.
func (s *scene) deadline() time.Time {
	d := time.Duration(min(s.device.delay, max(s.device.expiry, 3))) * time.Second
	for _, w := range s.wills {
		d = max(d, w)
	}
	return s.endedAt.Add(d + s.latest())
}

// latest returns how late a will of this case may be with this broker.
func (s *scene) latest() time.Duration {
	late := s.broker.slow
	if s.broker.known {
		for _, k := range s.known {
			late = max(late, k.late)
		}
	}
	return late
}

func (s *scene) outcome() outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := outcome{facts: s.facts}
	if s.ctx.Err() != nil {
		o.err = fmt.Errorf("not finished: %w", context.Cause(s.ctx))
	}
	for _, a := range s.came {
		if string(a.message.Payload) != offline {
			if !s.device.status {
				o.err = errors.Join(o.err, fmt.Errorf("the watcher received %q", a.message.Payload))
			}
			continue
		}
		o.wills = append(o.wills, a.at.Sub(s.endedAt))
	}
	return o
}
