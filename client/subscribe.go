package client

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Handle declares the handler for messages whose topic matches filter. The new handler replaces an
// earlier handler for the same filter. Handle does not subscribe. The handler receives messages
// that the server sends for a resumed session or for another subscription. Declare handlers before
// Start, so that the first message finds its handler.
func (c *Client) Handle(filter string, h Handler) error {
	if c == nil {
		return ErrNilClient
	}
	if err := wire.CheckTopicFilter(filter); err != nil {
		return fieldError(err)
	}
	h, err := c.wrap(h)
	if err == nil {
		c.router.set(filter, h)
		c.inbox.Declared()
		c.checkShared(filter)
	}
	return err
}

// HandleUnmatched declares the handler for messages whose topic matches no other handler's filter.
// The new handler replaces an earlier handler for such messages. Without one, these messages wait
// for a handler and are then set aside, see ReceivingConfig.UnhandledGrace.
func (c *Client) HandleUnmatched(h Handler) error {
	if c == nil {
		return ErrNilClient
	}
	h, err := c.wrap(h)
	if err == nil {
		c.router.setUnmatched(h)
		c.inbox.Declared()
	}
	return err
}

// wrap checks a handler and applies the middleware, the last one first.
func (c *Client) wrap(h Handler) (Handler, error) {
	if h == nil {
		return nil, errors.New("client: the Handler is nil; pass a Handler or a HandlerFunc")
	}
	for _, wrap := range slices.Backward(c.cfg.Receiving.Middleware) {
		if err := c.functions().call("Middleware", func() { h = wrap(h) }); err != nil {
			return nil, err
		}
		if h == nil {
			return nil, errors.New("client: a Middleware returned a nil Handler; return the next Handler, or one that calls it")
		}
	}
	return h, nil
}

// Subscribe declares the handler, subscribes to filter and returns the state of the subscription.
// qos is the highest QoS at which the server may send messages.
//
// Without a connection, Subscribe returns at once with the state SubscriptionPending. The client
// sends SUBSCRIBE on the next connection. Subscription.Wait then waits for the server's answer. With a connection, Subscribe waits for the SUBACK. If the
// server refuses the subscription, Subscribe returns the refusal, and the client does not keep the
// subscription. The client restores all other subscriptions on each connection until Unsubscribe is
// called. The client restores a subscription even if ctx ended or the connection was lost before
// the SUBACK.
//
// If the server refuses a subscription that the client keeps, SubscriptionFailed is reported. The
// client requests the subscription again on the same connection, after PublishingConfig.RetryBackoff,
// until the server grants it (SubscriptionGranted). Codes about the request itself (0x8F, 0x95,
// 0x9E, 0xA1 and 0xA2) cannot change on this connection. After these, the client tries again on the
// next connection.
//
// Subscribe replaces an earlier handler for the same filter. A filter of the form
// $share/NAME/filter makes a Shared Subscription. The server sends each message of a Shared
// Subscription to only one of the clients that share it. If several filters match a message, each
// handler receives it once, provided that the server supports Subscription Identifiers.
//
// Errors: *FieldError; *RefusedError after a refusal; *ProtocolError after an invalid SUBACK;
// ErrClosed; and the cause of ctx.
func (c *Client) Subscribe(ctx context.Context, filter string, qos QoS, h Handler, options ...SubscribeOption) (Subscription, error) {
	list, err := c.SubscribeAll(ctx, []SubscribeRequest{{filter, qos, h, options}})
	if all := (*SubscribeError)(nil); errors.As(err, &all) {
		err = all.Failed[0].Err
	}
	if len(list) == 0 {
		return Subscription{Filter: filter, QoS: qos}, err
	}
	return list[0], err
}

// SubscribeAll subscribes to many filters at once, like Subscribe. SubscribeAll sends all requests
// together and waits for all answers. It returns the states in the order of list. If the server
// refuses some subscriptions, the client keeps the others, and the error is a *SubscribeError. If a
// request is invalid, SubscribeAll changes nothing.
func (c *Client) SubscribeAll(ctx context.Context, list []SubscribeRequest) ([]Subscription, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	wants, handlers := make([]*subs.Want, len(list)), make([]Handler, len(list))
	for i, r := range list {
		w, err := r.want()
		if err == nil {
			handlers[i], err = c.wrap(r.Handler)
		}
		if err != nil {
			return nil, err
		}
		wants[i] = w
	}
	if c.life.ending.Err() != nil {
		return nil, ErrClosed
	}
	all := make([]subs.Want, len(list))
	for i, w := range wants {
		c.router.subscribe(w, handlers[i])
		c.checkShared(w.Filter)
		all[i] = *w
	}
	c.inbox.Declared()
	result := make([]Subscription, len(list))
	var failed SubscribeError
	var err error
	for i, request := range c.subs.Subscribe(all...) {
		refused := request.Wait(ctx)
		if errors.As(refused, new(*subs.RefusedError)) {
			c.router.refused(wants[i])
		}
		r := &result[i]
		*r = Subscription{Filter: list[i].Filter, QoS: list[i].QoS, table: c.subs}
		if a, ok := c.subs.Answer(r.Filter); ok {
			*r = subscription(a, c.subs)
		}
		if refused = refusedError(refused); refused == nil {
			continue
		}
		if ctx.Err() != nil && refused == context.Cause(ctx) { // the other subscriptions are kept, but not waited for
			err = cmp.Or(err, refused)
			continue
		}
		if r.Err = refused; errors.As(refused, new(*RefusedError)) {
			r.State = SubscriptionRefused
		}
		failed.Failed = append(failed.Failed, *r)
	}
	if failed.All = len(list); len(failed.Failed) > 0 {
		err = &failed
	}
	return result, err
}

// Subscriptions returns the application's subscriptions, ordered by their latest declaration.
func (c *Client) Subscriptions() (list []Subscription) {
	if c == nil {
		return nil
	}
	for _, a := range c.subs.List() {
		list = append(list, subscription(a, c.subs))
	}
	return list
}

// Unsubscribe ends a subscription and removes its handler. The UNSUBSCRIBE contains the user
// properties in user.
//
// Without a connection, Unsubscribe returns at once, and the client sends UNSUBSCRIBE on the next
// connection. Messages that the server sends until then have no handler, see
// ReceivingConfig.UnhandledGrace. With a connection, Unsubscribe waits for the UNSUBACK.
//
// Errors: *FieldError, *RefusedError, *ProtocolError, ErrClosed, and the cause of ctx.
func (c *Client) Unsubscribe(ctx context.Context, filter string, user ...UserProperty) error {
	if c == nil {
		return ErrNilClient
	}
	if err := cmp.Or(wire.CheckTopicFilter(filter), checkUser(user)); err != nil {
		return fieldError(err)
	}
	defer c.router.remove(c.router.get(filter)) // but not a handler that is declared in the meantime
	if c.life.ending.Err() != nil {
		return ErrClosed
	}
	return refusedError(c.subs.Unsubscribe(subs.Want{Filter: filter, User: slices.Clone(user)}).Wait(ctx))
}
