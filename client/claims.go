package client

import (
	"sync"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/session"
)

// claims contains the dedupe keys that this client holds or begins, each with the
// copies of its message that arrived meanwhile: they get the acknowledgement of
// the first. Workers and resequencers bound their number.
type claims struct {
	owner string // in the cache

	mu   sync.Mutex
	held map[string]heldKey
}

type heldKey struct {
	claim  dedupe.Claim // zero until Begin has returned
	copies []*session.Inbound
}

// join reserves key and returns true, or adds in to the copies of the message that
// has reserved it.
func (c *claims) join(key string, in *session.Inbound) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held, taken := c.held[key]
	if taken {
		if in != nil { // at QoS 0 there is nothing to acknowledge
			held.copies = append(held.copies, in)
			c.held[key] = held
		}
		return false
	}
	if c.held == nil {
		c.held = map[string]heldKey{}
	}
	c.held[key] = heldKey{}
	return true
}

// hold records the claim that Begin returned for a reserved key.
func (c *claims) hold(claim dedupe.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held[claim.Key]
	held.claim = claim
	c.held[claim.Key] = held
}

// end frees key and returns its copies. A copy that arrives later calls Begin,
// which must know the outcome by now.
func (c *claims) end(key string) []*session.Inbound {
	c.mu.Lock()
	defer c.mu.Unlock()
	copies := c.held[key].copies
	delete(c.held, key)
	return copies
}

// abandon returns the claims that are held, and frees all keys.
func (c *claims) abandon() (held []dedupe.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.held {
		if h.claim.Token != 0 {
			held = append(held, h.claim)
		}
	}
	c.held = nil
	return held
}
