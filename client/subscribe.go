package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// SubscribeOption changes a subscription.
type SubscribeOption func(*subscription)

// NoLocal suppresses messages that this client published itself. A Shared
// Subscription cannot have it [MQTT-3.8.3-4].
func NoLocal() SubscribeOption { return func(s *subscription) { s.NoLocal = true } }

// RetainAsPublished keeps the RETAIN flag as the publisher set it. Without it only
// messages that were retained when the subscription was made have Retain set.
func RetainAsPublished() SubscribeOption {
	return func(s *subscription) { s.Want.RetainAsPublished = true }
}

// NoRetained requests no retained messages (Retain Handling 2). Without it the server
// sends them when the subscription is made, also when it is made again because the
// server has lost the session (Retain Handling 0).
func NoRetained() SubscribeOption { return func(s *subscription) { s.RetainHandling = 2 } }

// SubscriptionID has the server send id with each message of this subscription, see
// Message.SubscriptionIDs. It is 1 to 268,435,455, except 200,000,000 to 200,065,535,
// which the client uses itself. Several subscriptions may have the same. A server
// without Subscription Identifiers refuses it: *RefusedError with 0xA1.
func SubscriptionID(id uint32) SubscribeOption {
	return func(s *subscription) { s.ID, s.hasID = id, true }
}

// subscription is what SubscribeOptions change.
type subscription struct {
	subs.Want
	hasID bool
}

// Handle declares the handler for messages whose topic matches filter. It replaces an earlier
// handler for the same filter, and does not subscribe: the handler gets what a resumed session or
// another subscription delivers. Declare handlers before Start, so that the first message has one.
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
	for _, wrap := range slices.Backward(c.cfg.Receiving.Middleware) { // the first one sees a message first
		h = wrap(h)
	}
	c.router.set(filter, h)
	c.checkShared(filter)
	return nil
}

// Subscribe declares the handler and subscribes to filter; qos is the highest QoS at
// which messages come. Without a connection it returns at once, and the subscription
// is made with the next connection. Otherwise it waits for the server's answer, which
// may be a *RefusedError. A refused subscription is not kept. Any other is restored
// until Unsubscribe, also if ctx ends before the answer or the connection is lost.
//
// A handler for the same filter is replaced. $share/NAME/filter is a Shared Subscription: one of
// its clients gets each message. Errors: *FieldError, *RefusedError, ErrClosed, ctx's cause.
func (c *Client) Subscribe(ctx context.Context, filter string, qos QoS, h Handler, options ...SubscribeOption) error {
	if qos > ExactlyOnce {
		return &FieldError{Field: "QoS", Problem: fmt.Sprintf("is %d; use 0, 1 or 2", qos)}
	}
	s := subscription{Want: subs.Want{Filter: filter, QoS: byte(qos)}}
	for _, o := range options {
		o(&s)
	}
	if s.NoLocal && isShared(filter) {
		return &FieldError{Field: "No Local", Problem: "is not allowed on a Shared Subscription [MQTT-3.8.3-4]; remove it"}
	}
	if s.hasID && (s.ID == 0 || s.ID > 268_435_455 || subs.Internal(s.ID)) {
		return &FieldError{Field: "Subscription Identifier", Problem: fmt.Sprintf("is %d; use 1 to 268,435,455, except 200,000,000 to 200,065,535", s.ID)}
	}
	if err := c.Handle(filter, h); err != nil {
		return err
	}
	if c.life.ending.Err() != nil {
		return ErrClosed
	}
	return refusedError(c.subs.Subscribe(s.Want).Wait(ctx))
}

// Unsubscribe ends a subscription and removes its handler. Without a connection it
// returns at once, and the server is told with the next connection; messages that it
// sends until then find no handler and are refused. Otherwise it waits for the answer.
func (c *Client) Unsubscribe(ctx context.Context, filter string) error {
	if c == nil {
		return ErrNilClient
	}
	if err := wire.CheckTopicFilter(filter); err != nil {
		return fieldError(err)
	}
	defer c.router.remove(c.router.get(filter)) // not one that is declared meanwhile
	if c.life.ending.Err() != nil {
		return ErrClosed
	}
	return refusedError(c.subs.Unsubscribe(filter).Wait(ctx))
}
