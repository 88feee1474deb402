package inbox

import (
	"errors"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// inFlight holds the dedupe keys of received messages that are not finished. The capacity of the
// workers and resequencers bounds their number.
type inFlight struct {
	leased notify.Signal // set when lease is known

	mu    sync.Mutex
	keys  map[string]holder
	lease time.Duration // of the claims; 0: claims need no renewal
}

// holder is the message that holds a key.
type holder struct {
	claim  dedupe.Claim // zero until the cache has granted it
	copies []receipt    // of copies; acknowledged with the message
}

// identify determines the dedupe key of an item, and makes the item the holder of the key or a
// copy. invalid is the error of Config.DedupeKey, and err is its panic.
func (w *worker[M]) identify(item *Item[M]) (isCopy bool, invalid, err error) {
	err = w.do(inBegin, func() error { item.key, invalid = w.cfg.DedupeKey(item.Message); return nil })
	return err == nil && invalid == nil && item.key != "" && !w.join(*item), invalid, err
}

// begin asks the cache for the claim of a key.
func (w *worker[M]) begin(key string) (c dedupe.Claim, v dedupe.Verdict, err error) {
	err = w.do(inBegin, func() (err error) {
		c, v, err = w.cfg.Dedupe.Begin(w.stopping, key, w.cfg.Owner)
		return err
	})
	return c, v, err
}

// join makes an item the holder of its key, or a copy of the current holder.
func (b *Inbox[M]) join(item Item[M]) (isHolder bool) {
	r := item.copied()
	if isHolder = b.keys.join(item.key, r); !isHolder {
		b.free(item.Size - r.size)
	}
	return isHolder
}

// copiesOf releases the key of a finished message and returns its copies.
func (b *Inbox[M]) copiesOf(item Item[M]) []receipt {
	if item.key == "" {
		return item.copies
	}
	return b.keys.end(item.key)
}

// copied returns the receipt of a copy. The copy keeps the bytes of the receipt. It keeps the bytes
// of the message only if another handler needs them.
func (item *Item[M]) copied() receipt {
	r := item.receipt()
	switch {
	case r.parts != nil:
	case r.in == nil && r.aside == 0: // at QoS 0 there is nothing to acknowledge
		r.size = 0
	default:
		r.size = min(r.size, copyBytes)
	}
	return r
}

// copyBytes is the memory of a receipt and a session.Inbound.
const copyBytes = 256

// join makes a message the holder of key, or a copy of the current holder.
func (f *inFlight) join(key string, r receipt) (isHolder bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, held := f.keys[key]
	if held && r != (receipt{}) { // at QoS 0 there is nothing to acknowledge
		h.copies = append(h.copies, r)
	}
	f.keys[key] = h
	return !held
}

// grant stores the claim that the cache has granted for a key.
func (f *inFlight) grant(c dedupe.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.keys[c.Key]
	h.claim = c
	f.keys[c.Key] = h
	if !c.Expires.IsZero() && f.lease == 0 {
		f.lease = time.Until(c.Expires)
		f.leased.Set()
	}
}

// renewed stores a claim with its new lease, unless the message is finished.
func (f *inFlight) renewed(c dedupe.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.keys[c.Key]; h.claim.Token == c.Token {
		h.claim = c
		f.keys[c.Key] = h
	}
}

// due returns the claims that have used a third of their lease, and the time until the next check.
// A failed renewal is repeated several times within a lease.
func (f *inFlight) due() (claims []dedupe.Claim, next time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lease == 0 {
		return nil, time.Hour
	}
	for _, h := range f.keys {
		if !h.claim.Expires.IsZero() && time.Until(h.claim.Expires) <= f.lease*2/3 {
			claims = append(claims, h.claim)
		}
	}
	return claims, f.lease / 8
}

// claim returns the claim of a key. For an empty key it returns the zero Claim.
func (f *inFlight) claim(key string) (none dedupe.Claim) {
	if key == "" {
		return none
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[key].claim
}

// end releases key and returns the copies. The cache must already know the outcome, because a later
// message with this key asks the cache.
func (f *inFlight) end(key string) []receipt {
	f.mu.Lock()
	defer f.mu.Unlock()
	copies := f.keys[key].copies
	delete(f.keys, key)
	return copies
}

// endAll releases all keys and returns their claims.
func (f *inFlight) endAll() (claims []dedupe.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.keys {
		if h.claim.Token != 0 {
			claims = append(claims, h.claim)
		}
	}
	f.keys = nil
	return claims
}

// duplicate counts a message that was handled before or is being handled.
func (b *Inbox[M]) duplicate(item Item[M]) {
	b.Counters.Duplicates.Add(1)
	b.cfg.Observer.Duplicate(item.Message)
}

// renewLeases renews the leases of all claims until the workers have ended. That includes claims of
// messages held for order and of slow handlers.
func (b *Inbox[M]) renewLeases() {
	returned := false
	defer func() {
		if !returned { // runtime.Goexit in Renew
			b.helpers.Go(b.renewLeases)
		}
	}()
	defer b.cfg.Guard.Enter()()
	for b.finishing.Err() == nil {
		claims, next := b.keys.due()
		for _, c := range claims {
			b.renew(c)
		}
		select {
		case <-b.finishing.Done():
		case <-b.keys.leased:
		case <-time.After(next):
		}
	}
	returned = true
}

// abandon returns a claim. If that fails, the claim ends with its lease.
func (b *Inbox[M]) abandon(c dedupe.Claim) {
	if p := b.cfg.Guard.Call(func() { _ = b.cfg.Dedupe.Abort(b.finishing, c) }); p != nil {
		b.cfg.Observer.StoreFailed(p)
	}
}

// renew renews one lease. If another owner has taken over the claim, renew stops renewing it. The
// commit will report that as well.
func (b *Inbox[M]) renew(c dedupe.Claim) {
	renewed, err := c, error(nil)
	if p := b.cfg.Guard.Call(func() { renewed, err = b.cfg.Dedupe.Renew(b.finishing, c); _ = callback.Probe(err) }); p != nil {
		err = p
	}
	switch {
	case b.finishing.Err() != nil:
	case err == nil:
		b.keys.renewed(renewed)
	default:
		if errors.Is(err, dedupe.ErrClaimLost) {
			c.Expires = time.Time{}
			b.keys.renewed(c)
		}
		b.cfg.Observer.StoreFailed(err)
	}
}

// receipt is a received PUBLISH that is not acknowledged yet.
type receipt struct {
	in    *session.Inbound // nil at QoS 0
	parts *parts           // nil: the message has one handler
	size  int64            // memory in bytes; see Size
	aside uint64           // ID in Config.Aside; 0: the message is not from there
}

// parts combines the results of the handlers of one message.
type parts struct {
	mu   sync.Mutex
	left int // handlers that have not finished
	code byte
	text string
}

// finish records the result of one handler. After the last handler it returns true and the result
// of the message: the first refusal, if there is one.
func (p *parts) finish(code byte, text string) (byte, string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.code < wire.ReasonUnspecifiedError && code >= wire.ReasonUnspecifiedError {
		p.code, p.text = code, text
	}
	return p.code, p.text, p.left == 0
}
