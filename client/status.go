package client

import (
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/status"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// BootID returns an ID of this Client that no other client has, not even one of an earlier process
// with the same ClientID. With Status.Structured, each status message contains the ID.
func (c *Client) BootID() presence.BootID {
	if c == nil {
		return presence.BootID{}
	}
	return c.status.BootID()
}

// newStatus returns the publisher of the client's status, and subscribes to the status topic.
func (c *Client) newStatus() *status.Publisher {
	conf := status.Config{
		Format:    status.Format{Boot: presence.BootID(NewMessageID())},
		Failed:    c.statusFailed,
		Contested: c.statusContested,
	}
	s := c.cfg.Presence.Status
	if s != nil {
		conf.Topic, conf.Format = s.Topic, s.format
		if s.Details != nil {
			conf.Format.Details = func() presence.Details { return detailsOf(c) }
		}
	}
	if s.corrects() {
		// No Local is not set, because a server may treat the will as published by the client.
		c.subs.Set(subs.Status, subs.Want{Filter: s.Topic, QoS: 1, ID: subs.StatusID})
	}
	return status.New(conf)
}

// detailsOf returns the application's details for a status message.
func detailsOf(c *Client) presence.Details {
	var texts map[string]string
	c.panicked("Status.Details", c.guard.Call(func() { texts = c.cfg.Presence.Status.Details() }))
	d, err := presence.NewDetails(texts)
	if err != nil {
		c.statusFailed(err)
	}
	return d
}

// statusReceived passes a message on the status topic to the status publisher. It returns true if
// no handler gets the message.
func (c *Client) statusReceived(m *Message, from origin) (only bool) {
	s := c.cfg.Presence.Status
	if !s.corrects() || m.Topic != s.Topic {
		return false
	}
	own := c.status.Received(m.Payload)
	return !from.identified() && !c.subs.Delivers(m.Topic, own)
}

// statusConnection publishes status messages on a connection.
type statusConnection struct{ *link.Up }

func (up statusConnection) PublishStatus(p *wire.Publish, answered func(code byte, err error)) error {
	if reason := up.Gen.Limits.Check(p.Size(), p.QoS, p.Retain); reason != 0 {
		return limitError(reason)
	}
	err := up.Gen.PublishUnstored(wire.AppendPublish(nil, p), func(code byte, text string, err error) {
		if err == nil && code >= 0x80 {
			err = &RefusedError{Code: code, Reason: text, about: "status message"}
		}
		answered(code, err)
	})
	var deferred *session.DeferredError
	if errors.As(err, &deferred) || errors.Is(err, session.ErrNotConnected) || errors.Is(err, session.ErrWindowFull) || errors.Is(err, session.ErrIDsInUse) {
		return err
	}
	return nil // after an error of the connection, the message counts as sent
}

// endStatus publishes "offline", unless the will does so, and waits for the acknowledgement. It
// reports whether the server accepted the message. Afterwards, the client publishes no further
// status message.
func (c *Client) endStatus(up *link.Up, offline bool) (accepted bool) {
	var answer <-chan bool
	c.within(up, func() { // publishing online may block while the peer does not read
		answer = c.status.End(statusConnection{up}, offline && !c.cfg.Presence.Status.LeaveToWill)
	})
	select {
	case accepted = <-answer:
	case <-up.Failed():
	case <-time.After(c.life.timeLeft()):
	}
	return accepted
}
