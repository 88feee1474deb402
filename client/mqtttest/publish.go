package mqtttest

import "github.com/mooring-mqtt/mooring/internal/wire"

// onPublish processes a PUBLISH of the client.
func (c *conn) onPublish(f wire.Frame) error {
	v, err := wire.ParsePublish(f)
	if err != nil {
		return err
	}
	topic, err := c.topic(v)
	if err != nil {
		return err
	}
	o := &c.b.opts
	switch {
	case v.QoS > o.maxQoS():
		return refusal(wire.PUBLISH, wire.ReasonQoSNotSupported, "QoS %d is above the Maximum QoS [MQTT-3.2.2-11]", v.QoS)
	case v.Retain && o.DisableRetain:
		return refusal(wire.PUBLISH, wire.ReasonRetainNotSupported, "retained messages are not supported [MQTT-3.2.2-14]")
	}
	reason := c.authorize(topic, true)
	if code := c.b.refusing.Load().of(c.clientID); code >= 0x80 {
		reason = code
	}
	m := newMessage(v, topic)
	return c.do(func(s *session) error {
		c.b.stats.MessagesIn++
		if reason >= 0x80 {
			c.b.stats.Unauthorized++
		}
		switch v.QoS {
		case 0:
			if reason < 0x80 {
				c.b.publish(m, s.clientID)
			}
			return nil
		case 1:
			return c.onQoS1(s, m, v.PacketID, reason)
		}
		return c.onQoS2(s, m, v.PacketID, reason)
	})
}

// topic resolves the Topic Alias (section 3.3.2.3.4). It rejects properties that a client must not
// send.
func (c *conn) topic(v wire.PublishView) (string, error) {
	for props := v.Properties; len(props) > 0; {
		if p, ok := props.Next(); ok && p.ID == wire.PropSubscriptionID {
			return "", refusal(wire.PUBLISH, wire.ReasonProtocolError, "a client must not send a Subscription Identifier [MQTT-3.3.4-6]")
		}
	}
	if v.TopicAlias == 0 {
		return string(v.Topic), nil
	}
	if v.TopicAlias > c.b.opts.TopicAliasMaximum {
		return "", refusal(wire.PUBLISH, wire.ReasonTopicAliasInvalid, "Topic Alias %d is above the Topic Alias Maximum [MQTT-3.3.2-9]", v.TopicAlias)
	}
	if len(v.Topic) > 0 {
		c.aliases[v.TopicAlias] = string(v.Topic)
	}
	topic, ok := c.aliases[v.TopicAlias]
	if !ok {
		return "", refusal(wire.PUBLISH, wire.ReasonTopicAliasInvalid, "Topic Alias %d stands for no topic on this connection", v.TopicAlias)
	}
	return topic, nil
}

// quota enforces the broker's Receive Maximum [MQTT-3.3.4-7]. A PUBACK counts as sent as soon as
// the writer takes it. A client that respects the limit is therefore never refused.
func (c *conn) quota() error {
	if len(c.open)+c.unsaid >= int(c.b.opts.ReceiveMaximum) {
		return refusal(wire.PUBLISH, wire.ReasonReceiveMaximumExceeded, "more than %d messages are unacknowledged", c.b.opts.ReceiveMaximum)
	}
	return nil
}

func (c *conn) onQoS1(s *session, m *message, id uint16, reason byte) error {
	if err := c.quota(); err != nil {
		return err
	}
	if _, taken := s.inbound[id]; taken {
		reason = wire.ReasonPacketIDInUse
	}
	if reason < 0x80 {
		reason = c.b.publish(m, s.clientID)
	}
	c.unsaid++
	c.out = wire.AppendAck(c.out, wire.Ack{Type: wire.PUBACK, PacketID: id, Reason: reason})
	return nil
}

// onQoS2 implements method B of section 4.3.3. It forwards the message at once and stores its
// packet identifier until PUBREL, so that a duplicate is not forwarded.
func (c *conn) onQoS2(s *session, m *message, id uint16, reason byte) error {
	_, mine := c.open[id]
	if !mine {
		if err := c.quota(); err != nil {
			return err
		}
	}
	if _, again := s.inbound[id]; again {
		reason = wire.ReasonSuccess
		c.b.stats.Duplicates++
	} else if reason < 0x80 {
		reason = c.b.publish(m, s.clientID)
	}
	if reason < 0x80 {
		c.open[id] = struct{}{}
		if _, again := s.inbound[id]; !again {
			s.inbound[id] = struct{}{}
			if s.keeps {
				c.b.log.inbound(s, id)
			}
		}
	}
	c.out = wire.AppendAck(c.out, wire.Ack{Type: wire.PUBREC, PacketID: id, Reason: reason})
	return nil
}

func (c *conn) onPubrel(s *session, id uint16) error {
	comp := wire.Ack{Type: wire.PUBCOMP, PacketID: id, Reason: wire.ReasonPacketIDNotFound}
	if _, known := s.inbound[id]; known {
		comp.Reason = wire.ReasonSuccess
		delete(s.inbound, id)
		delete(c.open, id)
		if s.keeps {
			c.b.log.inboundDone(s, id)
		}
	}
	c.out = wire.AppendAck(c.out, comp)
	return nil
}
