package session

import (
	"bytes"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// unstored is a QoS 1 message that is not in the store and does not wait for other messages, such
// as a status message. It is resent in a resumed session, but lost when the process ends.
type unstored struct {
	id    uint16
	topic string
	image []byte
	sent  bool // it may have been sent, so the next PUBLISH has DUP
	done  func(reason byte, text string, err error)
}

// PublishUnstored sends a QoS 1 message that is not in the store. image is its encoded PUBLISH,
// without a Message Expiry Interval. done is called once, with the reason code and
// the Reason String of the PUBACK or with ErrSessionLost, and must not block. After an error of this package, nothing was sent and
// done is never called. After an error of the Writer, the message counts as sent, and done will be
// called.
//
// If the server's Receive Maximum leaves no room, one message waits for the next acknowledgement,
// and is sent before any offered message. It counts as sent. If the topic is deferred because
// connections have ended, the message waits until nothing is in flight, and is in flight alone. If
// it must not be sent yet, the error is a *DeferredError.
//
// If the newest unacknowledged unstored message is identical, done replaces its done and nothing is
// sent. So status messages do not accumulate when connections end quickly.
func (g *Generation) PublishUnstored(image []byte, done func(reason byte, text string, err error)) error {
	packet, err := g.addUnstored(image, done)
	if err != nil {
		return err
	}
	return g.send(packet)
}

// addUnstored returns the packet to send now, if there is one.
func (g *Generation) addUnstored(image []byte, done func(reason byte, text string, err error)) (packet []byte, err error) {
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != g {
		return nil, ErrNotConnected
	}
	if n := len(s.unstored); n > 0 && bytes.Equal(s.unstored[n-1].image, image) {
		s.unstored[n-1].done = done
		return nil, nil
	}
	topic := topicOf(image)
	x := s.candidates.deferred(topic)
	if x != nil {
		if err := x.mayTry(topic, g.begun, g.acked, g.flights.len()); err != nil {
			return nil, err
		}
	}
	full := g.flights.len() >= int(g.Limits.ReceiveMaximum) || g.held.Load() || x != nil && g.flights.len() > 0
	if full && len(g.waiting) > 0 || g.alone != nil {
		return nil, ErrWindowFull
	}
	id, ok := s.low.take()
	if !ok {
		return nil, ErrIDsInUse
	}
	d := &unstored{id: id, topic: topic, image: image, done: done}
	s.unstored = append(s.unstored, d)
	if x != nil {
		g.alone = d
	}
	if full {
		g.waiting = append(g.waiting, d)
		return nil, nil
	}
	return g.sendUnstoredLocked(nil, d), nil
}

// blameLocked records that g ends while unstored messages that were sent on it are unacknowledged.
// The first of them may be the cause.
func (s *Session) blameLocked(g *Generation) {
	for _, d := range s.unstored {
		if g.flights.get(d.id).unstored == d {
			s.candidates.blame(d.topic)
			return
		}
	}
}

func (s *Session) dropUnstoredLocked(d *unstored) {
	i := slices.Index(s.unstored, d)
	s.unstored = slices.Delete(s.unstored, i, i+1)
	s.low.free(d.id)
}

// sendUnstoredLocked marks d as in flight and appends its PUBLISH.
func (g *Generation) sendUnstoredLocked(dst []byte, d *unstored) []byte {
	dup := d.sent
	d.sent = true
	g.flights.set(d.id, flight{qos: 1, unstored: d})
	return wire.AppendImage(dst, d.image, d.id, dup, 0)
}

// Unstored returns the number of unacknowledged unstored messages of all connections.
func (g *Generation) Unstored() int {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return len(g.s.unstored)
}

// ResendUnstored resends, with DUP, the unstored messages that were unacknowledged when earlier
// connections ended, in their order. Messages without room in the server's Receive Maximum follow
// as acknowledgements arrive. A message that this server does not accept ends with the reason code
// for that. A message of a deferred topic ends with a *DeferredError. Neither blocks the other
// messages [MQTT-4.4.0-1], and a newer message replaces it; see ADR 0057. The caller must call
// ResendUnstored first on a new connection, before any Offer.
func (g *Generation) ResendUnstored() error {
	s := g.s
	s.mu.Lock()
	if s.cur != g {
		s.mu.Unlock()
		return ErrNotConnected
	}
	g.waiting = nil
	var packets []byte
	var refused []func()
	for _, d := range slices.Clone(s.unstored) {
		sent := g.flights.get(d.id).qos != 0
		reason := g.Limits.Check(len(d.image), 1, d.image[0]&1 != 0)
		switch x := s.candidates.deferred(d.topic); {
		case sent:
		case x != nil:
			refused = append(refused, func() {
				d.done(0, "", &DeferredError{Topic: d.topic, Connections: x.connections, Retry: x.retry})
			})
			s.dropUnstoredLocked(d)
		case reason != 0:
			refused = append(refused, func() { d.done(reason, "", nil) })
			s.dropUnstoredLocked(d)
		case g.flights.len() < int(g.Limits.ReceiveMaximum) && !g.held.Load():
			packets = g.sendUnstoredLocked(packets, d)
		default:
			g.waiting = append(g.waiting, d)
		}
	}
	s.mu.Unlock()
	for _, report := range refused {
		report()
	}
	return g.send(packets)
}
