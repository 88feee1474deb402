package ledger

// Keys knows the newest message of each key. Entries of messages that have ended
// stay until a sweep: when there are twice as many as the last sweep left, and when
// a segment is removed and there are twice as many as pending messages.
type Keys struct {
	newest map[string]uint64
	swept  int // entries that the last sweep left
}

const minSweep = 1024

// Newest returns the newest message of a key, or 0.
func (k *Keys) Newest(key string) uint64 { return k.newest[key] }

// Set notes the newest message of a key. alive: another message has not ended.
func (k *Keys) Set(key string, seq uint64, alive func(seq uint64) bool) {
	if k.newest == nil {
		k.newest = make(map[string]uint64)
	}
	k.newest[key] = seq
	if len(k.newest) >= minSweep && len(k.newest) >= 2*k.swept {
		k.sweep(func(s uint64) bool { return s == seq || alive(s) })
	}
}

// Shrink sweeps if most entries must be of messages that have ended.
func (k *Keys) Shrink(pending int, alive func(seq uint64) bool) {
	if len(k.newest) > 2*pending+minSweep {
		k.sweep(alive)
	}
}

// sweep makes a new map, because an emptied one keeps its memory.
func (k *Keys) sweep(alive func(seq uint64) bool) {
	left := make(map[string]uint64)
	for key, seq := range k.newest {
		if alive(seq) {
			left[key] = seq
		}
	}
	k.newest, k.swept = left, len(left)
}
