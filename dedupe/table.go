package dedupe

import "time"

// table contains the keys of a Memory or File. The map keys contains all keys. The ring contains
// the committed keys, ordered by age. Both limits remove keys from the head of the ring, in
// amortized constant time. The token of a claim selects its slot, so the claim can be found without
// the map.
//
// A table is not safe for concurrent use. Its owner holds a lock. Times are readings of the owner's
// clock, which never goes back.
type table struct {
	opts Options
	keys map[string]uint64 // position in the ring, or claimBit | token
	ring []entry           // the length is a power of two; index: position & (len-1)
	head uint64            // position of the oldest key
	tail uint64            // position of the next key

	claims   []claim // the length is a power of two; index: token & (len-1); at most half are used
	inFlight int     // used slots
	claimed  int64   // total length of the claimed keys
	bytes    int64   // total length of the committed keys
	token    uint64  // of the latest claim

	stats   Stats
	dropped []droppedKey // for OnEvict, which is called when the owner releases its lock
}

// entry is a committed key.
type entry struct {
	key   string
	at    time.Duration
	token uint64 // token of the claim that committed the key; 0 if an earlier process committed it
}

type droppedKey struct {
	key string
	why Reason
}

func newTable(o Options) table {
	return table{opts: o, keys: make(map[string]uint64), claims: make([]claim, 16)}
}

// put makes key the newest committed key. key must have no entry in the ring.
func (t *table) put(key string, at time.Duration, token uint64) {
	if t.tail-t.head == uint64(len(t.ring)) {
		t.grow()
	}
	t.keys[key] = t.tail
	*t.at(t.tail) = entry{key, at, token}
	t.tail++
	t.bytes += int64(len(key))
	for t.size() > t.opts.Capacity || t.bytes > t.opts.MaxBytes && t.size() > 1 {
		t.drop(Capacity)
	}
}

func (t *table) size() int                 { return len(t.keys) - t.inFlight }
func (t *table) at(position uint64) *entry { return &t.ring[position&uint64(len(t.ring)-1)] }

func (t *table) expire(now time.Duration) {
	if t.opts.TTL < 0 {
		return
	}
	for t.head != t.tail && now-t.at(t.head).at >= t.opts.TTL {
		t.drop(Age)
	}
}

// drop removes the oldest committed key.
func (t *table) drop(why Reason) {
	key := t.at(t.head).key
	*t.at(t.head) = entry{}
	t.head++
	if key == "" {
		return // the log contained the key twice; keep the newer entry
	}
	delete(t.keys, key)
	t.bytes -= int64(len(key))
	if why == Age {
		t.stats.Expired++
	} else {
		t.stats.Evicted++
	}
	if t.opts.OnEvict != nil {
		t.dropped = append(t.dropped, droppedKey{key, why})
	}
}

func (t *table) grow() {
	bigger := make([]entry, max(16, 2*len(t.ring)))
	for p := t.head; p != t.tail; p++ {
		bigger[p&uint64(len(bigger)-1)] = *t.at(p)
	}
	t.ring = bigger
}

// each calls f for each committed key, oldest first.
func (t *table) each(f func(key string, at time.Duration)) {
	for p := t.head; p != t.tail; p++ {
		if e := t.at(p); e.key != "" {
			f(e.key, e.at)
		}
	}
}

func (t *table) snapshot() Stats {
	s := t.stats
	s.Size, s.Claims, s.Bytes = t.size(), t.inFlight, t.bytes
	return s
}
