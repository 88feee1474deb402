package outbox

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// poison finds a message because of which the server ends one connection after another. The
// candidate is the first sent message that was unacknowledged when the connection ended. There is
// no candidate if a message that was sent later was acknowledged. If the connection ends without a
// reason code, that counts only if nothing was acknowledged on it. An unacknowledged unstored
// message (a birth) may also be the cause. Then the next connection waits for its acknowledgement
// before it sends messages, which settles the question.
type poison struct {
	mu        sync.Mutex
	g         *session.Generation
	alone     bool            // no unstored message was unacknowledged when the first message was sent on g
	cautious  atomic.Bool     // the last connection may have ended because of an unstored message
	given     map[uint64]bool // hashes of the topics of messages that were given up
	candidate uint64
	strikes   int // consecutive connections that ended because of candidate
}

// sendingFirst records that the first message is sent on g.
func (p *poison) sendingFirst(g *session.Generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.g, p.alone = g, g.Unstored() == 0
}

// mustWait reports whether messages must wait for the acknowledgement of unstored messages.
func (p *poison) mustWait(g *session.Generation) bool {
	if !p.cautious.Load() {
		return false
	}
	wait := g.Unstored() > 0
	p.cautious.Store(wait)
	return wait
}

// disconnected evaluates the end of a connection. Reason 0 means that the server gave none. It
// returns the candidate and its strikes, or 0 if there is no candidate.
func (p *poison) disconnected(g *session.Generation, reason byte) (seq uint64, strikes int) {
	acked := g.Acknowledged() > 0
	blamed := reason != 0 || !acked
	p.mu.Lock()
	defer p.mu.Unlock()
	excused := g.Unstored() > 0 && !(p.g == g && p.alone)
	p.cautious.Store(reason != 0 && excused)
	seq, passed := g.FirstUnacked()
	if !blamed || excused || passed || seq == 0 {
		if acked {
			p.candidate, p.strikes = 0, 0
		}
		return 0, 0
	}
	if p.candidate != seq {
		p.candidate, p.strikes = seq, 0
	}
	p.strikes++
	return seq, p.strikes
}

// answered records that the server has answered a message.
func (p *poison) answered(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.candidate == seq {
		p.candidate, p.strikes = 0, 0
	}
}

// maxGiven bounds the number of remembered topic hashes.
const maxGiven = 1024

var topicSeed = maphash.MakeSeed()

// giveUp records that e is given up. Other messages of its topic may end connections too.
func (p *poison) giveUp(e *persistence.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil || len(p.given) >= maxGiven {
		p.given = map[uint64]bool{}
	}
	p.given[maphash.Bytes(topicSeed, wire.ImageTopic(e.Packet))] = true
}

// gaveUp reports whether a message of the topic of e was given up. It returns false if the topic is
// unknown.
func (p *poison) gaveUp(e *persistence.Entry) bool {
	if len(e.Packet) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given[maphash.Bytes(topicSeed, wire.ImageTopic(e.Packet))]
}

// givesUp reports whether a rule ends a message at its first refusal.
func givesUp(r deferral.Rule) bool {
	return r.Action == deferral.GiveUp || r.Action == deferral.DeadLetter
}

// givesUpPoison reports whether a message that ended connections with this reason code is given up.
// That applies if a rule selects it, or if the code is about the message itself and would not change.
func givesUpPoison(rules deferral.Rules, e *persistence.Entry, reason byte) bool {
	if rule, ok := rules.OfEnd(string(wire.ImageTopic(e.Packet)), reason); ok {
		return givesUp(rule)
	}
	switch reason {
	case wire.ReasonMalformedPacket, wire.ReasonProtocolError, wire.ReasonTopicNameInvalid, wire.ReasonPacketTooLarge,
		wire.ReasonPayloadFormatInvalid, wire.ReasonRetainNotSupported, wire.ReasonQoSNotSupported:
		return true
	}
	return false
}
