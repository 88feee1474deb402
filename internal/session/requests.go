package session

import (
	"context"
	"io"

	"github.com/eclipse/paho.golang/packets"
	paholog "github.com/eclipse/paho.golang/paho/log"
	pahosession "github.com/eclipse/paho.golang/paho/session"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// request is an unanswered SUBSCRIBE or UNSUBSCRIBE.
type request struct {
	resp   chan<- packets.ControlPacket
	answer byte // packet type of the answer
}

// Manager returns the session.SessionManager for paho.Client. It manages packet identifiers and
// answers of SUBSCRIBE and UNSUBSCRIBE. PUBLISH and its acknowledgements never reach paho.
func (s *Session) Manager(connack func(*packets.Connack) error) pahosession.SessionManager {
	return &manager{s: s, connack: connack}
}

type manager struct {
	s       *Session
	connack func(*packets.Connack) error
	gen     *Generation // set after CONNACK; guarded by Session.mu
}

// ConAckReceived runs before paho reads the next packet. So the generation exists before the first
// PUBLISH of a resumed session is received.
func (m *manager) ConAckReceived(_ io.Writer, _ *packets.Connect, ca *packets.Connack) error {
	if err := m.connack(ca); err != nil {
		return err
	}
	m.s.mu.Lock()
	m.gen = m.s.cur
	m.s.mu.Unlock()
	return nil
}

// AddToSession assigns a packet identifier to a request.
func (m *manager) AddToSession(_ context.Context, p pahosession.Packet, resp chan<- packets.ControlPacket) error {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil || s.cur != m.gen {
		return ErrNotConnected // even if a later connection is up
	}
	id, ok := s.low.take()
	if !ok {
		return ErrIDsInUse
	}
	p.SetIdentifier(id)
	answer := packets.SUBACK
	if _, ok := p.(*packets.Unsubscribe); ok {
		answer = packets.UNSUBACK
	}
	s.requests[id] = request{resp: resp, answer: byte(answer)}
	return nil
}

// PacketReceived handles a SUBACK or UNSUBACK.
func (m *manager) PacketReceived(p *packets.ControlPacket, _ chan<- *packets.Publish) error {
	s := m.s
	id := p.PacketID()
	var err error
	s.mu.Lock()
	gen := m.gen
	r, ok := s.requests[id]
	switch {
	case !ok: // the identifier of a request is in use until its answer
		s.stats.UnknownAcks++
		err = wire.Violation(wire.Type(p.Type), "it has packet identifier %d, which no request has [MQTT-2.2.1-6]", id)
	case p.Type != r.answer:
		err = wire.Violation(wire.Type(p.Type), "it answers a request of another kind [MQTT-2.2.1-6]")
	default:
		delete(s.requests, id)
		s.low.free(id)
		r.resp <- *p
	}
	s.mu.Unlock()
	if err != nil {
		gen.w.Fail(err) // paho ignores the returned error
	}
	return nil
}

// The other methods do nothing: the link calls Detach, and Complete acknowledges messages.

func (m *manager) ConnectionLost(*packets.Disconnect) error { return nil }
func (m *manager) Ack(*packets.Publish) error               { return nil }
func (m *manager) Close() error                             { return nil }
func (m *manager) SetErrorLogger(paholog.Logger)            {}
func (m *manager) SetDebugLogger(paholog.Logger)            {}
