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

// poison finds the message over which the server ends one connection after the other. The candidate
// is the message that was sent first among those that were not acknowledged when the connection
// ended, unless one that was sent later was. A connection that ends without a reason code is evidence
// only if nothing was acknowledged on it. An unstored message (a birth) that was unacknowledged then may be the reason as well: the next
// connection waits for its acknowledgement before it sends messages, which decides it.
type poison struct {
	mu        sync.Mutex
	g         *session.Generation
	alone     bool            // when the first message was sent on g, no unstored message was unacknowledged
	cautious  atomic.Bool     // the last connection may have ended over an unstored message
	given     map[uint64]bool // hashes of the topics of which messages were given up
	candidate uint64
	strikes   int // connections in a row that ended over candidate
}

// sendingFirst notes that the first message is sent on a connection.
func (p *poison) sendingFirst(g *session.Generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.g, p.alone = g, g.Unstored() == 0
}

// mustWait reports whether messages wait for the acknowledgement of unstored ones.
func (p *poison) mustWait(g *session.Generation) bool {
	if !p.cautious.Load() {
		return false
	}
	wait := g.Unstored() > 0
	p.cautious.Store(wait)
	return wait
}

// disconnected judges the end of a connection; reason 0: the server gave none. It returns the
// candidate and its strikes; 0: there is none.
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

// answered notes that the server has answered a message.
func (p *poison) answered(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.candidate == seq {
		p.candidate, p.strikes = 0, 0
	}
}

// maxGiven bounds the topics that are remembered, by their hashes.
const maxGiven = 1024

var topicSeed = maphash.MakeSeed()

// giveUp notes that e is given up: other messages of its topic may end connections too.
func (p *poison) giveUp(e *persistence.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil || len(p.given) >= maxGiven {
		p.given = map[uint64]bool{}
	}
	p.given[maphash.Bytes(topicSeed, wire.ImageTopic(e.Packet))] = true
}

// gaveUp reports whether a message of the topic of e was given up; false for an unknown one.
func (p *poison) gaveUp(e *persistence.Entry) bool {
	if len(e.Packet) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given[maphash.Bytes(topicSeed, wire.ImageTopic(e.Packet))]
}

// givesUp reports whether a message ends at its first refusal.
func givesUp(r deferral.Rule) bool {
	return r.Action == deferral.GiveUp || r.Action == deferral.DeadLetter
}

// givesUpPoison reports whether a message over which connections ended with this reason code is given
// up: a rule says so, or the code is about the message and would be the same next time.
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
