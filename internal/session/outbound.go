package session

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// flight is a QoS 1 or 2 message that was sent on this connection and is not acknowledged.
type flight struct {
	seq      uint64
	order    uint64 // position in the order of first sending in this session
	qos      byte
	released bool      // PUBREC was received; from now on only PUBREL is sent [MQTT-4.3.3-6]
	unstored *unstored // nil: a stored message
}

// Admission is the result of an offer. After Wait and Taken, the session calls Config.Room later.
type Admission int

const (
	Admitted Admission = iota // the caller must send the message now
	Wait                      // the window is full
	Taken                     // the packet identifier is in use or being purged, so no message of its priority can be sent
	Gone                      // the connection of this generation has ended
)

// Offer requests to send the message with log sequence seq under the packet identifier id, for the
// first time or again. Stored messages may use the whole window. An unstored message without room
// is sent on the next acknowledgement.
func (g *Generation) Offer(seq uint64, id uint16, qos byte) Admission {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.offerLocked(id, flight{seq: seq, qos: qos})
}

func (g *Generation) offerLocked(id uint16, f flight) Admission {
	s := g.s
	if s.cur != g {
		return Gone
	}
	if taken := g.flights.get(id).qos != 0; taken || g.purges.open > 0 && g.purges.ids[id] && !f.released {
		return Taken
	}
	if g.freeLocked() <= 0 && !f.released {
		return Wait
	}
	var again bool
	if f.order, again = s.unacked[f.seq]; again {
		delete(s.unacked, f.seq)
	} else {
		s.sends++
		f.order = s.sends
	}
	g.flights.set(id, f)
	return Admitted
}

// InUse reports whether a packet identifier is in use on this connection.
func (g *Generation) InUse(id uint16) bool {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.flights.get(id).qos != 0
}

// FirstUnacked returns the unacknowledged message that was sent first, or 0 if all are
// acknowledged. passed reports whether a message that was sent later is acknowledged. It also works
// after the connection has ended.
func (g *Generation) FirstUnacked() (seq uint64, passed bool) {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	order := uint64(math.MaxUint64)
	for _, f := range g.flights.all() {
		if f.unstored == nil && !f.released && f.order < order {
			seq, order = f.seq, f.order
		}
	}
	return seq, order < g.passed
}

// Free returns the number of messages for which the window has room.
func (g *Generation) Free() int {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return max(g.freeLocked(), 0)
}

func (g *Generation) freeLocked() int {
	if g.alone != nil || g.held.Load() {
		return 0
	}
	return int(g.Limits.ReceiveMaximum) - g.flights.len()
}

// OfferReleased continues a message whose PUBREC was received on an earlier connection. It queues
// the PUBREL, which is sent after the store has been synced. The message needs no room in the
// window [MQTT-3.3.4-8], but counts against it. The caller must call OfferReleased before any
// Offer, in the order of the PUBRECs [MQTT-4.6.0-4]. The store keeps that order.
func (g *Generation) OfferReleased(seq uint64, id uint16) Admission {
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := g.offerLocked(id, flight{seq: seq, qos: 2, released: true})
	if answer == Admitted {
		s.queueLocked(wire.Ack{Type: wire.PUBREL, PacketID: id}, true)
	}
	return answer
}

// Unacked returns the log sequences of unacknowledged messages that this process has sent on
// earlier connections of the session and not offered on this one. They must be resent before other
// messages, in this order of first sending [MQTT-4.6.0-1].
func (g *Generation) Unacked() []uint64 {
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != g {
		return nil
	}
	byOrder := func(a, b uint64) int { return cmp.Compare(s.unacked[a], s.unacked[b]) }
	return slices.SortedFunc(maps.Keys(s.unacked), byOrder)
}

// Forget removes a message from Unacked that has ended without an acknowledgement.
func (g *Generation) Forget(seq uint64) {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	delete(g.s.unacked, seq)
}

// Acknowledged returns the number of stored messages acknowledged on this connection.
func (g *Generation) Acknowledged() uint64 {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.acked
}

// InFlight returns the number of unacknowledged messages sent on this connection.
func (g *Generation) InFlight() int {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.flights.len()
}

// HandleAck handles a PUBACK, PUBREC, PUBREL or PUBCOMP received on this generation's connection.
// After an error, which is a *wire.Error or an error of the store, the caller closes the
// connection.
func (g *Generation) HandleAck(a wire.Ack) error {
	s := g.s
	s.mu.Lock()
	f, settled, err := g.ackLocked(a)
	s.mu.Unlock()
	if !settled {
		if a.Type == wire.PUBCOMP && err == nil && s.cfg.Room != nil {
			s.cfg.Room() // it may have been the answer to the last purge
		}
		return err
	}
	g.settled++
	switch {
	case f.unstored != nil:
		f.unstored.done(a.Reason, wire.ReasonText(a.ReasonString), nil)
	case a.Type == wire.PUBCOMP: // reason code 0x92: the server has already completed the exchange
		s.cfg.Settled(f.seq, wire.ReasonSuccess, wire.ReasonText(a.ReasonString))
	default:
		s.cfg.Settled(f.seq, a.Reason, wire.ReasonText(a.ReasonString))
	}
	if s.cfg.Room != nil {
		s.cfg.Room()
	}
	return nil
}

// ackLocked handles an acknowledgement. settled means that it is the final one of f.
func (g *Generation) ackLocked(a wire.Ack) (f flight, settled bool, err error) {
	s := g.s
	if err := s.floodedLocked(a.Type); err != nil {
		return f, false, err
	}
	f = g.flights.get(a.PacketID)
	switch {
	case s.cur != g:
		s.stats.StaleAcks++
	case len(g.purges.ids) > 0 && g.purges.answered(a, f.released):
		s.quota = s.quota && g.purges.open > 0
	case a.Type == wire.PUBREL:
		err = g.pubrel(a.PacketID)
	case f.qos == 0: // the identifier is not in use
		s.stats.UnknownAcks++
		if a.Type == wire.PUBREC && a.Reason < 0x80 {
			// The server would wait for PUBREL indefinitely.
			s.queueLocked(wire.Ack{Type: wire.PUBREL, PacketID: a.PacketID, Reason: wire.ReasonPacketIDNotFound}, false)
		}
	case a.Type == wire.PUBACK && f.qos != 1:
		err = outOfStep(a, "answers a QoS 2 message")
	case a.Type != wire.PUBACK && f.qos != 2:
		err = outOfStep(a, "answers a QoS 1 message")
	case a.Type == wire.PUBCOMP && !f.released:
		err = outOfStep(a, "comes before PUBREC")
	case a.Type == wire.PUBREC && a.Reason >= 0x80 && f.released:
		err = outOfStep(a, "refuses a message that an earlier PUBREC accepted")
	case a.Type == wire.PUBREC && a.Reason < 0x80:
		if !f.released {
			if err := s.cfg.Store.Release(f.seq); err != nil {
				return f, false, err
			}
			f.released = true
			g.flights.set(a.PacketID, f)
		}
		s.queueLocked(wire.Ack{Type: wire.PUBREL, PacketID: a.PacketID}, true)
	default:
		if f.unstored == nil && (a.Type == wire.PUBCOMP || a.Reason < 0x80) {
			g.accepted++
		}
		g.endFlightLocked(a.PacketID, f)
		settled = true
		s.quota = s.quota || a.Reason == wire.ReasonQuotaExceeded && g.Present
	}
	return f, settled, err
}

// endFlightLocked makes room in the window. A waiting unstored message uses the room.
func (g *Generation) endFlightLocked(id uint16, f flight) {
	s := g.s
	g.flights.remove(id)
	if f.unstored == nil {
		g.acked++
		g.passed = max(g.passed, f.order)
	} else {
		delete(s.candidates.topics, f.unstored.topic)
		s.dropUnstoredLocked(f.unstored)
		if g.alone == f.unstored {
			g.alone = nil
		}
	}
	if len(g.waiting) > 0 && !g.held.Load() && g.flights.len() < int(g.Limits.ReceiveMaximum) && (g.alone == nil || g.flights.len() == 0) {
		s.acks.packets = g.sendUnstoredLocked(s.acks.packets, g.waiting[0])
		s.acks.count++
		s.ready.Set()
		g.waiting = g.waiting[1:]
	}
}

// Purge sends PUBREL for packet identifiers without a message, and returns how many. It omits
// identifiers that are in use on this connection. At most MaxPurge purges may be unanswered; Purge
// omits further identifiers. Until the server has answered, Offer returns Taken for the
// identifiers. The session calls Config.Room after answers.
func (g *Generation) Purge(ids []uint16) (sent int) {
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != g {
		return 0
	}
	for _, id := range ids {
		if used := g.flights.get(id).qos != 0 || id < lowest && s.low.used[id]; !used && g.purges.add(id) {
			sent++
			s.queueLocked(wire.Ack{Type: wire.PUBREL, PacketID: id}, false)
		}
	}
	return sent
}

// Purging returns the number of purged packet identifiers that the server has not answered.
func (g *Generation) Purging() int {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.purges.open
}

// IsPurging reports whether a packet identifier is being purged.
func (g *Generation) IsPurging(id uint16) bool {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.purges.ids[id]
}

// Held reports whether messages must wait on this connection until Unhold. That is the case if the
// server refused a message because of a quota on an earlier connection of the session. A purge may
// then help, and it must come first, because some servers close the connection when they refuse a
// message.
func (g *Generation) Held() bool {
	return g.held.Load()
}

// Unhold releases the messages that wait because of Held.
func (g *Generation) Unhold() error {
	s := g.s
	s.mu.Lock()
	if s.cur != g || !g.held.Load() {
		s.mu.Unlock()
		return nil
	}
	g.held.Store(false)
	s.quota = false
	s.mu.Unlock()
	return g.ResendUnstored()
}

// EndPurge ends unanswered purges of the given packet identifiers, or all if ids is empty. The
// identifiers may then be used again. Late answers are dropped.
func (g *Generation) EndPurge(ids ...uint16) {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	g.purges.giveUp(ids)
}

// Settled returns the number of messages, including unstored ones, that were finally acknowledged
// on this connection. Only the goroutine that calls HandleAck may call it.
func (g *Generation) Settled() uint64 { return g.settled }

func outOfStep(a wire.Ack, what string) error {
	return wire.Violation(a.Type, "acknowledgement of packet identifier %d %s", a.PacketID, what)
}
