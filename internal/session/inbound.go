package session

import (
	"hash/maphash"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Inbound is one received QoS 1 or 2 message on its way through its handler.
// It outlives the connection it came on: where the same message comes again on
// a resumed session, the delivery under way answers for both.
type Inbound struct {
	g       *Generation // the connection that waits for the acknowledgement
	id      uint16
	qos     byte
	sum     uint64 // of topic and payload, to tell a redelivery from a new message
	done    bool   // Complete was called
	counted bool   // in Session.handling
	handled bool   // and the store took note, so its acknowledgement may leave
	reason  byte
	text    string // reason string of a refusal
}

// maxOrder bounds the acknowledgements that wait for an earlier one, against a
// server that repeats itself: there are no more identifiers than that.
const maxOrder = 65_535

// maxTopics and maxTopicBytes bound the interned Topic Names of a connection.
// Beyond that each message has a copy of its own.
const (
	maxTopics     = 1024
	maxTopicBytes = 1 << 20
)

// HandlePublish takes a PUBLISH that arrived on this generation's connection.
// An error is an *wire.Error or the store's: the connection must be closed.
func (g *Generation) HandlePublish(v wire.PublishView) error {
	s := g.s
	s.mu.Lock()
	if s.cur != g {
		s.mu.Unlock()
		return nil
	}
	if err := g.flooded(wire.PUBLISH); err != nil {
		s.mu.Unlock()
		return err
	}
	topic, err := g.topicLocked(v)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	if v.QoS == 0 {
		s.mu.Unlock()
		s.cfg.Deliver(nil, topic, v)
		return nil
	}
	// What a resumed session sends again does not count: mosquitto 2.0 sends
	// all of it at once after a restart, whatever our Receive Maximum, and would
	// do so again after each 0x93. Identifiers bound it, and nothing else may.
	again := v.Dup && g.Present
	if !again {
		g.recv[v.PacketID] = struct{}{}
	}
	if !again && len(g.recv) > int(s.cfg.ReceiveMaximum) || len(g.order) >= maxOrder {
		s.mu.Unlock()
		return &wire.Error{Code: wire.ReasonReceiveMaximumExceeded, Packet: wire.PUBLISH,
			Detail: "more unacknowledged messages than our Receive Maximum"}
	}
	sum := s.sum(topic, v)
	in, known := s.inbound[v.PacketID]
	handled, seen := s.seen[v.PacketID]
	if seen && v.QoS == 2 && handled != 0 && handled != sum {
		// Another message under the identifier of one that we handled: the server
		// was killed and goes on from a state in which it had not sent that one.
		if err := s.cfg.Store.Cleared(v.PacketID); err != nil {
			s.mu.Unlock()
			return err
		}
		delete(s.seen, v.PacketID)
		seen = false
	}
	switch {
	case v.QoS == 2 && seen:
		// Handled before, by identifier and not by DUP [MQTT-4.3.3-10].
		s.stats.Redelivered++
		if known && in.g != g {
			delete(s.inbound, v.PacketID)
		}
		g.order = append(g.order, &Inbound{g: g, id: v.PacketID, qos: 2, handled: true})
		g.advanceLocked()
		s.mu.Unlock()
		return nil
	case known && in.qos == v.QoS && in.sum == sum && (v.QoS == 2 || v.Dup || in.g == g):
		// The handler has it already, or is done with it. (At QoS 1 a message
		// that does not say that it comes again is a new one [MQTT-4.3.2-5].)
		s.stats.Redelivered++
		if in.g != g {
			if in.done && !in.handled {
				err = s.recordLocked(in)
			}
			in.g = g
			g.order = append(g.order, in)
		} else if v.QoS == 2 { // each has its PUBREC [MQTT-4.3.3-10]
			g.order = append(g.order, in)
		}
		g.advanceLocked()
		s.mu.Unlock()
		return err
	case known && in.g == g:
		s.mu.Unlock()
		return &wire.Error{Code: wire.ReasonProtocolError, Packet: wire.PUBLISH,
			Detail: "Packet Identifier is still in use for another message [MQTT-2.2.1-4]"}
	}
	if !again && s.handling >= 2*int(s.cfg.ReceiveMaximum) {
		s.mu.Unlock()
		return &wire.Error{Code: wire.ReasonQuotaExceeded, Packet: wire.PUBLISH,
			Detail: "the handlers have still to come to what earlier connections brought"}
	}
	in = &Inbound{g: g, id: v.PacketID, qos: v.QoS, sum: sum, counted: !again}
	if in.counted {
		s.handling++
	}
	s.inbound[v.PacketID] = in
	g.order = append(g.order, in)
	s.mu.Unlock()
	s.cfg.Deliver(in, topic, v)
	return nil
}

// sum tells a redelivery from a new message under the same identifier: by topic,
// payload and user properties, among them the message ID. A server may change
// the other properties from one delivery to the next.
func (s *Session) sum(topic string, v wire.PublishView) uint64 {
	sum := 31*maphash.String(s.seed, topic) + maphash.Bytes(s.seed, v.Payload)
	for props := v.Properties; ; {
		p, ok := props.Next()
		if !ok {
			return sum
		}
		if p.ID == wire.PropUser {
			sum = 31*(31*sum+maphash.Bytes(s.seed, p.Bytes)) + maphash.Bytes(s.seed, p.Value)
		}
	}
}

// topicLocked resolves a Topic Alias and interns the Topic Name.
func (g *Generation) topicLocked(v wire.PublishView) (string, error) {
	if v.TopicAlias > g.s.cfg.TopicAliasMaximum {
		return "", &wire.Error{Code: wire.ReasonTopicAliasInvalid, Packet: wire.PUBLISH,
			Detail: "Topic Alias is above the Topic Alias Maximum that was announced"}
	}
	if len(v.Topic) == 0 {
		topic, ok := g.aliases[v.TopicAlias]
		if !ok {
			return "", &wire.Error{Code: wire.ReasonProtocolError, Packet: wire.PUBLISH,
				Detail: "Topic Alias was not set before on this connection"}
		}
		return topic, nil
	}
	topic, ok := g.topics[string(v.Topic)]
	if !ok {
		topic = string(v.Topic)
		if len(g.topics) < maxTopics && g.topicBytes+len(topic) <= maxTopicBytes {
			g.topicBytes += len(topic)
			g.topics[topic] = topic
		}
	}
	if v.TopicAlias != 0 {
		g.aliases[v.TopicAlias] = topic
	}
	return topic, nil
}

// Complete says that the message was handled (a reason code below 0x80) or
// refused. Its acknowledgement leaves when those of all messages received
// before it have left [MQTT-4.6.0-2] [MQTT-4.6.0-3], on whichever connection
// waits for it by then. A reason code that a client may not send becomes 0x80,
// and a reason string that MQTT cannot carry is left out. It may be called from
// any goroutine, once.
//
// An error is the store's: the acknowledgement cannot leave and the connection
// is closed; when the message comes again it is not handled again, only
// recorded.
func (s *Session) Complete(in *Inbound, reason byte, reasonString string) error {
	switch {
	case reason < 0x80:
		reason = wire.ReasonSuccess // 0x10 is for servers only
	case !wire.ValidAckReason(wire.PUBACK, reason):
		reason = wire.ReasonUnspecifiedError
	}
	if wire.CheckString("Reason String", reasonString) != nil {
		reasonString = ""
	}
	s.mu.Lock()
	if in.counted {
		in.counted = false
		s.handling--
	}
	if s.inbound[in.id] != in {
		s.stats.StaleAcks++ // the session it belonged to is gone
		s.mu.Unlock()
		return nil
	}
	in.done, in.reason, in.text = true, reason, reasonString
	err, cur := s.recordLocked(in), s.cur
	if cur != nil {
		cur.advanceLocked()
	}
	s.mu.Unlock()
	if err != nil && cur != nil {
		cur.w.Fail(err)
	}
	return err
}

// recordLocked marks in as handled, after the store has taken note of what must
// outlive the process. It is done at once, connected or not: should the process
// end now, the message will come again and must not be handled again.
func (s *Session) recordLocked(in *Inbound) error {
	if in.qos == 2 && in.reason < 0x80 {
		if err := s.cfg.Store.Seen(in.id); err != nil {
			return err
		}
		s.seen[in.id] = in.sum
		s.acks.owe()
	}
	in.handled = true
	return nil
}

// advanceLocked queues the acknowledgements of all handled messages that no
// unhandled one stands before.
func (g *Generation) advanceLocked() {
	s := g.s
	n := 0
	for ; n < len(g.order) && g.order[n].handled; n++ {
		in := g.order[n]
		g.order[n] = nil
		if s.inbound[in.id] == in {
			delete(s.inbound, in.id)
		}
		ack := wire.Ack{Type: wire.PUBACK, PacketID: in.id, Reason: in.reason}
		if in.qos == 2 {
			ack.Type = wire.PUBREC
		}
		if in.text != "" {
			ack.ReasonString = []byte(in.text)
			if limit := g.Limits.MaximumPacketSize; limit > 0 && len(wire.AppendAck(nil, ack)) > int(limit) {
				ack.ReasonString = nil // [MQTT-3.4.2-2] [MQTT-3.5.2-2]
			}
		}
		if in.qos == 1 || in.reason >= 0x80 {
			delete(g.recv, in.id) // the exchange ends here
		}
		s.acks.push(queued{g: g, ack: ack, sync: in.qos == 2})
	}
	g.order = g.order[n:]
}

// pubrel ends the receiver's part of a QoS 2 exchange.
func (g *Generation) pubrel(a wire.Ack) error {
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != g {
		s.stats.StaleAcks++
		return nil
	}
	delete(g.recv, a.PacketID)
	out := wire.Ack{Type: wire.PUBCOMP, PacketID: a.PacketID}
	if _, seen := s.seen[a.PacketID]; !seen {
		s.stats.UnknownAcks++
		out.Reason = wire.ReasonPacketIDNotFound
		// It may have been cleared on a connection that went before the sync.
		s.acks.push(queued{g: g, ack: out, sync: true})
		return nil
	}
	// The identifier is free before the server can know that it is: it must
	// be, durably, or a new message under it would be taken for the old one.
	if err := s.cfg.Store.Cleared(a.PacketID); err != nil {
		return err
	}
	delete(s.seen, a.PacketID)
	s.acks.push(queued{g: g, ack: out, sync: true})
	return nil
}
