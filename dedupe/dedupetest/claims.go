package dedupetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// token tests that the tokens of a key increase, regardless of how the earlier claims ended.
func (h Harness) token(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{Lease: h.Lease})
	last := begin(t, c, "a", dedupe.Fresh)
	for i := range 5 {
		switch i % 2 {
		case 0:
			abort(t, c, last)
		default:
			time.Sleep(h.Lease)
		}
		c, peer = peer, c
		next := begin(t, c, "a", dedupe.Fresh)
		if next.Token <= last.Token {
			t.Fatalf("token %d after %d", next.Token, last.Token)
		}
		last = next
	}
}

// owner tests that only the holder of a claim can end or renew it.
func (h Harness) owner(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{})
	held := beginAs(t, c, "a", "one", dedupe.Fresh)
	seen := beginAs(t, peer, "a", "two", dedupe.InFlight)
	if seen.Owner != "one" || seen.Token != held.Token {
		t.Errorf("the holder is %+v, want %+v", seen, held)
	}
	for name, forged := range map[string]dedupe.Claim{
		"another owner": {Key: "a", Owner: "two", Token: held.Token},
		"another token": {Key: "a", Owner: "one", Token: held.Token + 1},
		"no token":      {Key: "a", Owner: "one"},
	} {
		wantLost(t, "Commit with "+name, peer.Commit(t.Context(), forged), held, false)
		wantLost(t, "Abort with "+name, peer.Abort(t.Context(), forged), held, false)
		_, err := peer.Renew(t.Context(), forged)
		wantLost(t, "Renew with "+name, err, held, false)
	}
	beginAs(t, peer, "a", "two", dedupe.InFlight)
	commit(t, c, held)
	beginAs(t, peer, "a", "two", dedupe.Duplicate)
}

// leaseEnds tests that another owner can take a key over after the lease has ended. After that, the
// calls of the first owner must fail.
func (h Harness) leaseEnds(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{Lease: h.Lease})
	start := time.Now()
	paused := beginAs(t, c, "a", "paused", dedupe.Fresh)
	if d := paused.Expires.Sub(start); paused.Expires.IsZero() || d > time.Since(start)+h.Lease {
		t.Fatalf("the lease ends after %v, want at most %v", d, h.Lease)
	}
	beginAs(t, peer, "a", "other", dedupe.InFlight)
	time.Sleep(h.Lease)
	other := beginAs(t, peer, "a", "other", dedupe.Fresh)

	wantLost(t, "Commit after a takeover", c.Commit(t.Context(), paused), other, false)
	_, err := c.Renew(t.Context(), paused)
	wantLost(t, "Renew after a takeover", err, other, false)
	wantLost(t, "Abort after a takeover", c.Abort(t.Context(), paused), other, false)
	beginAs(t, c, "a", "paused", dedupe.InFlight)

	commit(t, peer, other)
	wantLost(t, "Commit after the other's", c.Commit(t.Context(), paused), dedupe.Claim{}, true)
	wantLost(t, "Abort after the other's Commit", c.Abort(t.Context(), paused), dedupe.Claim{}, true)
	beginAs(t, c, "a", "paused", dedupe.Duplicate)
	if n := c.Stats().Lost; n != 5 {
		t.Errorf("Stats.Lost %d, want 5", n)
	}
	if n := peer.Stats().TakenOver; n != 1 {
		t.Errorf("Stats.TakenOver %d, want 1", n)
	}
}

// leaseRenewed tests that a claim stays valid as long as its lease is renewed.
func (h Harness) leaseRenewed(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{Lease: h.Lease})
	held := beginAs(t, c, "a", "one", dedupe.Fresh)
	for range 3 {
		time.Sleep(h.Lease / 2)
		renewed, err := c.Renew(t.Context(), held)
		if err != nil {
			t.Fatalf("Renew: %v", err)
		}
		if renewed.Token != held.Token || !renewed.Expires.After(held.Expires) {
			t.Fatalf("Renew of %+v: %+v", held, renewed)
		}
		held = renewed
		beginAs(t, peer, "a", "two", dedupe.InFlight)
	}
	commit(t, c, held)
}

// leaseNotTakenOver tests that the end of a lease alone does not end the claim. The claim is lost
// only when another claim takes the key over.
func (h Harness) leaseNotTakenOver(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{Lease: h.Lease})
	a, b, d := begin(t, c, "a", dedupe.Fresh), begin(t, c, "b", dedupe.Fresh), begin(t, c, "d", dedupe.Fresh)
	time.Sleep(h.Lease + h.Lease/2)
	commit(t, c, a)
	beginAs(t, peer, "a", "two", dedupe.Duplicate)
	if _, err := c.Renew(t.Context(), b); err != nil {
		t.Fatalf("Renew: %v", err)
	}
	beginAs(t, peer, "b", "two", dedupe.InFlight)
	abort(t, c, d)
	beginAs(t, peer, "d", "two", dedupe.Fresh)
}

// wait tests that Commit and Abort wake all waiters, and that Wait returns at once
// for a claim that has ended.
func (h Harness) wait(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{})
	for _, end := range []func(*testing.T, dedupe.Cache, dedupe.Claim){abort, commit} {
		held := beginAs(t, c, "a", "one", dedupe.Fresh)
		const waiters = 3
		woken := make(chan error, waiters)
		for range waiters {
			seen := beginAs(t, peer, "a", "two", dedupe.InFlight)
			go func() { woken <- peer.Wait(t.Context(), seen) }()
		}
		time.Sleep(100 * time.Millisecond)
		if len(woken) > 0 {
			t.Fatalf("Wait returned while the claim was held: %v", <-woken)
		}
		end(t, c, held)
		for range waiters {
			if err := <-woken; err != nil {
				t.Fatalf("Wait: %v", err)
			}
		}
		if err := peer.Wait(t.Context(), held); err != nil {
			t.Fatalf("Wait for a claim that has ended: %v", err)
		}
	}
	beginAs(t, peer, "a", "two", dedupe.Duplicate)
	if err := peer.Wait(t.Context(), dedupe.Claim{Key: "unknown", Owner: "one", Token: 1}); err != nil {
		t.Errorf("Wait for an unknown key: %v", err)
	}
}

// waitForLease tests that the end of a lease ends Wait, and that a renewal extends the wait.
func (h Harness) waitForLease(t *testing.T) {
	c, peer := h.openTwo(t, dedupe.Options{Lease: h.Lease})
	held := beginAs(t, c, "a", "one", dedupe.Fresh)
	seen := beginAs(t, peer, "a", "two", dedupe.InFlight)
	woken := make(chan error, 1)
	go func() { woken <- peer.Wait(t.Context(), seen) }()
	time.Sleep(h.Lease / 2)
	if _, err := c.Renew(t.Context(), held); err != nil {
		t.Fatalf("Renew: %v", err)
	}
	renewed := time.Now()
	if err := <-woken; err != nil {
		t.Fatalf("Wait: %v", err)
	}
	if d := time.Since(renewed); d < h.Lease*9/10 {
		// A Wait may return early, but Begin must not take the key over.
		beginAs(t, peer, "a", "two", dedupe.InFlight)
		time.Sleep(h.Lease - d)
	}
	beginAs(t, peer, "a", "two", dedupe.Fresh)
}

// waitEnds tests that Wait ends with its context and with Close.
func (h Harness) waitEnds(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	begin(t, c, "a", dedupe.Fresh)
	seen := begin(t, c, "a", dedupe.InFlight)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the worker stops")
	woken := make(chan error, 1)
	go func() { woken <- c.Wait(ctx, seen) }()
	time.Sleep(10 * time.Millisecond)
	cancel(reason)
	if err := <-woken; !errors.Is(err, reason) && !errors.Is(err, context.Canceled) {
		t.Errorf("Wait when its context ends: %v", err)
	}
	go func() { woken <- c.Wait(t.Context(), seen) }()
	time.Sleep(10 * time.Millisecond)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; !errors.Is(err, dedupe.ErrClosed) {
		t.Errorf("Wait when the cache is closed: %v, want ErrClosed", err)
	}
}
