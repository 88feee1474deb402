package session

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// unstored is a QoS 1 message that goes past the store, and past the backlog: a
// birth or a goodbye. It is resent on a resumed session like any other, but
// does not survive the process.
type unstored struct {
	id     uint16
	number uint64 // in the order they were first sent, which resending keeps [MQTT-4.6.0-1]
	image  []byte
	sent   bool // it may have left, so the next time it has DUP
	done   func(reason byte, err error)
}

// send notes that it leaves now, and reports whether it has DUP.
func (d *unstored) send() (again bool) {
	again, d.sent = d.sent, true
	return again
}

// PublishUnstored sends a QoS 1 message past the store. image is its encoded
// PUBLISH, without a Message Expiry Interval; done is called once, with the
// PUBACK's reason code or with ErrSessionLost, and must not block. After one of
// this package's errors nothing was sent and done is never called; after an
// error of the Writer's the message counts as sent, and done is still called.
//
// A server whose Receive Maximum is 1 has no slot that is kept for unstored messages:
// one waits for the next acknowledgement then, and goes before anything that is
// offered. It counts as sent.
//
// If the newest unstored message that is unacknowledged, resent on this
// connection, is the same, it stands for this one and done takes the place of
// its done: births do not pile up over a link that flaps.
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

// ResendUnstored sends again, with DUP, the unstored messages that an earlier
// connection left unacknowledged, in their order. Those that the server's
// Receive Maximum has no room for follow as acknowledgements come. One that this
// server cannot take ends with the reason code that says so. Called first on a new
// connection, before anything is offered.
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
	for _, tell := range refused {
		tell()
	}
	for i, d := range list {
		if err := g.w.Send(func(dst []byte) []byte { return wire.AppendImage(dst, d.image, d.id, dup[i], 0) }); err != nil {
			return err
		}
	}
	return nil
}
