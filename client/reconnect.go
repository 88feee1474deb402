package client

import (
	"errors"
	"net/url"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// TakeoverPolicy says what to do when another connection with our ClientID
// takes the session over (DISCONNECT 0x8E). Two clients that both come back at
// once throw each other out for ever.
type TakeoverPolicy uint8

const (
	// TakeoverBackOff comes back after half of Backoff.Max to all of it, and asks
	// for a new session: the other has used the old one.
	TakeoverBackOff TakeoverPolicy = iota
	// TakeoverStop ends the client; Err says why. What is accepted stays in the
	// store.
	TakeoverStop
)

// maxRedirects is how many servers in a row may send us on before we wait and
// begin again with Config.Servers: two that name each other would never end.
const maxRedirects = 5

// action says what the end of a connection, or of an attempt, asks for.
func (c *Client) action(err error) reliability.Action {
	var refused *link.ConnackError
	var ended *link.DisconnectError
	var differs *SessionError
	switch {
	case errors.As(err, &differs):
		return reliability.Stop
	case c.refreshable(err):
		return reliability.Retrying
	case errors.As(err, &refused):
		return reliability.OnConnack(refused.Reason)
	case errors.As(err, &ended):
		action := reliability.OnDisconnect(ended.Reason)
		if action == reliability.GiveWay && (c.cfg.Session.OnTakeover == TakeoverStop || c.cfg.Session.Mode == StrictSession) {
			return reliability.Stop
		}
		return action
	}
	return reliability.Retrying
}

// verdict is what the last decision was, in the words of events. It belongs to the
// link's goroutine.
type verdict struct {
	action     reliability.Action
	redirected *Redirected // told behind the end that it follows from
}

// take returns the verdict and forgets it: where none was asked for, the client is
// ending.
func (v *verdict) take() verdict {
	last := *v
	*v = verdict{}
	if last.action == 0 {
		last.action = reliability.Stop
	}
	return last
}

// decide is asked after each attempt that failed and each connection that ended.
func (c *Client) decide(end link.End) link.Decision {
	action := c.action(end.Err)
	if c.saidBye.Load() {
		action = reliability.Stop // what ended may be told before the link is stopped
	}
	c.verdict = verdict{action: action}
	if action != reliability.Stop && errors.Is(end.Err, ErrUnknownSession) {
		return link.Decision{} // at once, for a new session
	}
	if refusedByUs(end.Err) {
		c.retry.Fault()
	}
	c.retry.Down()
	if c.retry.Attempts() == 0 {
		c.hops = 0 // the last connection was stable
	}
	if action != reliability.Follow {
		c.hops = 0 // in a row
	}
	switch action {
	case reliability.Stop:
		return link.Decision{Stop: true}
	case reliability.RetryLater, reliability.GiveWay:
		return link.Decision{Delay: c.retry.Later()}
	case reliability.Follow:
		if to, permanent := c.redirect(end); to != nil {
			c.hops++
			c.verdict.redirected = &Redirected{From: end.Server.Redacted(), To: to.Redacted(), Permanent: permanent}
			return link.Decision{Delay: c.retry.Next(), Server: to, Permanent: permanent}
		}
		c.hops, c.verdict.action = 0, reliability.Retrying // begin again with Servers
	}
	return link.Decision{Delay: c.retry.Next()}
}

// redirect is where the server sends us; nil: nowhere that we would go.
func (c *Client) redirect(end link.End) (to *url.URL, permanent bool) {
	var reason byte
	var reference string
	var refused *link.ConnackError
	var ended *link.DisconnectError
	switch {
	case errors.As(end.Err, &refused):
		reason, reference = refused.Reason, refused.ServerReference
	case errors.As(end.Err, &ended):
		reason, reference = ended.Reason, ended.ServerReference
	}
	if c.cfg.Connection.IgnoreRedirects || c.hops >= maxRedirects {
		return nil, false
	}
	for _, u := range link.References(reference, end.Server) {
		if u.String() != end.Server.String() {
			return u, reason == wire.ReasonServerMoved && !end.Detour
		}
	}
	return nil, false
}

// NetworkChanged says that the network is back, or is another one. A client that
// waits for its next attempt makes it now, and the delays start over. One that is
// connected asks the server for a sign of life, and expects it within half the keep
// alive, and 5 seconds at most: a connection that went with the old network is given
// up then, with ErrKeepAlive, and not when KeepAlive or AckTimeout would find it.
// Where the keep alive is 0 nothing is asked. Calls within a second of each other
// count as one. It never blocks.
func (c *Client) NetworkChanged() {
	if c == nil {
		return
	}
	if up := c.current(); up != nil && up.Cause() == nil {
		up.Probe()
		return
	}
	c.retry.Reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up != nil && c.up.Cause() == nil {
		return // it has come up in this moment
	}
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}
