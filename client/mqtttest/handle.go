package mqtttest

import (
	"math"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// handle processes one packet of a connected client. If it returns a *wire.Error, the broker must
// send DISCONNECT with the reason code of the error.
func (c *conn) handle(f wire.Frame) error {
	switch t := f.Type(); t {
	case wire.PUBLISH:
		return c.onPublish(f)
	case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
		a, err := wire.ParseAck(f)
		if err != nil {
			return err
		}
		return c.do(func(s *session) error { return c.onAck(s, a) })
	case wire.SUBSCRIBE:
		return c.onSubscribe(f)
	case wire.UNSUBSCRIBE:
		return c.onUnsubscribe(f)
	case wire.PINGREQ:
		if err := control.ParsePing(f); err != nil {
			return err
		}
		return c.do(func(*session) error {
			c.out = control.AppendPingresp(c.out)
			return nil
		})
	case wire.DISCONNECT:
		return c.onDisconnect(f)
	default:
		if err := wire.CheckHeader(f.Header); err != nil {
			return err
		}
		return refusal(t, wire.ReasonProtocolError, "a client must not send this packet here")
	}
}

// onAck processes the four acknowledgement packets. The client sends PUBREL for its own messages.
// It sends PUBACK, PUBREC and PUBCOMP for messages from the broker.
func (c *conn) onAck(s *session, a wire.Ack) error {
	if a.Type == wire.PUBREL {
		return c.onPubrel(s, a.PacketID)
	}
	f := s.flights.byID[a.PacketID]
	switch {
	case f == nil && a.Type == wire.PUBREC && a.Reason < 0x80:
		c.out = wire.AppendAck(c.out, wire.Ack{Type: wire.PUBREL, PacketID: a.PacketID, Reason: wire.ReasonPacketIDNotFound})
		return nil
	case f == nil:
		return nil // the exchange ended before the session was resumed
	case (a.Type == wire.PUBACK) != (f.qos == 1), a.Type == wire.PUBCOMP && !f.released:
		return refusal(a.Type, wire.ReasonProtocolError, "packet identifier %d awaits another acknowledgement", a.PacketID)
	case a.Type == wire.PUBREC && a.Reason < 0x80:
		c.onPubrec(s, f)
		return nil
	}
	s.complete(f)
	return nil
}

func (c *conn) onPubrec(s *session, f *flight) {
	if !f.released {
		f.released = true
		if s.durable(&f.entry) {
			c.b.log.pubrec(s, f.id)
		}
	}
	c.out = wire.AppendAck(c.out, wire.Ack{Type: wire.PUBREL, PacketID: f.id})
}

func (c *conn) onSubscribe(f wire.Frame) error {
	p, err := control.ParseSubscribe(f)
	if err != nil {
		return err
	}
	o := &c.b.opts
	if p.SubscriptionID != 0 && o.DisableSubID {
		return refusal(wire.SUBSCRIBE, wire.ReasonSubIDsNotSupported, "subscription identifiers are not supported")
	}
	reasons := make([]byte, len(p.Subscriptions))
	atMost := make([]byte, len(p.Subscriptions))
	for i, sub := range p.Subscriptions {
		atMost[i] = min(sub.QoS, o.maxQoS())
		_, filter, shared := wire.SplitShare(sub.Filter)
		switch {
		case wire.CheckTopicFilter(sub.Filter) != nil:
			reasons[i] = reasonTopicFilterInvalid
		case shared && o.DisableShared:
			return refusal(wire.SUBSCRIBE, wire.ReasonSharedSubsNotSupported, "shared subscriptions are not supported")
		case wildcard(filter) && o.DisableWildcard:
			return refusal(wire.SUBSCRIBE, wire.ReasonWildcardSubsNotSupported, "wildcards are not supported")
		default:
			switch reason := c.authorize(sub.Filter, false); {
			case reason >= 0x80:
				reasons[i] = reason
			case reason == 1 || reason == 2:
				atMost[i] = min(atMost[i], reason)
			}
		}
	}
	return c.do(func(s *session) error {
		var ids []uint32
		if p.SubscriptionID != 0 {
			ids = []uint32{p.SubscriptionID}
		}
		for i, sub := range p.Subscriptions {
			if reasons[i] == 0 && s.subs[sub.Filter] == nil && len(s.subs) >= o.MaxSubscriptions {
				reasons[i] = wire.ReasonQuotaExceeded
			}
			if reasons[i] == 0 {
				reasons[i] = atMost[i]
				c.b.subscribe(s, sub, reasons[i], ids)
			}
		}
		c.out = control.AppendSuback(c.out, &control.Suback{PacketID: p.PacketID, Reasons: reasons})
		return nil
	})
}

func (c *conn) onUnsubscribe(f wire.Frame) error {
	p, err := control.ParseUnsubscribe(f)
	if err != nil {
		return err
	}
	return c.do(func(s *session) error {
		ack := control.Suback{PacketID: p.PacketID}
		for _, filter := range p.Filters {
			reason := wire.ReasonSuccess
			if wire.CheckTopicFilter(filter) != nil {
				reason = reasonTopicFilterInvalid
			} else if !c.b.unsubscribe(s, filter) {
				reason = reasonNoSubscription
			}
			ack.Reasons = append(ack.Reasons, reason)
		}
		c.out = control.AppendUnsuback(c.out, &ack)
		return nil
	})
}

func (c *conn) onDisconnect(f wire.Frame) error {
	p, err := control.ParseDisconnect(f)
	if err != nil {
		return err
	}
	return c.do(func(s *session) error {
		if p.HasSessionExpiry {
			if s.expiry == 0 && p.SessionExpiry != 0 {
				return refusal(wire.DISCONNECT, wire.ReasonProtocolError, "Session Expiry Interval was 0 in CONNECT and must stay so")
			}
			s.expiry = min(p.SessionExpiry, c.b.opts.MaxSessionExpiry, math.MaxUint32)
		}
		c.closing = true
		c.leave(p.Reason != wire.ReasonSuccess)
		return errGoodbye
	})
}
