// Package status publishes whether a client is online, as a retained message. It publishes after
// each CONNACK, as a heartbeat, to correct messages of other processes, and offline before a clean
// end. The plan decides what is published and when.
package status

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Publisher publishes the status of one client. No status message follows the offline message:
// neither from a connection that comes up at the same time, nor a heartbeat, nor a correction. All
// methods are safe for concurrent use.
type Publisher struct {
	cfg   Config
	plan  *plan
	wake  notify.Signal // makes Run check the plan again
	start time.Time     // the plan's times count from here

	mu sync.Mutex // held while a message is published

	refused atomic.Bool // the server refuses the subscription to the topic
}

// Config configures a Publisher.
type Config struct {
	Topic  string // "": nothing is published
	Format Format
	Failed func(error) // called for a message that was not published or not accepted
	// Contested is called when another process publishes online on the same topic, with this boot
	// ID. It is called at most once a minute.
	Contested func(presence.BootID)
}

// Connection publishes status messages.
type Connection interface {
	// PublishStatus publishes a message before stored messages. If it returns an error, nothing was
	// sent. The errors session.ErrWindowFull, session.ErrIDsInUse and *session.DeferredError are
	// temporary. Otherwise answered is called once, on this connection or a later one. It gets the
	// reason code of PUBACK, and an error if the server refused the message. If the message is lost
	// or deferred, it gets session.ErrSessionLost or a *session.DeferredError. It is not called if
	// an identical message replaces this one.
	PublishStatus(p *wire.Publish, answered func(reason byte, err error)) error
	Cause() error // reason why the connection has ended; nil while it is up
}

// New returns a Publisher.
func New(cfg Config) *Publisher {
	return &Publisher{cfg: cfg, plan: newPlan(cfg.Format.Heartbeat), wake: notify.New(), start: time.Now()}
}

func (p *Publisher) now() time.Duration { return time.Since(p.start) }

// Stats returns the current counters.
func (p *Publisher) Stats() Stats { return p.plan.snapshot() }

// BootID identifies this client in structured messages.
func (p *Publisher) BootID() presence.BootID { return p.cfg.Format.Boot }

// Birth publishes online on a new connection, because the server may have published the will.
func (p *Publisher) Birth(c Connection) {
	if p.cfg.Topic != "" {
		p.plan.connected()
		p.publish(c, presence.ReasonBirth)
	}
}

// Run publishes the messages that become due on a connection: heartbeats, corrections, and the
// birth again if the server has not accepted it. It returns when ctx ends.
func (p *Publisher) Run(ctx context.Context, c Connection) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		reason, wait := p.plan.next(p.now())
		if ctx.Err() != nil {
			return
		}
		if reason != "" {
			p.publish(c, reason)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.wake:
		}
	}
}

// publish publishes online.
func (p *Publisher) publish(c Connection, reason string) {
	payload := p.cfg.Format.Payload(presence.Online, reason)
	p.mu.Lock()
	now := p.now()
	m := p.plan.publish(now, reason, func() []byte { return payload })
	if m == nil {
		p.mu.Unlock()
		return
	}
	err := c.PublishStatus(p.packet(m.payload), func(_ byte, err error) { p.answered(m, err) })
	p.mu.Unlock()
	var deferred *session.DeferredError
	switch {
	case err == nil:
	case c.Cause() != nil: // the next connection publishes a birth
		p.plan.forgotten(m)
	case errors.As(err, &deferred):
		if p.plan.deferred(m, now+max(time.Until(deferred.Retry), 1)) {
			p.cfg.Failed(err)
		}
	case p.plan.unsent(now, m, errors.Is(err, session.ErrWindowFull) || errors.Is(err, session.ErrIDsInUse)):
		p.cfg.Failed(err)
	}
}

func (p *Publisher) packet(payload []byte) *wire.Publish {
	return &wire.Publish{Topic: p.cfg.Topic, Payload: payload, QoS: 1, Retain: true}
}

// answered handles the answer to a message.
func (p *Publisher) answered(m *message, err error) {
	var deferred *session.DeferredError
	switch {
	case errors.Is(err, session.ErrSessionLost), errors.As(err, &deferred):
		p.plan.forgotten(m)
	case err != nil:
		p.plan.refused(p.now(), m)
		p.cfg.Failed(err)
	default:
		p.plan.accepted(m)
	}
	p.wake.Set()
}

// End ends the status messages of the client. If offline is true, it publishes offline as the last
// message. The channel receives whether the server has accepted that message.
func (p *Publisher) End(c Connection, offline bool) <-chan bool {
	accepted := make(chan bool, 1)
	offline = offline && p.cfg.Topic != ""
	var payload []byte
	if offline {
		payload = p.cfg.Format.Payload(presence.Offline, presence.ReasonClose)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan.end()
	if !offline {
		accepted <- false
		return accepted
	}
	err := c.PublishStatus(p.packet(payload), func(_ byte, err error) {
		if err != nil && !errors.Is(err, session.ErrSessionLost) {
			p.cfg.Failed(err)
		}
		accepted <- err == nil
	})
	if err != nil { // for example, the topic is deferred; then the will publishes offline
		accepted <- false
	}
	return accepted
}

// Received handles a message on the status topic. It reports whether this client may have published
// it as an online message. Messages in unknown formats are ignored, because their publisher must
// correct them.
func (p *Publisher) Received(payload []byte) (own bool) {
	s, own, ok := p.cfg.Format.parse(payload)
	if !ok {
		return false
	}
	if p.plan.received(p.now(), s.State, own) {
		p.cfg.Contested(s.Boot)
	}
	p.wake.Set()
	return own && s.State == presence.Online
}

// Subscribed records whether the server accepts the subscription to the topic. It returns true for
// the first of several consecutive refusals.
func (p *Publisher) Subscribed(accepted bool) (report bool) {
	return !p.refused.Swap(!accepted) && !accepted
}
