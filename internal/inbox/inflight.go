package inbox

import (
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
)

// inFlight are the dedupe keys of messages that are received and not finished. Their
// number is bounded by what workers and resequencers hold.
type inFlight struct {
	earlier notify.Signal // a lease is due earlier than due returned

	mu   sync.Mutex
	keys map[string]holder
	next time.Time // when a lease is due, as due returned; zero: never
}

// holder is the message that holds a key.
type holder struct {
	claim  dedupe.Claim       // zero until the cache has granted it
	renew  time.Time          // when its lease is due; zero: never
	copies []*session.Inbound // of copies of the message, acknowledged with it
}

// join makes a message the holder of key, or a copy of the one that holds it.
func (f *inFlight) join(key string, in *session.Inbound) (isHolder bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, held := f.keys[key]
	switch {
	case held && in == nil: // at QoS 0 there is nothing to acknowledge
		return false
	case held:
		h.copies = append(h.copies, in)
	case f.keys == nil:
		f.keys = map[string]holder{}
	}
	f.keys[key] = h
	return !held
}

// grant stores the claim that the cache has granted.
func (f *inFlight) grant(c dedupe.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store(f.keys[c.Key], c)
}

// renewed stores a claim with its new lease, unless its message is finished.
func (f *inFlight) renewed(c dedupe.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.keys[c.Key]; h.claim.Token == c.Token {
		f.store(h, c)
	}
}

// minRenewal bounds how often a lease is renewed, where renewing fails.
const minRenewal = 10 * time.Millisecond

// store stores a claim. Its lease is due when a third of it has passed.
func (f *inFlight) store(h holder, c dedupe.Claim) {
	h.claim, h.renew = c, time.Time{}
	if !c.Expires.IsZero() {
		h.renew = time.Now().Add(max(minRenewal, time.Until(c.Expires)/3))
		if f.next.IsZero() || h.renew.Before(f.next) {
			f.earlier.Set()
		}
	}
	f.keys[c.Key] = h
}

// claim returns the claim of a key.
func (f *inFlight) claim(key string) dedupe.Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[key].claim
}

// end frees key and returns the copies. A message that joins later asks the cache,
// which must know the outcome by now.
func (f *inFlight) end(key string) []*session.Inbound {
	f.mu.Lock()
	defer f.mu.Unlock()
	copies := f.keys[key].copies
	delete(f.keys, key)
	return copies
}

// endAll frees all keys and returns the claims.
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

// due returns the claims whose leases are due, and when the next is; zero: never.
func (f *inFlight) due() (claims []dedupe.Claim, next time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, h := range f.keys {
		switch {
		case h.renew.IsZero():
		case !h.renew.After(now):
			claims = append(claims, h.claim)
		case next.IsZero() || h.renew.Before(next):
			next = h.renew
		}
	}
	f.next = next
	return claims, next
}
