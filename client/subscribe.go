package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// SubscribeOption changes a subscription.
type SubscribeOption func(*subscription)

// NoLocal: messages that this client published itself do not come back.
func NoLocal() SubscribeOption { return func(s *subscription) { s.options.NoLocal = true } }

// RetainAsPublished keeps the RETAIN flag as the publisher set it.
func RetainAsPublished() SubscribeOption {
	return func(s *subscription) { s.options.RetainAsPublished = true }
}

// NoRetained: retained messages are not sent when the subscription is made.
func NoRetained() SubscribeOption { return func(s *subscription) { s.options.RetainHandling = 2 } }

// subscription is one that the client keeps up: it is made again on every
// connection whose session does not have it.
type subscription struct {
	options paho.SubscribeOptions
	// session is the number of the session at the server, counted by us, that
	// has it; 0: none.
	session uint64
}

type subscriptions struct {
	list    []*subscription // in the order they were declared
	session uint64          // counts sessions; a new one has no subscriptions
}

// maxFilters is how many filters one SUBSCRIBE carries when they are restored.
const maxFilters = 32

// Handle declares the handler for messages whose topic matches filter, in
// place of an earlier one for the same filter. It does not subscribe; what a
// resumed session delivers, or another subscription covers, finds it. Declare
// handlers before Start, so that the first message has one.
func (c *Client) Handle(filter string, h Handler) error {
	if err := wire.CheckTopicFilter(filter); err != nil {
		return err
	}
	if h == nil {
		return errors.New("client: Handle needs a Handler")
	}
	c.router.set(filter, chain(h, c.cfg.Middleware))
	return nil
}

// Subscribe declares the handler and subscribes to filter, with qos as the
// highest at which messages come. While there is no connection it returns at
// once, and the subscription is made when there is one; else it waits for the
// server's answer, which may be a *RefusedError. The subscription is restored
// for as long as the client lives, until Unsubscribe.
func (c *Client) Subscribe(ctx context.Context, filter string, qos QoS, h Handler, options ...SubscribeOption) error {
	if qos > ExactlyOnce {
		return &wire.FieldError{Field: "QoS", Problem: fmt.Sprintf("is %d; use 0, 1 or 2", qos)}
	}
	if err := c.Handle(filter, h); err != nil {
		return err
	}
	s := &subscription{options: paho.SubscribeOptions{Topic: filter, QoS: byte(qos)}}
	for _, o := range options {
		o(s)
	}
	if s.options.NoLocal && isShared(filter) {
		return &wire.FieldError{Field: "No Local", Problem: "is not allowed on a Shared Subscription [MQTT-3.8.3-4]; remove it"}
	}
	c.mu.Lock()
	if c.state >= closing {
		c.mu.Unlock()
		return ErrClosed
	}
	c.removeLocked(filter)
	c.subs.list = append(c.subs.list, s)
	up := c.up
	c.mu.Unlock()
	if up == nil {
		return nil
	}
	err := c.subscribe(ctx, up, []*subscription{s})
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		c.mu.Lock()
		c.removeLocked(filter)
		c.mu.Unlock()
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil // a connection lost meanwhile is made good by the next one
}

// Unsubscribe ends a subscription and its handler.
func (c *Client) Unsubscribe(ctx context.Context, filter string) error {
	c.mu.Lock()
	c.removeLocked(filter)
	up := c.up
	c.mu.Unlock()
	defer c.router.remove(filter)
	if up == nil {
		// A resumed session would still have it; what comes finds no handler.
		return ErrNotConnected
	}
	_, err := up.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{filter}})
	return err
}

func (c *Client) removeLocked(filter string) {
	for i, s := range c.subs.list {
		if s.options.Topic == filter {
			c.subs.list = append(c.subs.list[:i], c.subs.list[i+1:]...)
			return
		}
	}
}

// subscribe sends one SUBSCRIBE. The error is that of the first refusal.
func (c *Client) subscribe(ctx context.Context, up *link.Up, list []*subscription) error {
	packet := &paho.Subscribe{}
	for _, s := range list {
		if err := available(s.options.Topic, up.Gen.Limits); err != nil {
			return err
		}
		packet.Subscriptions = append(packet.Subscriptions, s.options)
	}
	c.mu.Lock()
	number := c.subs.session
	c.mu.Unlock()
	ack, err := up.Subscribe(ctx, packet)
	if ack == nil {
		return err
	}
	if len(ack.Reasons) != len(list) {
		up.Fail(&wire.Error{Code: wire.ReasonProtocolError, Packet: wire.SUBACK,
			Detail: "it has not one reason code for each filter [MQTT-3.8.4-6]"})
		return ErrNotConnected
	}
	err = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range list {
		if code := ack.Reasons[i]; code < 0x80 {
			s.session = number
		} else if err == nil {
			err = &RefusedError{Code: code, Reason: s.options.Topic}
		}
	}
	return err
}

// restore makes all subscriptions that the server's session does not have.
func (c *Client) restore(ctx context.Context, up *link.Up) {
	c.mu.Lock()
	if !up.Gen.Present || c.subs.session == 0 {
		c.subs.session++
	}
	var missing []*subscription
	for _, s := range c.subs.list {
		if s.session != c.subs.session {
			missing = append(missing, s)
		}
	}
	c.mu.Unlock()
	for len(missing) > 0 && up.Cause() == nil {
		n := min(len(missing), maxFilters)
		if up.Gen.Present {
			// The session may have it from an earlier process: retained
			// messages only if it does not.
			for _, s := range missing[:n] {
				if s.options.RetainHandling == 0 {
					s.options.RetainHandling = 1
				}
			}
		}
		err := c.subscribe(ctx, up, missing[:n])
		var refused *RefusedError
		switch {
		case errors.As(err, &refused) && n > 1:
			// One by one, to tell good from bad.
			for _, s := range missing[:n] {
				if err := c.subscribe(ctx, up, []*subscription{s}); errors.As(err, &refused) {
					c.event(SubscriptionFailed{Filter: s.options.Topic, Err: err})
				}
			}
		case err != nil && up.Cause() == nil:
			c.event(SubscriptionFailed{Filter: missing[0].options.Topic, Err: err})
		}
		missing = missing[n:]
	}
}

// available says why this server cannot take the filter, or nil.
func available(filter string, l session.Limits) error {
	_, rest, shared := wire.SplitShare(filter)
	switch {
	case shared && !l.SharedAvailable:
		return &RefusedError{Code: wire.ReasonSharedSubsNotSupported, Reason: filter}
	case hasWildcard(rest) && !l.WildcardAvailable:
		return &RefusedError{Code: wire.ReasonWildcardSubsNotSupported, Reason: filter}
	}
	return nil
}

func isShared(filter string) bool {
	_, _, shared := wire.SplitShare(filter)
	return shared
}

func hasWildcard(filter string) bool {
	for i := range len(filter) {
		if filter[i] == '+' || filter[i] == '#' {
			return true
		}
	}
	return false
}
