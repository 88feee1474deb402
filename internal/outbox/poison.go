package outbox

import (
	"sync"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// poison finds the message over which the server ends one connection after the other. The candidate
// is the first message sent on a connection, if the server ends the connection with a reason code
// that can be about a message and has acknowledged none. An unstored message (a birth) that was
// unacknowledged then may be the reason as well: the next connection waits for its acknowledgement
// before it sends messages, which decides it.
type poison struct {
	mu        sync.Mutex
	g         *session.Generation
	first     uint64   // the first message sent on g, by sequence; 0: none, or only its PUBREL
	id        [16]byte // of first
	alone     bool     // no unstored message was unacknowledged then
	cautious  bool     // the last connection may have ended over an unstored message
	candidate uint64
	strikes   int // connections in a row that ended over candidate
}

// sendingFirst notes the first message that is sent on a connection.
func (p *poison) sendingFirst(g *session.Generation, seq uint64, id [16]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.g, p.first, p.id, p.alone = g, seq, id, g.Unstored() == 0
}

// mustWait reports whether messages wait for the acknowledgement of unstored ones.
func (p *poison) mustWait(g *session.Generation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cautious && g.Unstored() > 0
}

// disconnected judges the end of a connection. It returns the candidate and its
// strikes; 0: there is none.
func (p *poison) disconnected(g *session.Generation, reason byte) (seq uint64, id [16]byte, strikes int) {
	blamed := aboutMessage(reason)
	p.mu.Lock()
	defer p.mu.Unlock()
	excused := g.Unstored() > 0 && !(p.g == g && p.alone)
	p.cautious = blamed && excused
	known := p.g == g && p.first != 0
	if known && g.Acknowledged() > 0 {
		p.strikes, known = 0, false
	}
	if !known || !blamed || excused {
		return 0, [16]byte{}, 0
	}
	if p.candidate != p.first {
		p.candidate, p.strikes = p.first, 0
	}
	p.strikes++
	return p.first, p.id, p.strikes
}

// aboutMessage reports whether a DISCONNECT with this reason code can be about a message, and would
// be the same next time. A connection that ends without one is no evidence: links break in the same
// way, and ending a good message is worse than sending a bad one again.
func aboutMessage(reason byte) bool {
	switch reason {
	case wire.ReasonMalformedPacket, wire.ReasonProtocolError, wire.ReasonNotAuthorized, wire.ReasonTopicNameInvalid,
		wire.ReasonPacketTooLarge, wire.ReasonPayloadFormatInvalid, wire.ReasonRetainNotSupported, wire.ReasonQoSNotSupported:
		return true
	}
	return false
}
