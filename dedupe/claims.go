package dedupe

import (
	"math"
	"time"
)

// claim is a key in flight.
type claim struct {
	owner      string
	token      uint64
	deadline   time.Duration // noDeadline: none
	committing bool          // a File writes it; it cannot be taken over
	ended      chan struct{} // closed when the claim ends; nil while nobody waits
}

const (
	claimBit   = uint64(1) << 63
	noDeadline = time.Duration(math.MaxInt64)
)

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
	c := Claim{Key: key, Owner: owner, Token: token}
	if t.opts.Lease > 0 {
		c.Expires = time.Now().Add(lease)
	}
	return c
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

// beginCommit reports whether c holds its key, and then keeps others from taking it
// over. Otherwise err is nil if c has committed the key before.
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

// commit turns a claim into a committed key.
func (t *table) commit(p pending, now time.Duration) {
	token := t.claims[p.at&^claimBit].token
	t.release(p.at)
	t.stats.Committed++
	t.put(p.key, now, token)
}

func (t *table) abort(c Claim) error {
	held, at, committed := t.find(&c)
	_, taken := t.keys[c.Key]
	switch {
	case held == nil && taken && !committed:
		return t.lost(c)
	case held != nil && !held.committing:
		t.release(at)
		delete(t.keys, c.Key)
		t.stats.Aborted++
	}
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
	if remaining = held.deadline - now; held.deadline == noDeadline || held.committing {
		remaining = noDeadline
	}
	return held.ended, remaining
}

// wakeAll wakes all waiters.
func (t *table) wakeAll() {
	for i := range t.claims {
		t.claims[i].wake()
	}
}
