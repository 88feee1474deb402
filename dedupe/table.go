package dedupe

import (
	"math"
	"time"
)

// table holds the keys of a Memory or File: a map of all keys, and a ring of the
// committed ones in the order of their commits, which is also the order of their
// age. The oldest key is always at the head, so both limits, capacity and age,
// remove keys there in amortized O(1), without a goroutine. Claims are in
// reusable slots of a slice: a claim allocates nothing.
//
// A table is not safe for concurrent use; its owner holds a lock. Times are
// readings of the owner's clock, which never runs backwards.
type table struct {
	opts Options
	keys map[string]uint64 // position in the ring, or claimBit and index in claims
	ring []entry           // power of two, position & (len-1)
	head uint64            // position of the oldest
	tail uint64            // position of the next

	claims []claim
	free   []uint32 // unused indexes in claims
	token  uint64   // of the latest claim

	stats   Stats
	dropped []droppedKey // for OnEvict, until the owner has released its lock
}

// entry is a committed key.
type entry struct {
	key   string
	at    time.Duration
	token uint64 // of the claim that committed it; 0 if an earlier process did
}

// claim is a key in flight.
type claim struct {
	owner      string
	token      uint64
	deadline   time.Duration // noDeadline: none
	committing bool          // a File writes it; it cannot be taken over
	ended      chan struct{} // closed when the claim ends; nil while nobody waits
}

type droppedKey struct {
	key string
	why Reason
}

const (
	claimBit   = uint64(1) << 63
	noDeadline = time.Duration(math.MaxInt64)
)

func newTable(o Options) table {
	return table{opts: o, keys: make(map[string]uint64)}
}

func (t *table) begin(key, owner string, now time.Duration) (Claim, Verdict, error) {
	t.expire(now)
	at, known := t.keys[key]
	switch {
	case !known:
		if t.inFlight() >= t.opts.MaxInFlight {
			t.stats.Refused++
			return Claim{}, 0, &InFlightError{Limit: t.opts.MaxInFlight}
		}
		at = t.allocate()
		t.keys[key] = at
	case at&claimBit == 0:
		t.stats.Duplicates++
		return Claim{}, Duplicate, nil
	default:
		held := &t.claims[at&^claimBit]
		if now < held.deadline || held.committing {
			t.stats.InFlight++
			return t.export(key, held.owner, held.token, held.deadline-now), InFlight, nil
		}
		held.wake()
		t.stats.TakenOver++
	}
	t.stats.Fresh++
	t.token++
	c := &t.claims[at&^claimBit] // its other fields are zero
	c.owner, c.token, c.deadline = owner, t.token, t.deadline(now)
	return t.export(key, owner, t.token, c.deadline-now), Fresh, nil
}

// allocate returns the map value for an unused claim.
func (t *table) allocate() uint64 {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return claimBit | uint64(i)
	}
	t.claims = append(t.claims, claim{})
	return claimBit | uint64(len(t.claims)-1)
}

// release frees the claim at a map value and wakes its waiters.
func (t *table) release(at uint64) {
	c := &t.claims[at&^claimBit]
	c.wake()
	*c = claim{}
	t.free = append(t.free, uint32(at&^claimBit))
}

func (t *table) deadline(now time.Duration) time.Duration {
	if t.opts.Lease <= 0 {
		return noDeadline
	}
	return now + t.opts.Lease
}

func (t *table) export(key, owner string, token uint64, lease time.Duration) Claim {
	if t.opts.Lease <= 0 {
		return Claim{Key: key, Owner: owner, Token: token}
	}
	return Claim{Key: key, Owner: owner, Token: token, Expires: time.Now().Add(lease)}
}

func (c *claim) wake() {
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
}

// find returns the claim that c names and the map value of its key. The claim is
// nil if c does not hold its key; then committed reports that c has committed it.
func (t *table) find(c *Claim) (held *claim, at uint64, committed bool) {
	at, ok := t.keys[c.Key]
	switch {
	case !ok:
	case at&claimBit == 0:
		committed = t.at(at).token == c.Token && c.Token != 0
	case t.claims[at&^claimBit].token == c.Token && t.claims[at&^claimBit].owner == c.Owner:
		held = &t.claims[at&^claimBit]
	}
	return held, at, committed
}

// lost counts and describes the loss of c.
func (t *table) lost(c Claim) error {
	t.stats.Lost++
	e := &ClaimLostError{Claim: c}
	if at, ok := t.keys[c.Key]; ok && at&claimBit != 0 {
		holder := &t.claims[at&^claimBit]
		e.Holder = Claim{Key: c.Key, Owner: holder.owner, Token: holder.token}
	} else if ok {
		e.Committed = true
	}
	return e
}

func (t *table) renew(c Claim, now time.Duration) (Claim, error) {
	held, _, _ := t.find(&c)
	if held == nil || held.committing {
		return c, t.lost(c)
	}
	held.deadline = t.deadline(now)
	return t.export(c.Key, c.Owner, c.Token, t.opts.Lease), nil
}

// pending is a claim that is being committed.
type pending struct {
	key string
	at  uint64 // its map value
}

// beginCommit reports whether c holds its key, and then keeps others from taking
// it over until commit or cancelCommit. Without the claim, err is nil if c has
// committed the key before.
func (t *table) beginCommit(c *Claim) (p pending, held bool, err error) {
	h, at, committed := t.find(c)
	switch {
	case committed:
		return pending{}, false, nil
	case h == nil || h.committing:
		return pending{}, false, t.lost(*c)
	}
	h.committing = true
	return pending{c.Key, at}, true, nil
}

func (t *table) cancelCommit(p pending) { t.claims[p.at&^claimBit].committing = false }

// commit turns a claim into a committed key.
func (t *table) commit(p pending, now time.Duration) {
	token := t.claims[p.at&^claimBit].token
	t.release(p.at)
	t.stats.Committed++
	t.put(p.key, now, token)
}

// put makes key the newest committed one. After a log was read, the ring may
// hold the key twice; the map refers to the entry that counts.
func (t *table) put(key string, at time.Duration, token uint64) {
	if t.tail-t.head == uint64(len(t.ring)) {
		t.grow()
	}
	t.keys[key] = t.tail
	*t.at(t.tail) = entry{key, at, token}
	t.tail++
	for t.size() > t.opts.Capacity {
		t.drop(Capacity)
	}
}

func (t *table) abort(c Claim) error {
	held, at, committed := t.find(&c)
	if held == nil {
		if _, taken := t.keys[c.Key]; taken && !committed {
			return t.lost(c)
		}
		return nil
	}
	if held.committing {
		return nil
	}
	t.release(at)
	delete(t.keys, c.Key)
	t.stats.Aborted++
	return nil
}

// watch returns a channel that is closed when c ends, and the time until its
// lease does. The channel is nil if c does not hold its key any more.
func (t *table) watch(c Claim, now time.Duration) (ended <-chan struct{}, remaining time.Duration) {
	held, _, _ := t.find(&c)
	if held == nil || now >= held.deadline && !held.committing {
		return nil, 0
	}
	if held.ended == nil {
		held.ended = make(chan struct{})
	}
	if held.deadline == noDeadline || held.committing {
		return held.ended, noDeadline
	}
	return held.ended, held.deadline - now
}

// wakeAll wakes all waiters.
func (t *table) wakeAll() {
	for i := range t.claims {
		t.claims[i].wake()
	}
}

func (t *table) inFlight() int { return len(t.claims) - len(t.free) }
func (t *table) size() int     { return len(t.keys) - t.inFlight() }

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
	oldest := t.at(t.head)
	key := oldest.key
	*oldest = entry{}
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
		if e := t.at(p); t.keys[e.key] == p {
			f(e.key, e.at)
		}
	}
}

func (t *table) snapshot() Stats {
	s := t.stats
	s.Size = t.size()
	s.Claims = t.inFlight()
	return s
}

// takeDropped returns the keys that OnEvict must be called for, once.
func (t *table) takeDropped() []droppedKey {
	dropped := t.dropped
	t.dropped = nil
	return dropped
}

// report calls OnEvict for each dropped key.
func (o *Options) report(dropped []droppedKey) {
	for _, d := range dropped {
		o.OnEvict(d.key, d.why)
	}
}
