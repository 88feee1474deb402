package client

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ownTopic is the subscription to our own status topic. It is none of the
// program's: it is made only where none of theirs covers the topic, ended when one
// does, and handlers do not see what it brings. No Local is not asked for, since a
// server may take our will for something that we published. It has an identifier,
// where the server knows such, that tells its copies from those of the program's
// Shared Subscriptions.
type ownTopic struct {
	sub     *subscription // nil: never asked for
	refused uint64        // the connection on which the server refused it
	told    bool          // that it is refused
}

// hearOwn subscribes to our own topic, or ends that, as the program's own
// subscriptions ask for.
func (c *Client) hearOwn(ctx context.Context, up *link.Up) {
	if !c.listens() || !c.announcer.plan.speaks() || ctx.Err() != nil {
		return
	}
	topic := c.cfg.Presence.Status.Topic
	own := &c.announcer.own
	tapped := c.taps.uses(topic)
	c.mu.Lock()
	id := uint32(0)
	if up.Gen.Limits.SubIDAvailable {
		id = ownID
	}
	if own.sub == nil || own.sub.id != id {
		own.sub = &subscription{options: paho.SubscribeOptions{Topic: topic, QoS: 1}, id: id}
	}
	if tapped || c.subs.has(topic) {
		own.sub.session = 0 // the server has one for each filter: it is not ours now
	}
	covered, have := tapped || c.subs.covers(topic), own.sub.session == c.subs.session
	ask := !covered && !have && own.refused != up.Gen.Number
	c.mu.Unlock()
	if !ask && !(covered && have) {
		return
	}
	release, err := c.exchanging(ctx, up)
	if err != nil {
		return
	}
	defer release()
	if !ask {
		_ = c.unsubscribe(ctx, up, topic) // if the server keeps it all the same, messages come twice
		c.mu.Lock()
		own.sub.session = 0
		c.mu.Unlock()
		return
	}
	refused, err := c.subscribe(ctx, up, []*subscription{own.sub}, up.Gen.Present)
	if refused[own.sub] != nil {
		err = refused[own.sub]
	}
	if up.Cause() != nil || ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	tell := err != nil && !own.told
	own.told = err != nil
	if err != nil {
		own.refused = up.Gen.Number
	}
	c.mu.Unlock()
	if tell {
		c.event(StatusFailed{Err: &StatusSubscriptionError{Err: err}})
	}
}

// OwnStatusError says that the server does not let us subscribe to our own status
// topic, so that what others say there is not corrected. It is told once; the next
// connection tries again.
type StatusSubscriptionError struct{ Err error }

func (e *StatusSubscriptionError) Error() string {
	return "client: cannot listen to the own status topic, so a stale offline is corrected at the next connection only; allow subscribing to Status.Topic, or set Status.NoCorrection: " + e.Err.Error()
}

func (e *StatusSubscriptionError) Unwrap() error { return e.Err }

// listens reports whether we listen to our own topic. One that is a shared
// subscription as a filter cannot be listened to.
func (c *Client) listens() bool {
	s := c.cfg.Presence.Status
	return s != nil && !s.NoCorrection && !isShared(s.Topic)
}

// resubscribed says that the program has subscribed, or unsubscribed, or that a tap
// has.
func (c *Client) resubscribed(filter string) {
	if !c.listens() || !wire.Match(filter, c.cfg.Presence.Status.Topic) {
		return
	}
	if filter == c.cfg.Presence.Status.Topic {
		c.mu.Lock()
		if own := c.announcer.own.sub; own != nil {
			own.session = 0
		}
		c.mu.Unlock()
	}
	c.announcer.wake()
}

// heardOwn takes a message on our own status topic. It reports whether that is all:
// the program has not asked for it.
func (c *Client) heardOwn(topic string, payload []byte) bool {
	if !c.listens() || topic != c.cfg.Presence.Status.Topic {
		return false
	}
	return !c.wantsOwn(topic, c.listen(payload))
}

// wantsOwn reports whether a message on our own status topic, which we said
// ourselves or not, may have come for a subscription of the program's.
func (c *Client) wantsOwn(topic string, ourWord bool) bool {
	byOurs := c.taps.own
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.announcer.own.sub
	nobodyKnows := own != nil && own.id == 0
	return slices.ContainsFunc(c.subs.list, func(s *subscription) bool {
		switch o := s.options; {
		case !wire.Match(o.Topic, topic):
			return false
		case isShared(o.Topic):
			return !byOurs // it has a copy of its own
		case o.NoLocal:
			return !ourWord || !byOurs && !nobodyKnows
		}
		return true
	})
}

// uses reports whether a tap has just this filter.
func (ts *taps) uses(filter string) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.find(filter) != nil
}

// listen tells the plan what the topic says now. It reports whether that is a word
// of ours.
func (c *Client) listen(payload []byte) (ourWord bool) {
	s, a := c.cfg.Presence.Status, &c.announcer
	var said presence.Status
	switch {
	case !s.Structured && bytes.Equal(payload, s.Online):
		said.State = presence.Online
	case !s.Structured && bytes.Equal(payload, s.Offline):
		said.State = presence.Offline
	default:
		var err error
		if said, err = presence.Parse(payload); err != nil {
			return false // cleared, or nothing that we know: left to whoever did it
		}
	}
	by := ours
	if s.Structured && said.Boot != a.boot || !s.Structured && !said.Boot.IsZero() {
		by = another
	}
	if a.plan.heard(time.Duration(c.clock.since()), said.State, by) {
		c.event(StatusContested{Boot: said.Boot})
	}
	a.wake()
	return by == ours && said.State == presence.Online
}

// covers reports whether the server's session has a subscription of the program's
// that brings the topic's messages, whoever published them; or is to have one for
// just this filter, of which there can be only one.
func (l *subscriptions) covers(topic string) bool {
	return slices.ContainsFunc(l.list, func(s *subscription) bool {
		return s.options.Topic == topic ||
			s.session == l.session && !s.options.NoLocal && !isShared(s.options.Topic) && wire.Match(s.options.Topic, topic)
	})
}
