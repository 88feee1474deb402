package client

import "sync"

// claims are the dedupe keys that this client holds, each with the copies of
// its message that came meanwhile and share its fate. They are bounded by what
// lanes and resequencers hold.
type claims struct {
	mu   sync.Mutex
	held map[string][]arrival
}

// join makes a the holder of key, or leaves it with the holder that there is.
func (c *claims) join(key string, a arrival) (holder bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copies, taken := c.held[key]
	if taken {
		if a.in != nil { // at QoS 0 there is nothing to acknowledge
			c.held[key] = append(copies, a)
		}
		return false
	}
	if c.held == nil {
		c.held = map[string][]arrival{}
	}
	c.held[key] = nil
	return true
}

// end frees key and returns the copies that wait for its fate. Whoever joins
// later asks the cache, which must know that fate by now.
func (c *claims) end(key string) []arrival {
	c.mu.Lock()
	defer c.mu.Unlock()
	copies := c.held[key]
	delete(c.held, key)
	return copies
}

// abandon returns the keys that are held, and frees them.
func (c *claims) abandon() (keys []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.held {
		keys = append(keys, key)
	}
	c.held = nil
	return keys
}
