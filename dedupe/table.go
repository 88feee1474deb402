package dedupe

import "time"

// table is the state behind Memory and File: a map of keys and a ring of the
// committed ones in the order of their commits, which is also the order of
// their age. So the oldest is always at the head, and both limits, capacity and
// age, are kept by taking from there: O(1) amortised, without a goroutine.
//
// It is not safe for concurrent use; its owner holds a lock. Times are readings
// of the owner's clock, which never runs backwards.
type table struct {
	opts   Options
	keys   map[string]uint64 // position in the ring, or one of the marks below
	ring   []slot            // power of two, position & (len-1)
	head   uint64            // position of the oldest
	tail   uint64            // position of the next
	claims int
	stats  Stats
	gone   []departure // for OnEvict, until the owner has let go of its lock
}

type slot struct {
	key string
	at  time.Duration
}

type departure struct {
	key string
	why Reason
}

// Marks in table.keys; positions never get there.
const (
	claimed    = ^uint64(0)
	committing = ^uint64(0) - 1
)

func newTable(o Options) table {
	return table{opts: o, keys: make(map[string]uint64)}
}

func (t *table) begin(key string, now time.Duration) (Verdict, error) {
	t.expire(now)
	switch at, ok := t.keys[key]; {
	case !ok:
	case at == claimed, at == committing:
		t.stats.InFlight++
		return InFlight, nil
	default:
		t.stats.Duplicates++
		return Duplicate, nil
	}
	if t.claims >= t.opts.MaxInFlight {
		t.stats.Refused++
		return 0, &InFlightError{Limit: t.opts.MaxInFlight}
	}
	t.keys[key] = claimed
	t.claims++
	t.stats.Fresh++
	return Fresh, nil
}

// commit turns a claim into a committed key.
func (t *table) commit(key string, now time.Duration) {
	t.claims--
	t.stats.Committed++
	t.put(key, now)
}

// put makes key the newest committed one. The ring may hold the key from before
// (only when a log is read back); the map's position tells which one counts.
func (t *table) put(key string, at time.Duration) {
	if t.tail-t.head == uint64(len(t.ring)) {
		t.grow()
	}
	t.keys[key] = t.tail
	t.ring[t.tail&uint64(len(t.ring)-1)] = slot{key, at}
	t.tail++
	for t.size() > t.opts.Capacity {
		t.drop(Capacity)
	}
}

func (t *table) abort(key string) {
	if t.keys[key] != claimed {
		return
	}
	delete(t.keys, key)
	t.claims--
	t.stats.Aborted++
}

func (t *table) size() int { return len(t.keys) - t.claims }

func (t *table) expire(now time.Duration) {
	if t.opts.TTL < 0 {
		return
	}
	for t.head != t.tail && now-t.oldest().at >= t.opts.TTL {
		t.drop(Age)
	}
}

func (t *table) oldest() *slot { return &t.ring[t.head&uint64(len(t.ring)-1)] }

// drop forgets the oldest committed key.
func (t *table) drop(why Reason) {
	s := t.oldest()
	key := s.key
	*s = slot{}
	at, ok := t.keys[key]
	current := ok && at == t.head
	t.head++
	if !current {
		return
	}
	delete(t.keys, key)
	if why == Age {
		t.stats.Expired++
	} else {
		t.stats.Evicted++
	}
	if t.opts.OnEvict != nil {
		t.gone = append(t.gone, departure{key, why})
	}
}

func (t *table) grow() {
	bigger := make([]slot, max(16, 2*len(t.ring)))
	for p := t.head; p != t.tail; p++ {
		bigger[p&uint64(len(bigger)-1)] = t.ring[p&uint64(len(t.ring)-1)]
	}
	t.ring = bigger
}

// each calls f for each committed key, oldest first.
func (t *table) each(f func(key string, at time.Duration)) {
	for p := t.head; p != t.tail; p++ {
		if s := t.ring[p&uint64(len(t.ring)-1)]; t.keys[s.key] == p {
			f(s.key, s.at)
		}
	}
}

func (t *table) snapshot() Stats {
	s := t.stats
	s.Size = t.size()
	s.Claims = t.claims
	return s
}

// departures returns what OnEvict must be told, once.
func (t *table) departures() []departure {
	gone := t.gone
	t.gone = nil
	return gone
}

func (o *Options) tell(gone []departure) {
	for _, d := range gone {
		o.OnEvict(d.key, d.why)
	}
}
