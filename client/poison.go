package client

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// PoisonError says that a message was given up because the server ended one
// connection after the other over it. Publish what it carries in another form.
type PoisonError struct {
	ID       MessageID
	Attempts int
	Code     byte // of the last DISCONNECT
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("client: message %v given up: the server ended %d connections in a row over it, at last with %s (0x%02X); change the message, it would end every connection",
		e.ID, e.Attempts, reliability.ReasonName(e.Code), e.Code)
}

// ReasonCode is the code, for reliability.Classify.
func (e *PoisonError) ReasonCode() byte { return e.Code }

// suspect is the message that stood first on the connection. When the server
// ends the connection with a word that can be about a message, and has
// acknowledged none, it is about the first: unless it can be about a word that went
// past the store before. Then the next connection waits with messages until those
// are acknowledged.
type suspect struct {
	acked atomic.Bool // the server acknowledged something on this connection

	mu      sync.Mutex
	gen     uint64 // the connection
	seq     uint64 // the first message sent on it; 0: none, or only its PUBREL was
	id      MessageID
	alone   bool // no word that went past the store was unacknowledged then
	wary    bool // the last end may have been about such a word
	accused uint64
	times   int // how often accused was, in a row
}

// first notes the first message that goes out on a connection.
func (s *suspect) first(gen, seq uint64, id MessageID, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen, s.seq, s.id, s.alone = gen, seq, id, alone
	s.acked.Store(false)
}

// waits says whether the next connection is to begin with words that went past the
// store.
func (s *suspect) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wary
}

// ended judges the end of a connection. It returns the message accused and
// how often in a row it has been. words: such as went past the store are
// unacknowledged.
func (s *suspect) ended(gen uint64, blamed, words bool) (seq uint64, id MessageID, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	words = words && !(s.gen == gen && s.alone)
	s.wary = blamed && words
	switch {
	case s.gen != gen || s.seq == 0:
		return 0, MessageID{}, 0
	case s.acked.Load():
		s.times = 0
		return 0, MessageID{}, 0
	case !blamed || words:
		return 0, MessageID{}, 0
	}
	if s.accused != s.seq {
		s.accused, s.times = s.seq, 0
	}
	s.times++
	return s.seq, s.id, s.times
}

// checkPoison runs after each connection.
func (c *Client) checkPoison(gen uint64, err error) {
	var said *link.DisconnectError
	blamed := errors.As(err, &said) && aboutMessage(said.Reason)
	seq, id, times := c.suspect.ended(gen, blamed, c.session.Directs() > 0)
	if times < c.cfg.Publishing.PoisonAttempts || seq == 0 {
		return
	}
	var e persistence.Entry
	if ok, err := c.store.Get(seq, &e); err != nil || !ok || e.Released {
		return // the server has taken it over meanwhile: PUBREC came
	}
	poison := &PoisonError{ID: id, Attempts: times, Code: said.Reason}
	stored, o := c.refusal(said.Reason, poison)
	c.giveUp(seq, stored, o, id)
}

// aboutMessage says whether a DISCONNECT with this code can be about a message
// that the server was sent, and will say the same next time. A connection that
// ends without one is no evidence: links break in the same way, and giving up a
// good message is worse than sending a bad one again.
func aboutMessage(code byte) bool {
	switch code {
	case wire.ReasonMalformedPacket, wire.ReasonProtocolError, wire.ReasonNotAuthorized, wire.ReasonTopicNameInvalid,
		wire.ReasonPacketTooLarge, wire.ReasonPayloadFormatInvalid, wire.ReasonRetainNotSupported, wire.ReasonQoSNotSupported:
		return true
	}
	return false
}
