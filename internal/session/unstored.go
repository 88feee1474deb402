package session

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// unstored is a QoS 1 message that is not in the store and waits for no other message:
// a status message. It is resent in a resumed session like any other message, but does
// not survive the process.
type unstored struct {
	id     uint16
	number uint64 // in the order they were first sent, which resending keeps [MQTT-4.6.0-1]
	image  []byte
	sent   bool // it may have been sent: the next time it has DUP
	done   func(reason byte, err error)
}

// send records that the message is sent now, and reports whether it has DUP.
func (d *unstored) send() (again bool) {
	again, d.sent = d.sent, true
	return again
}

// PublishUnstored sends a QoS 1 message that is not in the store. image is its encoded
// PUBLISH, without a Message Expiry Interval. done is called once, with the reason code
// of the PUBACK or with ErrSessionLost, and must not block. After an error of this
// package nothing was sent and done is never called. After an error of the Writer the
// message counts as sent, and done will be called.
//
// If the server's Receive Maximum is 1, no slot is kept for unstored messages: one
// message waits for the next acknowledgement, and is sent before any offered message.
// It counts as sent.
//
// If the newest unacknowledged unstored message is the same, no second one is sent:
// done replaces its done. So status messages do not accumulate when connections end
// quickly.
func (g *Generation) PublishUnstored(image []byte, done func(reason byte, err error)) error {
	s := g.s
	s.mu.Lock()
	if s.cur != g {
		s.mu.Unlock()
		return ErrNotConnected
	}
	if newest := s.newestUnstoredLocked(); newest != nil && bytes.Equal(newest.image, image) {
		newest.done = done
		s.mu.Unlock()
		return nil
	}
	full := len(g.flights) >= int(g.Limits.ReceiveMaximum)
	if full && (g.Limits.ReceiveMaximum > 1 || len(g.waiting) > 0) {
		s.mu.Unlock()
		return ErrWindowFull
	}
	id, ok := s.low.take()
	if !ok {
		s.mu.Unlock()
		return ErrIDsInUse
	}
	s.unstoredNumber++
	d := &unstored{id: id, number: s.unstoredNumber, image: image, done: done}
	s.unstored[id] = d
	if full {
		g.waiting = append(g.waiting, d)
		s.mu.Unlock()
		return nil
	}
	g.flights[id] = flight{qos: 1, unstored: d}
	d.send()
	s.mu.Unlock()
	return g.w.Send(func(dst []byte) []byte { return wire.AppendImage(dst, d.image, id, false, 0) })
}

func (s *Session) newestUnstoredLocked() (newest *unstored) {
	for _, d := range s.unstored {
		if newest == nil || d.number > newest.number {
			newest = d
		}
	}
	return newest
}

// Unstored returns how many unstored messages are not acknowledged, whatever the
// connection that they were sent on.
func (g *Generation) Unstored() int {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return len(g.s.unstored)
}

// ResendUnstored resends, with DUP, the unstored messages that were unacknowledged when
// earlier connections ended, in their order. Messages for which the server's Receive
// Maximum has no room follow as acknowledgements are received. A message that this
// server does not accept ends with the reason code for that. The caller calls it first
// on a new connection, before any Offer.
func (g *Generation) ResendUnstored() error {
	s := g.s
	s.mu.Lock()
	if s.cur != g {
		s.mu.Unlock()
		return ErrNotConnected
	}
	var list []*unstored
	var refused []func()
	for id, d := range s.unstored {
		if _, sent := g.flights[id]; sent {
			continue
		}
		if reason := g.Limits.Check(len(d.image), 1, d.image[0]&1 != 0); reason != 0 {
			refused = append(refused, func() { d.done(reason, nil) })
			delete(s.unstored, id)
			s.low.free(id)
			continue
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *unstored) int { return cmp.Compare(a.number, b.number) })
	room := max(0, min(len(list), int(g.Limits.ReceiveMaximum)-len(g.flights)))
	list, g.waiting = list[:room], list[room:]
	dup := make([]bool, len(list))
	for i, d := range list {
		g.flights[d.id] = flight{qos: 1, unstored: d}
		dup[i] = d.send()
	}
	s.mu.Unlock()
	for _, report := range refused {
		report()
	}
	for i, d := range list {
		if err := g.w.Send(func(dst []byte) []byte { return wire.AppendImage(dst, d.image, d.id, dup[i], 0) }); err != nil {
			return err
		}
	}
	return nil
}
