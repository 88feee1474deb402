package client

import (
	"context"
	"errors"
	"slices"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// exchanging waits for its turn: SUBSCRIBE and UNSUBSCRIBE go one after the
// other, those that a new connection owes before any other on it.
func (c *Client) exchanging(ctx context.Context, up *link.Up) (release func(), err error) {
	select {
	case c.exchange <- struct{}{}:
		return func() { <-c.exchange }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-up.Failed():
		return nil, ErrNotConnected
	}
}

// catchUp brings the subscriptions of the server's session up to date.
func (c *Client) catchUp(ctx context.Context, up *link.Up) {
	release, err := c.exchanging(ctx, up)
	if err != nil {
		return
	}
	defer release()
	c.endGone(ctx, up)
	c.restore(ctx, up)
	up.Subscribed.Set()
}

// endGone ends the subscriptions that were given up while there was no
// connection, and not made again since.
func (c *Client) endGone(ctx context.Context, up *link.Up) {
	for up.Cause() == nil {
		c.mu.Lock()
		if len(c.subs.gone) == 0 {
			c.mu.Unlock()
			return
		}
		filter := c.subs.gone[0]
		c.mu.Unlock()
		if up.Gen.Present { // else the session never had it
			err := c.unsubscribe(ctx, up, filter)
			if err != nil && up.Cause() != nil {
				return
			}
			if err != nil {
				c.event(SubscriptionFailed{Filter: filter, Err: err})
			}
		}
		c.mu.Lock()
		c.subs.gone = slices.DeleteFunc(c.subs.gone, func(f string) bool { return f == filter })
		c.mu.Unlock()
	}
}

// restore makes all subscriptions that the server's session does not have.
func (c *Client) restore(ctx context.Context, up *link.Up) {
	c.mu.Lock()
	var missing []*subscription
	for _, s := range c.subs.list {
		if s.session != c.subs.session && s.asked != up.Gen.Number {
			missing = append(missing, s)
		}
	}
	c.mu.Unlock()
	for len(missing) > 0 && up.Cause() == nil {
		batch := missing[:fitting(missing, up.Gen.Limits)]
		missing = missing[len(batch):]
		refused, err := c.subscribe(ctx, up, batch, up.Gen.Present)
		for _, s := range batch {
			switch {
			case refused[s] != nil:
				c.event(SubscriptionFailed{Filter: s.options.Topic, Err: refused[s]})
			case err != nil && up.Cause() == nil:
				c.event(SubscriptionFailed{Filter: s.options.Topic, Err: err})
			}
		}
	}
}

// maxFilters is how many filters one SUBSCRIBE carries when they are restored.
const maxFilters = 32

// fitting is how many of the subscriptions go into one SUBSCRIBE: at least one. All
// in it share one Subscription Identifier.
func fitting(list []*subscription, l session.Limits) int {
	n := 1
	for n < min(len(list), maxFilters) && list[n].id == list[0].id && available(list[:n+1], l) == nil {
		n++
	}
	return n
}

// subscribe sends one SUBSCRIBE and returns which of list the server refused.
// The error is for all others. resumed: the session may have them already.
func (c *Client) subscribe(ctx context.Context, up *link.Up, list []*subscription, resumed bool) (refused map[*subscription]error, err error) {
	packet := &paho.Subscribe{}
	refused = map[*subscription]error{}
	var asked []*subscription
	for _, s := range list {
		if err := available([]*subscription{s}, up.Gen.Limits); err != nil {
			refused[s] = err
			continue
		}
		o := s.options
		if resumed && o.RetainHandling == 0 && !c.taps.uses(o.Topic) {
			o.RetainHandling = 1 // from an earlier process: retained messages only if it does not
		}
		packet.Subscriptions = append(packet.Subscriptions, o)
		asked = append(asked, s)
	}
	if len(asked) == 0 {
		return refused, nil
	}
	if id := int(asked[0].id); id > 0 {
		packet.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
	}
	c.mu.Lock()
	number := c.subs.session
	c.mu.Unlock()
	ack, err := up.Subscribe(ctx, packet)
	if ack == nil {
		return refused, unanswered(ctx, up, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range asked {
		if code := ack.Reasons[i]; code < 0x80 {
			s.session = number
		} else {
			refused[s] = &RefusedError{Code: code, Reason: s.options.Topic}
		}
	}
	return refused, nil
}

// unsubscribe sends one UNSUBSCRIBE and waits for its answer.
func (c *Client) unsubscribe(ctx context.Context, up *link.Up, filter string) error {
	size := 2 + 1 + 2 + len(filter)
	size += 1 + wire.VarintLen(uint32(size))
	if limit := up.Gen.Limits.MaximumPacketSize; limit > 0 && size > int(limit) {
		return &RefusedError{Code: wire.ReasonPacketTooLarge, Reason: "UNSUBSCRIBE would be larger than the server's Maximum Packet Size"}
	}
	ack, err := up.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{filter}})
	if ack == nil {
		return unanswered(ctx, up, err)
	}
	if ack.Reasons[0] >= 0x80 {
		return &RefusedError{Code: ack.Reasons[0], Reason: filter}
	}
	return nil
}

// unanswered looks at why a request got no answer. A server that is silent
// while its connection stands is given up: only a new connection says whether
// it has the subscription.
func unanswered(ctx context.Context, up *link.Up, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		up.Fail(ErrAckTimeout)
	}
	return err
}

// available says why this server cannot take a SUBSCRIBE with these filters,
// or nil.
func available(list []*subscription, l session.Limits) error {
	size := 2 + 1
	if id := list[0].id; id > 0 {
		size += 1 + wire.VarintLen(id)
	}
	for _, s := range list {
		filter := s.options.Topic
		size += 2 + len(filter) + 1
		if s.id > 0 && !l.SubIDAvailable {
			return &RefusedError{Code: wire.ReasonSubIDsNotSupported, Reason: filter + "; subscribe without SubscriptionID"}
		}
		_, rest, shared := wire.SplitShare(filter)
		switch {
		case shared && !l.SharedAvailable:
			return &RefusedError{Code: wire.ReasonSharedSubsNotSupported, Reason: filter + "; subscribe without $share, with one client"}
		case hasWildcard(rest) && !l.WildcardAvailable:
			return &RefusedError{Code: wire.ReasonWildcardSubsNotSupported, Reason: filter + "; name each topic by itself"}
		}
	}
	size += 1 + wire.VarintLen(uint32(size))
	if l.MaximumPacketSize > 0 && size > int(l.MaximumPacketSize) {
		return &RefusedError{Code: wire.ReasonPacketTooLarge, Reason: "SUBSCRIBE would be larger than the server's Maximum Packet Size; use shorter filters"}
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
