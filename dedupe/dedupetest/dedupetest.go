package dedupetest

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// Harness creates the caches under test and declares their optional guarantees. The test suite
// closes every cache that it receives.
type Harness struct {
	// New returns an empty cache with its own storage. This field is required.
	New func(t *testing.T, o dedupe.Options) dedupe.Cache

	// Peer returns another cache on the same storage, like the cache of another process. It is
	// optional. The suite uses it for every second owner.
	Peer func(t *testing.T, c dedupe.Cache, o dedupe.Options) dedupe.Cache

	// Reopen opens the storage of a closed cache again. It is optional. If it is set, the suite
	// tests that commits and tokens survive the end of the process.
	Reopen func(t *testing.T, closed dedupe.Cache, o dedupe.Options) dedupe.Cache

	// Bounded declares that the cache enforces Options.Capacity and Options.MaxInFlight exactly.
	Bounded bool

	// Synctest declares that the cache works in a testing/synctest bubble. The suite then tests all
	// times, including Options.TTL, without waiting in real time.
	Synctest bool

	// Lease is the value of Options.Lease in tests that wait for the end of a lease. Without
	// Synctest, these tests wait in real time. Default: one minute with Synctest, and two seconds
	// without it.
	Lease time.Duration
}

// Run runs the conformance test suite. Each test is a subtest.
func Run(t *testing.T, h Harness) {
	if h.Lease == 0 {
		h.Lease = 2 * time.Second
		if h.Synctest {
			h.Lease = time.Minute
		}
	}
	t.Run("Lifecycle", h.lifecycle)
	t.Run("Misuse", h.misuse)
	t.Run("Keys", h.keys)
	t.Run("Closed", h.closed)
	t.Run("OneWinner", h.oneWinner)
	t.Run("Counters", h.counters)
	t.Run("Context", h.context)
	for name, test := range map[string]func(*testing.T){
		"Token": h.token, "Owner": h.owner, "Wait": h.wait, "WaitForLease": h.waitForLease, "WaitEnds": h.waitEnds,
		"LeaseEnds": h.leaseEnds, "LeaseRenewed": h.leaseRenewed, "LeaseNotTakenOver": h.leaseNotTakenOver,
	} {
		t.Run(name, h.inTime(test))
	}
	if h.Bounded {
		t.Run("Capacity", h.capacity)
		t.Run("OnEvictMayCall", h.onEvictMayCall)
		t.Run("MaxInFlight", h.maxInFlight)
	}
	if h.Synctest {
		t.Run("TTL", h.inTime(h.ttl))
	}
	if h.Reopen != nil {
		t.Run("Reopen", h.reopen)
	}
}

// inTime runs test in a synctest bubble if the cache supports it.
func (h Harness) inTime(test func(*testing.T)) func(*testing.T) {
	if !h.Synctest {
		return test
	}
	return func(t *testing.T) { synctest.Test(t, test) }
}

func (h Harness) open(t *testing.T, o dedupe.Options) dedupe.Cache {
	t.Helper()
	c := h.New(t, o)
	t.Cleanup(func() { c.Close() })
	return c
}

// openTwo returns two caches on one storage, or the same cache twice if the harness has no Peer.
func (h Harness) openTwo(t *testing.T, o dedupe.Options) (c, peer dedupe.Cache) {
	t.Helper()
	c = h.open(t, o)
	if h.Peer == nil {
		return c, c
	}
	peer = h.Peer(t, c, o)
	t.Cleanup(func() { peer.Close() })
	return c, peer
}

// owner is the owner of claims in tests with a single owner.
const owner = "one"

func begin(t *testing.T, c dedupe.Cache, key string, want dedupe.Verdict) dedupe.Claim {
	t.Helper()
	return beginAs(t, c, key, owner, want)
}

func beginAs(t *testing.T, c dedupe.Cache, key, owner string, want dedupe.Verdict) dedupe.Claim {
	t.Helper()
	claim, got, err := c.Begin(t.Context(), key, owner)
	if err != nil {
		t.Fatalf("Begin(%.40q): %v", key, err)
	}
	if got != want {
		t.Fatalf("Begin(%.40q): %v, want %v", key, got, want)
	}
	switch {
	case got == dedupe.Duplicate:
		if claim != (dedupe.Claim{}) {
			t.Fatalf("Begin(%.40q): a duplicate with %+v", key, claim)
		}
	case claim.Key != key, claim.Token == 0, claim.Token > math.MaxInt64:
		t.Fatalf("Begin(%.40q): invalid claim %+v", key, claim)
	case got == dedupe.Fresh && claim.Owner != owner:
		t.Fatalf("Begin(%.40q): owner %q, want %q", key, claim.Owner, owner)
	}
	return claim
}

func commit(t *testing.T, c dedupe.Cache, claim dedupe.Claim) {
	t.Helper()
	if err := c.Commit(t.Context(), claim); err != nil {
		t.Fatalf("Commit(%.40q): %v", claim.Key, err)
	}
}

func abort(t *testing.T, c dedupe.Cache, claim dedupe.Claim) {
	t.Helper()
	if err := c.Abort(t.Context(), claim); err != nil {
		t.Fatalf("Abort(%.40q): %v", claim.Key, err)
	}
}

// wantLost tests that err is a ClaimLostError that names the holder, or reports that the key was
// committed.
func wantLost(t *testing.T, what string, err error, holder dedupe.Claim, committed bool) {
	t.Helper()
	var lost *dedupe.ClaimLostError
	if !errors.As(err, &lost) || !errors.Is(err, dedupe.ErrClaimLost) {
		t.Fatalf("%s: %v, want ClaimLostError", what, err)
	}
	if lost.Holder.Token != 0 && lost.Holder.Token != holder.Token || committed != lost.Committed {
		t.Fatalf("%s: %+v, want holder %+v, committed %v", what, lost, holder, committed)
	}
}
