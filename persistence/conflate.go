package persistence

// conflation knows the newest message of each key. Entries of messages that are
// done stay until a sweep, so there are at most twice as many as messages
// pending, and minSweep.
type conflation struct {
	newest map[string]uint64
	swept  int // how many entries the last sweep left
}

const minSweep = 1024

// replace notes the newest message of a key; alive says of the others whether
// they are still pending.
func (c *conflation) replace(key string, seq uint64, alive func(seq uint64) bool) {
	if c.newest == nil {
		c.newest = make(map[string]uint64)
	}
	c.newest[key] = seq
	if len(c.newest) < minSweep || len(c.newest) < 2*c.swept {
		return
	}
	for k, s := range c.newest {
		if s != seq && !alive(s) {
			delete(c.newest, k)
		}
	}
	c.swept = len(c.newest)
}
