package dedupetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// Harness creates the caches under test and states which optional promises they
// make. The suite closes every cache that it gets.
type Harness struct {
	// New returns an empty cache with its own storage. Required.
	New func(t *testing.T, o dedupe.Options) dedupe.Cache

	// Peer, if set, returns another cache on the same storage, as another process
	// would open it. The suite then uses it for every second owner.
	Peer func(t *testing.T, c dedupe.Cache, o dedupe.Options) dedupe.Cache

	// Reopen, if set, opens the storage of a closed cache again. The suite then tests
	// that commits and tokens survive the process.
	Reopen func(t *testing.T, closed dedupe.Cache, o dedupe.Options) dedupe.Cache

	// Bounded states that Options.Capacity and Options.MaxInFlight are exact.
	Bounded bool

	// Synctest states that the cache works in a testing/synctest bubble. The suite
	// then tests times without waiting, including Options.TTL.
	Synctest bool

	// Lease is the lease for tests that wait for its end: without Synctest in real
	// time. Default one minute with Synctest, otherwise two seconds.
	Lease time.Duration
}

// Run runs the suite.
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

// inTime runs test in a bubble if the cache allows it.
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

// openTwo returns two caches on one storage, or the same cache twice.
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

func (h Harness) lifecycle(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	a := begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "a", dedupe.InFlight)
	b := begin(t, c, "b", dedupe.Fresh)
	abort(t, c, a)
	a = begin(t, c, "a", dedupe.Fresh)
	commit(t, c, a)
	begin(t, c, "a", dedupe.Duplicate)
	begin(t, c, "b", dedupe.InFlight)
	commit(t, c, b)
	begin(t, c, "b", dedupe.Duplicate)
	begin(t, c, "a", dedupe.Duplicate)
}

func (h Harness) misuse(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	never := dedupe.Claim{Key: "never begun", Owner: owner, Token: 1}
	wantLost(t, "Commit without Begin", c.Commit(t.Context(), never), dedupe.Claim{}, false)
	wantLost(t, "Commit of the zero Claim", c.Commit(t.Context(), dedupe.Claim{}), dedupe.Claim{}, false)
	abort(t, c, never)
	aborted := begin(t, c, "never begun", dedupe.Fresh)
	abort(t, c, aborted)
	abort(t, c, aborted)
	wantLost(t, "Commit after Abort", c.Commit(t.Context(), aborted), dedupe.Claim{}, false)
	_, err := c.Renew(t.Context(), aborted)
	wantLost(t, "Renew after Abort", err, dedupe.Claim{}, false)

	done := begin(t, c, "done", dedupe.Fresh)
	commit(t, c, done)
	commit(t, c, done)
	abort(t, c, done)
	begin(t, c, "done", dedupe.Duplicate)
}

func (h Harness) keys(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	if _, _, err := c.Begin(t.Context(), "", owner); !errors.Is(err, dedupe.ErrEmptyKey) {
		t.Errorf("empty key: %v, want ErrEmptyKey", err)
	}
	if _, _, err := c.Begin(t.Context(), strings.Repeat("x", dedupe.MaxKeyBytes+1), owner); !errors.Is(err, dedupe.ErrKeyTooLong) {
		t.Errorf("long key: %v, want ErrKeyTooLong", err)
	}
	for _, key := range []string{
		strings.Repeat("x", dedupe.MaxKeyBytes), " ", "a\x00b", "a\x00c", "\xff\xfe", "ключ", "a/b+#", "A", "a",
	} {
		commit(t, c, begin(t, c, key, dedupe.Fresh))
		begin(t, c, key, dedupe.Duplicate)
	}
}

func (h Harness) closed(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	a := begin(t, c, "a", dedupe.Fresh)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	_, _, beginErr := c.Begin(t.Context(), "b", owner)
	_, renewErr := c.Renew(t.Context(), a)
	for name, err := range map[string]error{
		"Begin": beginErr, "Renew": renewErr, "Wait": c.Wait(t.Context(), a),
		"Commit": c.Commit(t.Context(), a), "Abort": c.Abort(t.Context(), a),
	} {
		if !errors.Is(err, dedupe.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	c.Stats()
}

// oneWinner has several owners handle the same messages concurrently, with some
// failures. Each message must have its effect once.
func (h Harness) oneWinner(t *testing.T) {
	const keys, workers = 40, 8
	c, peer := h.openTwo(t, dedupe.Options{})
	var effects, holders [keys]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		c := c
		if w%2 == 1 {
			c = peer
		}
		wg.Go(func() {
			for i := range keys {
				key := fmt.Sprintf("key %d", i)
				for attempts := 0; ; {
					claim, v, err := c.Begin(t.Context(), key, fmt.Sprint("owner ", w))
					if err != nil {
						t.Errorf("Begin(%s): %v", key, err)
						return
					}
					if v == dedupe.Duplicate {
						break
					}
					if v == dedupe.InFlight {
						if err := c.Wait(t.Context(), claim); err != nil {
							t.Errorf("Wait(%s): %v", key, err)
							return
						}
						continue
					}
					if n := holders[i].Add(1); n != 1 {
						t.Errorf("%s: %d owners hold the claim", key, n)
					}
					if attempts++; attempts == 1 && (i+w)%3 == 0 {
						holders[i].Add(-1)
						if err := c.Abort(t.Context(), claim); err != nil {
							t.Errorf("Abort(%s): %v", key, err)
						}
						continue
					}
					effects[i].Add(1)
					holders[i].Add(-1)
					if err := c.Commit(t.Context(), claim); err != nil {
						t.Errorf("Commit(%s): %v", key, err)
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range effects {
		if n := effects[i].Load(); n != 1 {
			t.Errorf("key %d: %d effects, want 1", i, n)
		}
	}
}

func (h Harness) counters(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	a := begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "a", dedupe.InFlight)
	commit(t, c, a)
	begin(t, c, "a", dedupe.Duplicate)
	b := begin(t, c, "b", dedupe.Fresh)
	abort(t, c, b)
	c.Commit(t.Context(), b)
	s := c.Stats()
	if s.Fresh != 2 || s.InFlight != 1 || s.Duplicates != 1 || s.Committed != 1 || s.Aborted != 1 || s.Lost != 1 {
		t.Errorf("Stats %+v, want Fresh 2, InFlight 1, Duplicates 1, Committed 1, Aborted 1, Lost 1", s)
	}
	if h.Bounded && (s.Size != 1 || s.Claims != 0) {
		t.Errorf("Stats %+v, want Size 1, Claims 0", s)
	}
}

// context tests that a context that has ended claims nothing. Commit may still
// succeed then, but its error and the key must agree.
func (h Harness) context(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Begin(ended, "a", owner); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin with an ended context: %v, want context.Canceled", err)
	}
	a := begin(t, c, "a", dedupe.Fresh)
	if _, err := c.Renew(ended, a); !errors.Is(err, context.Canceled) {
		t.Errorf("Renew with an ended context: %v, want context.Canceled", err)
	}
	if err := c.Wait(ended, a); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with an ended context: %v, want context.Canceled", err)
	}
	if err := c.Commit(ended, a); err == nil {
		begin(t, c, "a", dedupe.Duplicate)
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("Commit with an ended context: %v, want nil or context.Canceled", err)
	}
	commit(t, c, a)
	begin(t, c, "a", dedupe.Duplicate)
}

func (h Harness) capacity(t *testing.T) {
	var evicted []string
	var c dedupe.Cache
	c = h.open(t, dedupe.Options{Capacity: 3, OnEvict: func(key string, why dedupe.Reason) {
		c.Stats() // no lock is held
		evicted = append(evicted, fmt.Sprint(key, " ", why))
	}})
	begin(t, c, "claim", dedupe.Fresh)
	for i := range 5 {
		key := fmt.Sprint(i)
		commit(t, c, begin(t, c, key, dedupe.Fresh))
	}
	begin(t, c, "claim", dedupe.InFlight) // never evicted
	for i := 2; i < 5; i++ {
		begin(t, c, fmt.Sprint(i), dedupe.Duplicate)
	}
	begin(t, c, "0", dedupe.Fresh)
	if got := strings.Join(evicted, ", "); got != "0 capacity, 1 capacity" {
		t.Errorf("OnEvict was called with %q", got)
	}
	if s := c.Stats(); s.Evicted != 2 || s.Size != 3 {
		t.Errorf("Stats %+v, want Evicted 2, Size 3", s)
	}
}

func (h Harness) onEvictMayCall(t *testing.T) {
	var c dedupe.Cache
	calls := 0
	c = h.open(t, dedupe.Options{Capacity: 2, OnEvict: func(string, dedupe.Reason) {
		if calls++; calls <= 3 { // each of these evicts one more
			commit(t, c, begin(t, c, fmt.Sprint("from OnEvict ", calls), dedupe.Fresh))
		}
	}})
	for i := range 3 {
		key := fmt.Sprint(i)
		commit(t, c, begin(t, c, key, dedupe.Fresh))
	}
	if calls != 4 {
		t.Errorf("%d evictions, want 4", calls)
	}
}

func (h Harness) maxInFlight(t *testing.T) {
	c := h.open(t, dedupe.Options{MaxInFlight: 2})
	a := begin(t, c, "a", dedupe.Fresh)
	b := begin(t, c, "b", dedupe.Fresh)
	_, _, err := c.Begin(t.Context(), "c", owner)
	var full *dedupe.InFlightError
	if !errors.As(err, &full) || full.Limit != 2 || !errors.Is(err, dedupe.ErrTooManyInFlight) {
		t.Fatalf("third claim: %v, want InFlightError", err)
	}
	begin(t, c, "a", dedupe.InFlight)
	commit(t, c, a)
	begin(t, c, "c", dedupe.Fresh)
	if _, _, err := c.Begin(t.Context(), "d", owner); err == nil {
		t.Error("one commit made room for two claims")
	}
	abort(t, c, b)
	begin(t, c, "d", dedupe.Fresh)
}

func (h Harness) ttl(t *testing.T) {
	c := h.open(t, dedupe.Options{TTL: time.Minute})
	begin(t, c, "claim", dedupe.Fresh)
	commit(t, c, begin(t, c, "a", dedupe.Fresh))
	time.Sleep(30 * time.Second)
	commit(t, c, begin(t, c, "b", dedupe.Fresh))
	time.Sleep(30*time.Second - 1)
	begin(t, c, "a", dedupe.Duplicate)
	time.Sleep(time.Nanosecond)
	begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "b", dedupe.Duplicate)
	begin(t, c, "claim", dedupe.InFlight) // claims do not age
	if s := c.Stats(); s.Expired != 1 {
		t.Errorf("Stats %+v, want Expired 1", s)
	}

	unlimited := h.open(t, dedupe.Options{TTL: -1})
	commit(t, unlimited, begin(t, unlimited, "a", dedupe.Fresh))
	time.Sleep(10 * 365 * 24 * time.Hour)
	begin(t, unlimited, "a", dedupe.Duplicate)
}

func (h Harness) reopen(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	var token uint64
	var last dedupe.Claim
	for i := range 100 {
		last = begin(t, c, fmt.Sprint(i), dedupe.Fresh)
		token = max(token, last.Token)
		switch i % 4 {
		case 0: // in flight when the cache is closed
		case 1:
			abort(t, c, last)
		default:
			commit(t, c, last)
		}
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = h.Reopen(t, c, dedupe.Options{})
		highest := token
		for i := range 100 {
			want := dedupe.Fresh
			if i%4 >= 2 {
				want = dedupe.Duplicate
			}
			claim := begin(t, c, fmt.Sprint(i), want)
			if want == dedupe.Fresh && claim.Token <= token {
				t.Fatalf("token %d after a restart, not greater than %d", claim.Token, token)
			}
			highest = max(highest, claim.Token)
		}
		token = highest
	}
	// A claim of an earlier process cannot end one of this process.
	stale := begin(t, c, "stale", dedupe.Fresh)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = h.Reopen(t, c, dedupe.Options{})
	held := begin(t, c, "stale", dedupe.Fresh)
	wantLost(t, "Commit of an earlier process", c.Commit(t.Context(), stale), held, false)
	wantLost(t, "Abort of an earlier process", c.Abort(t.Context(), stale), held, false)
	commit(t, c, held)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// owner is the owner of claims in tests of a single owner.
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

// wantLost tests that err is a ClaimLostError because of holder or of a commit.
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
