package client

import (
	"bytes"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// listen has the table subscribe to this client's own status topic, if it corrects
// its status and has one on this connection. No Local is not set, since a server may
// take the client's will for something that the client published.
func (c *Client) listen() {
	if c.listens() && c.announcer.plan.speaks() {
		c.subs.Set(subs.Status, subs.Want{Filter: c.cfg.Presence.Status.Topic, QoS: 1, ID: subs.StatusID})
	}
}

// ownStatusResult takes the server's answer to that.
func (c *Client) ownStatusResult(err error) {
	if before := c.announcer.unheard.Swap(err != nil); err != nil && !before {
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

// heardOwn takes a message on our own status topic. It reports whether that is all:
// the program has not asked for it.
func (c *Client) heardOwn(p *wire.Publish, byStatus bool) bool {
	if !c.listens() || p.Topic != c.cfg.Presence.Status.Topic {
		return false
	}
	return !c.subs.Delivers(p.Topic, c.heard(p.Payload), byStatus)
}

// heard tells the plan what the topic says now. It reports whether that is a word
// of ours.
func (c *Client) heard(payload []byte) (ourWord bool) {
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
