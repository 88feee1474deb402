package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// SubscribeOption changes a subscription.
type SubscribeOption func(*subscription)

// NoLocal: messages that this client published itself do not come back. A Shared
// Subscription cannot have it [MQTT-3.8.3-4].
func NoLocal() SubscribeOption { return func(s *subscription) { s.options.NoLocal = true } }

// RetainAsPublished keeps the RETAIN flag as the publisher set it. Without it only
// those messages have Retain set that were retained when the subscription was made.
func RetainAsPublished() SubscribeOption {
	return func(s *subscription) { s.options.RetainAsPublished = true }
}

// NoRetained: retained messages are not sent when the subscription is made (Retain
// Handling 2). Without it they are, also where the server has lost the session and the
// subscription is made anew (Retain Handling 0).
func NoRetained() SubscribeOption { return func(s *subscription) { s.options.RetainHandling = 2 } }

// SubscriptionID has the server send id with each message that comes because of this
// subscription: Message.SubscriptionIDs has it, beside those of all others that
// match. It is 1 to 268,435,455, except 200,000,000 to 200,065,535, which are the
// client's own; several subscriptions may have the same. A server without
// Subscription Identifiers refuses it: *RefusedError with 0xA1.
func SubscriptionID(id uint32) SubscribeOption {
	return func(s *subscription) { s.id, s.hasID = id, true }
}

// maxSubscriptionID is the largest Variable Byte Integer.
const maxSubscriptionID = 268_435_455

// subscription is one that the client keeps up: it is made again on every
// connection whose session does not have it.
type subscription struct {
	options paho.SubscribeOptions // never changed
	id      uint32                // Subscription Identifier; never changed
	hasID   bool
	// session is the number of the session at the server, counted by us, that
	// has it; 0: none. Under Client.mu.
	session uint64
	// asked is the connection on which Subscribe asks for it. Under Client.mu.
	asked uint64
}

// subscriptions is under Client.mu.
type subscriptions struct {
	list    []*subscription // in the order they were declared
	gone    []string        // filters to unsubscribe from on the next connection
	session uint64          // counts sessions; a new one has no subscriptions
}

// Handle declares the handler for messages whose topic matches filter, in
// place of an earlier one for the same filter. It does not subscribe; what a
// resumed session delivers, or another subscription covers, finds it. Declare
// handlers before Start, so that the first message has one.
func (c *Client) Handle(filter string, h Handler) error {
	if c == nil {
		return ErrNilClient
	}
	if err := wire.CheckTopicFilter(filter); err != nil {
		return fieldError(err)
	}
	if h == nil {
		return errors.New("client: Handle needs a Handler")
	}
	c.router.set(filter, chain(h, c.cfg.Receiving.Middleware))
	return nil
}

// Subscribe declares the handler and subscribes to filter, with qos as the
// highest at which messages come. While there is no connection it returns at
// once, and the subscription is made when there is one; else it waits for the
// server's answer, which may be a *RefusedError. The subscription is restored
// for as long as the client lives, until Unsubscribe; so also when ctx ends
// before the answer comes, or the connection is lost, it stands and is made
// with the next connection at the latest. One that is refused is not kept.
//
// A handler for the same filter is replaced. $share/NAME/filter is a Shared
// Subscription: one of the clients that have it gets each message. Errors:
// *FieldError, *RefusedError, ErrClosed, ctx's cause.
func (c *Client) Subscribe(ctx context.Context, filter string, qos QoS, h Handler, options ...SubscribeOption) error {
	if c == nil {
		return ErrNilClient
	}
	if qos > ExactlyOnce {
		return &FieldError{Field: "QoS", Problem: fmt.Sprintf("is %d; use 0, 1 or 2", qos)}
	}
	s := &subscription{options: paho.SubscribeOptions{Topic: filter, QoS: byte(qos)}}
	for _, o := range options {
		o(s)
	}
	if s.options.NoLocal && isShared(filter) {
		return &FieldError{Field: "No Local", Problem: "is not allowed on a Shared Subscription [MQTT-3.8.3-4]; remove it"}
	}
	if s.hasID && (s.id == 0 || s.id > maxSubscriptionID || isTapID(s.id)) {
		return &FieldError{Field: "Subscription Identifier", Problem: fmt.Sprintf("is %d; use 1 to 268,435,455, except 200,000,000 to 200,065,535", s.id)}
	}
	if err := c.Handle(filter, h); err != nil {
		return err
	}
	defer c.disturbed(filter)
	defer c.resubscribed(filter)
	if s.options.RetainAsPublished {
		c.retainAsPublished.Store(true)
	}
	c.mu.Lock()
	if c.state >= closing {
		c.mu.Unlock()
		return ErrClosed
	}
	c.subs.remove(filter)
	c.subs.list = append(c.subs.list, s)
	up := c.current()
	if up != nil {
		s.asked = up.Gen.Number
	}
	c.mu.Unlock()
	if up == nil {
		return nil
	}
	var refused map[*subscription]error
	release, err := c.exchanging(ctx, up)
	if err == nil {
		refused, err = c.subscribe(ctx, up, []*subscription{s}, false)
		release()
	}
	switch {
	case refused[s] != nil:
		err = refused[s]
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil || up.Cause() != nil:
		return nil // a connection lost meanwhile is made good by the next one
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs.list = slices.DeleteFunc(c.subs.list, func(other *subscription) bool { return other == s })
	return err
}

// Unsubscribe ends a subscription and its handler. While there is no connection
// it returns at once, and the server is told when there is one; what it sends
// until then finds no handler and is refused. Else it waits for the answer.
func (c *Client) Unsubscribe(ctx context.Context, filter string) error {
	if c == nil {
		return ErrNilClient
	}
	if err := wire.CheckTopicFilter(filter); err != nil {
		return fieldError(err)
	}
	defer c.router.remove(c.router.get(filter)) // not one that is declared meanwhile
	defer c.disturbed(filter)
	defer c.resubscribed(filter)
	c.mu.Lock()
	if c.state >= closing {
		c.mu.Unlock()
		return ErrClosed
	}
	c.subs.remove(filter)
	up := c.current()
	if up == nil {
		c.subs.gone = append(c.subs.gone, filter)
	}
	c.mu.Unlock()
	if up == nil {
		return nil
	}
	release, err := c.exchanging(ctx, up)
	if err == nil {
		err = c.unsubscribe(ctx, up, filter)
		release()
	}
	if err != nil && (ctx.Err() != nil || up.Cause() != nil) {
		c.mu.Lock()
		if !c.subs.has(filter) { // nor subscribed to again meanwhile
			c.subs.remove(filter)
			c.subs.gone = append(c.subs.gone, filter)
		}
		c.mu.Unlock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil // the next connection makes it good
	}
	return err
}

func (l *subscriptions) has(filter string) bool {
	return slices.ContainsFunc(l.list, func(s *subscription) bool { return s.options.Topic == filter })
}

// remove forgets all that was declared or owed for a filter.
func (l *subscriptions) remove(filter string) {
	l.list = slices.DeleteFunc(l.list, func(s *subscription) bool { return s.options.Topic == filter })
	l.gone = slices.DeleteFunc(l.gone, func(f string) bool { return f == filter })
}

// newServerSession records that the server has none of the subscriptions.
func (c *Client) newServerSession() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs.session++
}
