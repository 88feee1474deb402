package dedupe

import (
	"math"
	"time"
)

// claim is a claim in flight. The zero claim is an unused slot.
type claim struct {
	key, owner string
	token      uint64
	deadline   time.Duration // end of the lease; noDeadline if the claim has no lease
	committing bool          // a File is writing it, so it cannot be taken over
	ended      chan struct{} // closed when the claim ends; nil if no caller waits
}

const claimBit, noDeadline = uint64(1) << 63, time.Duration(math.MaxInt64)

// begin sets c to the claim that Begin returns. The caller must have called expire.
func (t *table) begin(c *Claim, key, owner string, now time.Duration) (Verdict, error) {
	at, known := t.keys[key]
	switch {
	case !known:
		if t.inFlight >= t.opts.MaxInFlight {
			t.stats.Refused++
			return 0, &InFlightError{Limit: t.opts.MaxInFlight}
		}
		if t.inFlight > 0 && t.claimed+int64(len(key)) > t.opts.MaxBytes {
			t.stats.Refused++
			return 0, &InFlightError{Limit: t.inFlight, Bytes: t.opts.MaxBytes}
		}
	case at&claimBit == 0:
		t.stats.Duplicates++
		return Duplicate, nil
	default:
		held := t.slot(at)
		if now < held.deadline || held.committing {
			t.stats.InFlight++
			t.export(c, held, now)
			return InFlight, nil
		}
		t.release(held)
		t.stats.TakenOver++
	}
	t.stats.Fresh++
	held := t.allocate()
	held.key, held.owner, held.token, held.deadline = key, owner, t.token, t.deadline(now)
	t.keys[key] = claimBit | t.token
	t.claimed += int64(len(key))
	t.export(c, held, now)
	return Fresh, nil
}

// slot returns the slot for a token. The argument may also be a value of t.keys.
func (t *table) slot(token uint64) *claim { return &t.claims[token&uint64(len(t.claims)-1)] }

// allocate advances t.token to the next token whose slot is unused, and returns the slot.
func (t *table) allocate() *claim {
	if 2*t.inFlight >= len(t.claims) {
		old := t.claims
		t.claims = make([]claim, 2*len(old))
		for _, c := range old {
			if c.token != 0 {
				*t.slot(c.token) = c
			}
		}
	}
	for t.token++; t.slot(t.token).token != 0; t.token++ {
	}
	t.inFlight++
	return t.slot(t.token)
}

// release frees a slot and wakes the waiters of its claim.
func (t *table) release(c *claim) {
	c.wake()
	t.claimed -= int64(len(c.key))
	*c = claim{}
	t.inFlight--
}

func (t *table) deadline(now time.Duration) time.Duration {
	if t.opts.Lease <= 0 {
		return noDeadline
	}
	return now + t.opts.Lease
}

func (t *table) export(c *Claim, held *claim, now time.Duration) {
	c.Key, c.Owner, c.Token = held.key, held.owner, held.token
	if t.opts.Lease > 0 {
		c.Expires = time.Now().Add(held.deadline - now)
	}
}

func (c *claim) wake() {
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
}

// find returns the slot of c, or nil if c does not hold its key. If the slot is nil, committed
// reports whether c has committed the key.
func (t *table) find(c *Claim) (held *claim, committed bool) {
	held = t.slot(c.Token)
	if held.token == c.Token && held.key == c.Key && held.owner == c.Owner && c.Token != 0 {
		return held, false
	}
	at, ok := t.keys[c.Key]
	return nil, ok && at&claimBit == 0 && t.at(at).token == c.Token && c.Token != 0
}

// lost counts the loss of c and returns the error.
func (t *table) lost(c Claim) error {
	t.stats.Lost++
	e := &ClaimLostError{Claim: c}
	if at, ok := t.keys[c.Key]; ok && at&claimBit != 0 {
		holder := t.slot(at)
		e.Holder = Claim{Key: c.Key, Owner: holder.owner, Token: holder.token}
	} else if ok {
		e.Committed = true
	}
	return e
}

func (t *table) renew(c Claim, now time.Duration) (Claim, error) {
	held, _ := t.find(&c)
	if held == nil || held.committing {
		return c, t.lost(c)
	}
	held.deadline = t.deadline(now)
	t.export(&c, held, now)
	return c, nil
}

// pending is a claim that is being committed.
type pending struct {
	key   string
	token uint64
}

// beginCommit reports whether c holds its key. If so, no other claim can take the key over from now
// on. If c has already committed its key, beginCommit returns false and no error. In all other
// cases in which c does not hold its key, it returns an error.
func (t *table) beginCommit(c *Claim) (held bool, err error) {
	h, committed := t.find(c)
	switch {
	case committed:
		return false, nil
	case h == nil || h.committing:
		return false, t.lost(*c)
	}
	h.committing = true
	return true, nil
}

// commit turns a claim into a committed key.
func (t *table) commit(p pending, now time.Duration) {
	t.release(t.slot(p.token))
	t.stats.Committed++
	t.put(p.key, now, p.token)
}

func (t *table) abort(c Claim) error {
	held, committed := t.find(&c)
	_, taken := t.keys[c.Key]
	switch {
	case held == nil && taken && !committed:
		return t.lost(c)
	case held != nil && !held.committing:
		t.release(held)
		delete(t.keys, c.Key)
		t.stats.Aborted++
	}
	return nil
}

// watch returns a channel that is closed when c ends, and the time until its lease ends. The
// channel is nil if c does not hold its key.
func (t *table) watch(c Claim, now time.Duration) (ended <-chan struct{}, remaining time.Duration) {
	held, _ := t.find(&c)
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
