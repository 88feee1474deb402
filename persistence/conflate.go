package persistence

// conflation knows the newest message of each key. Entries of messages that are
// done stay until a sweep: when there are twice as many as the last one left, and
// when a segment goes and there are twice as many as messages pending.
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
	if len(c.newest) >= minSweep && len(c.newest) >= 2*c.swept {
		c.sweep(func(s uint64) bool { return s == seq || alive(s) })
	}
}

// shrink sweeps when most entries must be of messages that are done.
func (c *conflation) shrink(pending int, alive func(seq uint64) bool) {
	if len(c.newest) > 2*pending+minSweep {
		c.sweep(alive)
	}
}

// sweep makes a new map: an emptied one keeps its memory.
func (c *conflation) sweep(alive func(seq uint64) bool) {
	left := make(map[string]uint64)
	for k, s := range c.newest {
		if alive(s) {
			left[k] = s
		}
	}
	c.newest, c.swept = left, len(left)
}
