package session

import (
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Inbound is a received QoS 1 or 2 message that is not acknowledged yet. It outlives its
// connection: if a resumed session redelivers the message, the running handler decides about both
// copies.
type Inbound struct {
	g           *Generation // the connection on which it is acknowledged
	fingerprint uint64
	text        *string // reason string of a refusal; may be nil
	index       uint32  // position in Generation.order, counted from the start of the connection
	id          uint16
	qos         byte
	reason      byte
	counted     bool // counted in Session.handling
	done        bool // Complete was called
	handled     bool // the store has recorded the result, so the acknowledgement may be sent

	// The following fields are for the handlers of the message.
	Failures atomic.Int32 // failed attempts of handlers
	Topic    string
	Received time.Time
}

// record is the record of a handled QoS 2 message.
type record struct {
	handled     bool
	fingerprint uint64 // 0: unknown
}

// maxOrder is the maximum number of acknowledgements in Generation.order: one for each identifier.
const maxOrder = 65_535

// HandlePublish handles a PUBLISH on this generation's connection. After an error, which is a
// *wire.Error or an error of the store, the caller closes the connection.
func (g *Generation) HandlePublish(v wire.PublishView) error {
	topic, err := g.topics.resolve(v, g.s.cfg.TopicAliasMaximum)
	fingerprint := uint64(0)
	if v.QoS > 0 && err == nil {
		fingerprint = g.s.fingerprint(topic, v) // without the lock, because a payload may be long
	}
	g.s.mu.Lock()
	in, isNew, err := g.receiveLocked(v, topic, fingerprint, err)
	g.s.mu.Unlock()
	if isNew {
		g.s.cfg.Deliver(in, topic, v)
	}
	return err
}

// receiveLocked registers a message. isNew means that the caller must deliver it. invalid is an
// error that was found before.
func (g *Generation) receiveLocked(v wire.PublishView, topic string, fingerprint uint64, invalid error) (in *Inbound, isNew bool, err error) {
	s := g.s
	if s.cur != g {
		return nil, false, nil
	}
	if err := s.floodedLocked(wire.PUBLISH); err != nil {
		return nil, false, err
	}
	if invalid != nil || v.QoS == 0 {
		return nil, invalid == nil, invalid
	}
	// In a resumed session, only the number of identifiers limits the messages. After a restart,
	// mosquitto 2.0 sends all messages of the session at once, above the Receive Maximum and partly
	// without DUP. It would do so again after each 0x93.
	g.recv.set(v.PacketID, true)
	if !g.Present && g.recv.len() > int(s.cfg.ReceiveMaximum) || len(g.order) >= maxOrder {
		return nil, false, refuse(wire.PUBLISH, wire.ReasonReceiveMaximumExceeded,
			"more unacknowledged messages than the Receive Maximum of this client")
	}
	if repeated, err := g.repeatedLocked(v, fingerprint); repeated || err != nil {
		return nil, false, err
	}
	if !g.Present && s.handling >= 2*int(s.cfg.ReceiveMaximum) {
		return nil, false, refuse(wire.PUBLISH, wire.ReasonQuotaExceeded,
			"handlers have not finished the messages of earlier connections")
	}
	in = &Inbound{g: g, id: v.PacketID, qos: v.QoS, fingerprint: fingerprint, counted: true, Topic: topic, Received: time.Now()}
	s.handling++
	s.inbound.set(v.PacketID, in)
	g.enqueue(in)
	return in, true, nil
}

// repeatedLocked reports whether the message was received before. In that case it is acknowledged,
// either now or when its handler has finished.
func (g *Generation) repeatedLocked(v wire.PublishView, fingerprint uint64) (repeated bool, err error) {
	s := g.s
	in := s.inbound.get(v.PacketID)
	same := in != nil && in.qos == v.QoS && in.fingerprint == fingerprint
	if in != nil && in.g == g && !same {
		return false, wire.Violation(wire.PUBLISH, "Packet Identifier is still in use for another message [MQTT-2.2.1-4]")
	}
	seen, err := s.seenLocked(v, fingerprint)
	switch {
	case err != nil:
		return false, err
	case seen: // handled before; the identifier decides, not DUP [MQTT-4.3.3-10]
		if in == nil || in.g != g {
			in = &Inbound{g: g, id: v.PacketID, qos: 2, fingerprint: fingerprint, done: true, handled: true}
			s.inbound.set(v.PacketID, in)
		}
		g.enqueue(in)
	case same && (v.QoS == 2 || v.Dup || in.g == g):
		// The handler of the message is running or has finished. At QoS 1 on another connection, a
		// PUBLISH without DUP is a new message instead [MQTT-4.3.2-5].
		if in.g != g {
			if in.done && !in.handled {
				err = s.recordLocked(in)
			}
			in.g = g
			g.enqueue(in)
		} else if v.QoS == 2 { // each copy gets its PUBREC [MQTT-4.3.3-10]
			g.enqueue(in)
		}
	default:
		return false, nil
	}
	s.stats.Redelivered++
	g.advanceLocked()
	return true, err
}

// seenLocked reports whether the message was handled and recorded before. If the record belongs to
// another message, seenLocked clears it. That happens when the server was killed and continues from
// an older state, in which the identifier is free.
func (s *Session) seenLocked(v wire.PublishView, fingerprint uint64) (bool, error) {
	recorded := s.seen.get(v.PacketID)
	switch {
	case !recorded.handled:
		return false, nil
	case v.QoS == 2 && recorded.fingerprint == fingerprint:
		return true, nil
	case v.QoS == 2 && recorded.fingerprint == 0 && v.Dup: // an earlier release wrote the record, so only DUP is available
		err := s.cfg.Store.Seen(v.PacketID, fingerprint)
		if err == nil {
			s.seen.set(v.PacketID, record{true, fingerprint})
		}
		return err == nil, err
	}
	err := s.cfg.Store.Cleared(v.PacketID)
	if err == nil {
		s.seen.remove(v.PacketID)
	}
	return false, err
}

// enqueue appends a message to the order of acknowledgements.
func (g *Generation) enqueue(in *Inbound) {
	g.enqueued++
	in.index = g.enqueued
	g.order = append(g.order, in)
}

// Leave leaves a message to the server, which sends it again on the next connection [MQTT-4.4.0-1].
// Leave must be called within Config.Deliver, instead of Complete. To keep the order, all later
// messages of the connection must be left as well.
func (s *Session) Leave(in *Inbound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncountLocked(in)
	if s.inbound.get(in.id) == in {
		s.inbound.remove(in.id)
	}
}

func (s *Session) uncountLocked(in *Inbound) {
	if in.counted {
		in.counted = false
		s.handling--
	}
}

// WriterOf returns the connection on which a message was last received.
func (s *Session) WriterOf(in *Inbound) Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return in.g.w
}

// Complete reports that a message was handled (reason code below 0x80) or refused. Its
// acknowledgement is sent after the acknowledgements of all earlier messages [MQTT-4.6.0-2]
// [MQTT-4.6.0-3]. It is sent on the connection on which the server last sent the message. A reason
// code that a client must not send is replaced by 0x80. A reason string that is invalid in MQTT is
// omitted. Complete must be called once for each message, from any goroutine.
//
// An error is an error of the store. Then the acknowledgement is not sent and the connection is
// closed. When the message is redelivered, it is recorded and not handled again.
func (s *Session) Complete(in *Inbound, reason byte, reasonString string) error {
	switch {
	case reason < 0x80:
		reason = wire.ReasonSuccess // 0x10 is only for servers
	case wire.CheckServerReason(wire.PUBACK, reason) != nil:
		reason = wire.ReasonUnspecifiedError
	}
	if wire.CheckString("Reason String", reasonString) != nil {
		reasonString = ""
	}
	s.mu.Lock()
	s.uncountLocked(in)
	if s.inbound.get(in.id) != in {
		s.stats.StaleAcks++ // its session is lost
		s.mu.Unlock()
		return nil
	}
	in.done, in.reason = true, reason
	if reasonString != "" {
		text := reasonString // reasonString itself would be allocated for each message
		in.text = &text
	}
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

// recordLocked marks a message as handled, after the store has recorded that a redelivery must not
// be handled again. It works without a connection too, because the process may end now.
func (s *Session) recordLocked(in *Inbound) error {
	if in.qos == 2 && in.reason < 0x80 {
		if err := s.cfg.Store.Seen(in.id, in.fingerprint); err != nil {
			return err
		}
		s.seen.set(in.id, record{true, in.fingerprint})
		s.acks.needsSync = true
		s.ready.Set()
	}
	in.handled = true
	return nil
}

// advanceLocked queues acknowledgements up to the first unhandled message.
func (g *Generation) advanceLocked() {
	s := g.s
	for len(g.order) > 0 && g.order[0].handled {
		in := g.order[0]
		g.order[0] = nil
		g.order = g.order[1:]
		if s.inbound.get(in.id) == in {
			s.inbound.remove(in.id)
		}
		ack := wire.Ack{Type: wire.PUBACK, PacketID: in.id, Reason: in.reason}
		if in.text != nil && len(s.acks.packets) < maxReasons {
			ack.ReasonString = []byte(*in.text)
		}
		if in.qos == 2 {
			ack.Type = wire.PUBREC
		}
		if limit := int(g.Limits.MaximumPacketSize); in.text != nil && limit > 0 && len(wire.AppendAck(nil, ack)) > limit {
			ack.ReasonString = nil // [MQTT-3.4.2-2] [MQTT-3.5.2-2]
		}
		if in.qos == 1 || in.reason >= 0x80 {
			g.recv.remove(in.id) // the exchange ends here
		}
		s.queueLocked(ack, in.qos == 2)
	}
}

// pubrel ends the receiver's side of a QoS 2 exchange. Session.mu must be held.
func (g *Generation) pubrel(id uint16) error {
	s := g.s
	out := wire.Ack{Type: wire.PUBCOMP, PacketID: id}
	in := s.inbound.get(id)
	waits := in != nil && in.qos == 2
	if !waits || in.g != g {
		g.recv.remove(id)
	}
	switch {
	case waits, !s.seen.get(id).handled:
		// The client has not sent PUBREC for the message that holds the identifier. So the PUBREL
		// belongs to an older message, which the server has restored. The record of the newer
		// message stays.
		s.stats.UnknownAcks++
		out.Reason = wire.ReasonPacketIDNotFound
	default:
		if err := s.cfg.Store.Cleared(id); err != nil {
			return err
		}
		s.seen.remove(id)
	}
	// The identifier must be durably free before the server knows it is. Otherwise a new message
	// under the identifier would be mistaken for the old one. An identifier that is not in use
	// needs a sync as well, because it may have been cleared on a connection that ended before the
	// sync.
	s.queueLocked(out, true)
	return nil
}
