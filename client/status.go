package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// announcer says online and offline, and keeps them in order: behind offline no
// online may follow, from a connection that came up in the same moment, from a
// heartbeat, or as a correction. Its lock is held while a status is written.
type announcer struct {
	boot    presence.BootID
	plan    *statusPlan
	poke    chan struct{} // the plan, or who is subscribed to the topic, has changed
	unheard atomic.Bool   // the server refuses the subscription to the topic

	mu   sync.Mutex
	left bool // nothing is said any more; offline, if it was said, is the last word
}

func (a *announcer) init(cfg *Config) {
	a.boot = presence.BootID(NewMessageID())
	a.poke = make(chan struct{}, 1)
	s := cfg.Presence.Status
	if s == nil {
		a.plan = newStatusPlan(0)
		return
	}
	a.plan = newStatusPlan(s.Heartbeat)
	if s.Structured {
		cfg.Presence.Will.Payload = s.payload(a.boot, presence.Offline, presence.ReasonWill)
	}
}

func (a *announcer) wake() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// BootID tells this client from every other, and from one with the same ClientID
// in an earlier process. It is in each payload of Status.Structured.
func (c *Client) BootID() presence.BootID {
	if c == nil {
		return presence.BootID{}
	}
	return c.announcer.boot
}

// announce publishes the birth, retained: after every CONNACK, since the
// server may have published the will meanwhile.
func (c *Client) announce(up *link.Up) {
	if c.cfg.Presence.Status != nil {
		c.announcer.plan.connection()
		c.say(up, presence.ReasonBirth)
	}
}

// keepStatus says what else is to be said while the connection stands: heartbeats,
// corrections, and again what the server had no room for.
func (c *Client) keepStatus(ctx context.Context, up *link.Up) {
	if c.cfg.Presence.Status == nil {
		return
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c.listen()
		reason, wait := c.announcer.plan.next(time.Duration(c.clock.since()))
		if ctx.Err() != nil {
			return
		}
		if reason != "" {
			c.say(up, reason)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.announcer.poke:
		}
	}
}

// say publishes online.
func (c *Client) say(up *link.Up, reason string) {
	a := &c.announcer
	a.mu.Lock()
	if a.left {
		a.mu.Unlock()
		return
	}
	now := time.Duration(c.clock.since())
	w := a.plan.say(now, reason, func() []byte { return c.word(presence.Online, reason) })
	err := c.publishStatus(up, w.payload, func(code byte, err error) { c.answered(w, code, err) })
	a.mu.Unlock()
	if err == nil {
		return
	}
	if up.Cause() != nil { // the next connection has a birth of its own
		if errors.Is(err, session.ErrNotConnected) || errors.Is(err, session.ErrWindowFull) || errors.Is(err, session.ErrIDsInUse) {
			a.plan.forgotten(w) // it was not sent, so nobody will answer
		}
		return
	}
	room := errors.Is(err, session.ErrWindowFull) || errors.Is(err, session.ErrIDsInUse)
	if a.plan.unsent(now, w, room) {
		c.event(StatusFailed{Err: err})
	}
}

// answered takes the answer to a word.
func (c *Client) answered(w *saidWord, code byte, err error) {
	a := &c.announcer
	switch {
	case errors.Is(err, session.ErrSessionLost):
		a.plan.forgotten(w)
	case err != nil:
		a.plan.refused(time.Duration(c.clock.since()), w, reliability.Classify(code).Retryable())
	default:
		a.plan.taken(w)
	}
	a.wake()
}

// word is the payload that says so.
func (c *Client) word(state presence.State, reason string) []byte {
	s := c.cfg.Presence.Status
	switch {
	case s.Structured:
		return s.payload(c.announcer.boot, state, reason)
	case state == presence.Online:
		return s.Online
	}
	return s.Offline
}

// sayGoodbye publishes offline and waits for its acknowledgement. It reports
// whether the server has it. Where the will is to speak it only sees to it that
// nothing else is said any more.
func (c *Client) sayGoodbye(up *link.Up, ourselves bool) bool {
	answer := make(chan bool, 1)
	var err error
	c.within(up, func() { // a birth may be held up by a peer that takes nothing
		a := &c.announcer
		a.mu.Lock()
		defer a.mu.Unlock()
		a.left = true
		a.plan.leave()
		if c.cfg.Presence.Status.LeaveToWill || !ourselves {
			answer <- false
			return
		}
		err = c.publishStatus(up, c.word(presence.Offline, presence.ReasonClose), func(_ byte, err error) { answer <- err == nil })
	})
	if err != nil {
		return false
	}
	timer := time.NewTimer(c.life.timeLeft())
	defer timer.Stop()
	select {
	case accepted := <-answer:
		return accepted
	case <-up.Failed():
	case <-timer.C:
	}
	return false
}

// publishStatus sends a retained QoS 1 message; answered is called once, unless
// the client ends first, or the same message is sent again meanwhile.
func (c *Client) publishStatus(up *link.Up, payload []byte, answered func(code byte, err error)) error {
	p := wire.Publish{Topic: c.cfg.Presence.Status.Topic, Payload: payload, QoS: 1, Retain: true}
	if reason := up.Gen.Limits.Check(p.Size(), p.QoS, p.Retain); reason != 0 {
		return limitError(reason)
	}
	return up.Gen.PublishUnstored(wire.AppendPublish(nil, &p), func(code byte, err error) {
		if err == nil && code >= 0x80 {
			err = &RefusedError{Code: code, Reason: "status message"}
		}
		if err != nil && !errors.Is(err, session.ErrSessionLost) { // that one is followed by a birth
			c.event(StatusFailed{Err: err})
		}
		answered(code, err)
	})
}
