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

// scene is one case that is being played on one broker. Client identifiers and
// topics are its own, so that any number can be played at the same time.
type scene struct {
	*scenario
	ctx    context.Context
	broker *broker
	tell   func(string) // what happens, for -case; nil: nobody listens
	id     string       // the device's Client Identifier
	topic  string       // of the will

	line    *line          // of the device
	client  *client.Client // the device, or
	peer    *peer          // the device
	ended   chan error     // why its connections ended
	cleanup []func()       // last first
	ending  atomic.Bool    // nothing more is told

	mu    sync.Mutex
	over  time.Time // when the device's connection ended; just before, to be exact
	came  []arrival // on topic
	news  chan struct{}
	facts []string
}

type arrival struct {
	at      time.Time
	message *client.Message
}

// outcome is what was seen.
type outcome struct {
	wills []time.Duration // since the end of the connection
	facts []string
	err   error // the case could not be played
}

const (
	offline = "offline"
	// settled is how long a will that came is given to come a second time.
	settled = 500 * time.Millisecond
)

// play plays a case on a broker.
func play(ctx context.Context, c *scenario, b *broker, tell func(string)) outcome {
	id := "will" + strings.ToLower(rand.Text()[:8])
	s := &scene{scenario: c, ctx: ctx, broker: b, tell: tell, id: id, topic: id + "/status",
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

func (s *scene) say(format string, args ...any) {
	if s.tell != nil && !s.ending.Load() {
		s.tell(fmt.Sprintf(format, args...))
	}
}

func (s *scene) fact(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts = append(s.facts, what)
}

// end starts the clock of the will.
func (s *scene) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = time.Now()
}

// clean ends what is left. Wills that this sets off are not the case's.
func (s *scene) clean() {
	s.ending.Store(true)
	for _, f := range slices.Backward(s.cleanup) {
		f()
	}
}

// later has f run when the scene is over.
func (s *scene) later(f func()) { s.cleanup = append(s.cleanup, f) }

// config is that of a client of the scene. Its session ends with its connection.
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

// start makes a client that ends with the scene and waits until it is connected.
func (s *scene) start(cfg client.Config) (*client.Client, error) {
	c, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	s.later(func() { _ = c.Close() }) // nothing is left to say
	if err := c.Start(context.WithoutCancel(s.ctx)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := c.AwaitConnection(ctx); err != nil {
		return nil, fmt.Errorf("%s cannot connect: %w", cfg.ClientID, err)
	}
	return c, nil
}

// watch subscribes to the will, and notes when what comes.
func (s *scene) watch() error {
	c, err := s.start(s.config(s.id + "w"))
	if err != nil {
		return err
	}
	s.later(s.forget)
	s.say("A watcher subscribes to %s.", s.topic)
	_, err = c.Subscribe(s.ctx, s.topic, client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		s.mu.Lock()
		now := time.Now()
		since := ""
		if !s.over.IsZero() {
			since = fmt.Sprintf(", %.1f s after the end of the connection", now.Sub(s.over).Seconds())
		}
		s.came = append(s.came, arrival{now, m})
		s.mu.Unlock()
		s.say("The watcher receives %q%s.", m.Payload, since)
		select {
		case s.news <- struct{}{}:
		default:
		}
		return nil
	}))
	return err
}

// forget clears what the scene leaves at a broker that outlives it: what is
// retained, and a session without end. Others end by themselves.
func (s *scene) forget() {
	retains := s.device.retain || s.device.status
	if !s.broker.outlives || !retains && !s.device.v311 {
		return
	}
	cfg := s.config(s.id) // in place of the device, whose session ends so
	cfg.Session.CleanStart = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), patience)
	defer cancel()
	c, err := client.New(cfg)
	if err != nil {
		return
	}
	if err := c.Start(ctx); err == nil && c.AwaitConnection(ctx) == nil && retains {
		if d, err := c.Publish(ctx, client.Message{Topic: s.topic, QoS: client.AtLeastOnce, Retain: true}); err == nil {
			_, _ = d.Wait(ctx) // an unreachable broker keeps it
		}
	}
	_ = c.Close() // as above
}

// device's configuration: the will, and the session that it goes with.
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

// decorated is a will with every property.
var decorated = client.Will{
	Expiry: time.Hour, ContentType: "text/plain; charset=utf-8", ResponseTopic: "whom/to/ask", CorrelationData: []byte{0, 1, 0xFF},
	PayloadIsUTF8: true, UserProperties: []client.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
}

func (s *scene) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came)
}

// await waits until n messages have come, or the deadline has.
func (s *scene) await(n int, deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for s.count() < n || n == 0 {
		select {
		case <-s.news:
			if n == 0 {
				return true // more than none: there is nothing to wait for
			}
		case <-timer.C:
			return false
		case <-s.ctx.Done():
			return false
		}
	}
	return true
}

// deadline is when wills can be expected no more: not those of the case, and not
// one that the broker holds back, rightly or not, until its delay is over.
func (s *scene) deadline() time.Time {
	d := time.Duration(min(s.device.delay, max(s.device.expiry, 3))) * time.Second
	for _, w := range s.wills {
		d = max(d, w)
	}
	return s.over.Add(d + s.latest())
}

// latest is how late a will may be on the broker, in this case.
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
		o.wills = append(o.wills, a.at.Sub(s.over))
	}
	return o
}
