package dedupetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// Harness says how to make the caches under test and which promises to hold them
// to. The suite closes every cache it gets.
type Harness struct {
	// New returns an empty cache. Required.
	New func(t *testing.T, o dedupe.Options) dedupe.Cache

	// Reopen, if set, opens again what a cache kept: the suite has committed keys
	// and closed it. It proves that commits outlive the process.
	Reopen func(t *testing.T, closed dedupe.Cache, o dedupe.Options) dedupe.Cache

	// Bounded says that Options.Capacity and Options.MaxInFlight hold exactly.
	Bounded bool

	// Synctest says that the cache may run in a testing/synctest bubble, so that
	// Options.TTL can be tested without waiting.
	Synctest bool
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Run("Lifecycle", h.lifecycle)
	t.Run("Misuse", h.misuse)
	t.Run("Keys", h.keys)
	t.Run("Closed", h.closed)
	t.Run("OneWinner", h.oneWinner)
	t.Run("Counters", h.counters)
	if h.Bounded {
		t.Run("Capacity", h.capacity)
		t.Run("OnEvictMayCall", h.onEvictMayCall)
		t.Run("MaxInFlight", h.maxInFlight)
	}
	if h.Synctest {
		t.Run("TTL", func(t *testing.T) { synctest.Test(t, h.ttl) })
	}
	if h.Reopen != nil {
		t.Run("Reopen", h.reopen)
	}
}

func (h Harness) open(t *testing.T, o dedupe.Options) dedupe.Cache {
	t.Helper()
	c := h.New(t, o)
	t.Cleanup(func() { c.Close() })
	return c
}

func (h Harness) lifecycle(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "a", dedupe.InFlight)
	begin(t, c, "b", dedupe.Fresh)
	abort(t, c, "a")
	begin(t, c, "a", dedupe.Fresh)
	commit(t, c, "a")
	begin(t, c, "a", dedupe.Duplicate)
	begin(t, c, "b", dedupe.InFlight)
	commit(t, c, "b")
	begin(t, c, "b", dedupe.Duplicate)
	begin(t, c, "a", dedupe.Duplicate)
}

func (h Harness) misuse(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	if err := c.Commit("never begun"); !errors.Is(err, dedupe.ErrNoClaim) {
		t.Errorf("Commit without Begin: %v, want ErrNoClaim", err)
	}
	begin(t, c, "never begun", dedupe.Fresh)
	abort(t, c, "never begun")
	if err := c.Commit("never begun"); !errors.Is(err, dedupe.ErrNoClaim) {
		t.Errorf("Commit after Abort: %v, want ErrNoClaim", err)
	}
	abort(t, c, "unknown")
	begin(t, c, "done", dedupe.Fresh)
	commit(t, c, "done")
	commit(t, c, "done")
	abort(t, c, "done")
	begin(t, c, "done", dedupe.Duplicate)
}

func (h Harness) keys(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	if _, err := c.Begin(""); !errors.Is(err, dedupe.ErrEmptyKey) {
		t.Errorf("empty key: %v, want ErrEmptyKey", err)
	}
	if _, err := c.Begin(strings.Repeat("x", dedupe.MaxKeyBytes+1)); !errors.Is(err, dedupe.ErrKeyTooLong) {
		t.Errorf("long key: %v, want ErrKeyTooLong", err)
	}
	for _, key := range []string{
		strings.Repeat("x", dedupe.MaxKeyBytes), " ", "a\x00b", "a\x00c", "\xff\xfe", "ключ", "a/b+#", "A", "a",
	} {
		begin(t, c, key, dedupe.Fresh)
		commit(t, c, key)
		begin(t, c, key, dedupe.Duplicate)
	}
}

func (h Harness) closed(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	begin(t, c, "a", dedupe.Fresh)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	_, err := c.Begin("b")
	for verb, err := range map[string]error{"Begin": err, "Commit": c.Commit("a"), "Abort": c.Abort("a")} {
		if !errors.Is(err, dedupe.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", verb, err)
		}
	}
	c.Stats()
}

// oneWinner lets many handle the same messages at once, some of them failing at
// first: each message must have its effect once.
func (h Harness) oneWinner(t *testing.T) {
	const keys, workers = 40, 8
	c := h.open(t, dedupe.Options{})
	var effects, holders [keys]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range keys {
				key := fmt.Sprintf("key %d", i)
				for tries := 0; ; {
					v, err := c.Begin(key)
					if err != nil {
						t.Errorf("Begin(%s): %v", key, err)
						return
					}
					if v == dedupe.Duplicate {
						break
					}
					if v == dedupe.InFlight {
						continue
					}
					if n := holders[i].Add(1); n != 1 {
						t.Errorf("%s: %d hold the claim", key, n)
					}
					if tries++; tries == 1 && (i+w)%3 == 0 {
						holders[i].Add(-1)
						if err := c.Abort(key); err != nil {
							t.Errorf("Abort(%s): %v", key, err)
						}
						continue
					}
					effects[i].Add(1)
					holders[i].Add(-1)
					if err := c.Commit(key); err != nil {
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
	begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "a", dedupe.InFlight)
	commit(t, c, "a")
	begin(t, c, "a", dedupe.Duplicate)
	begin(t, c, "b", dedupe.Fresh)
	abort(t, c, "b")
	s := c.Stats()
	if s.Size != 1 || s.Fresh != 2 || s.InFlight != 1 || s.Duplicates != 1 {
		t.Errorf("Stats %+v, want Size 1, Fresh 2, InFlight 1, Duplicates 1", s)
	}
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
		begin(t, c, key, dedupe.Fresh)
		commit(t, c, key)
	}
	begin(t, c, "claim", dedupe.InFlight) // never evicted
	for i := 2; i < 5; i++ {
		begin(t, c, fmt.Sprint(i), dedupe.Duplicate)
	}
	begin(t, c, "0", dedupe.Fresh)
	if got := strings.Join(evicted, ", "); got != "0 capacity, 1 capacity" {
		t.Errorf("OnEvict heard %q", got)
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
			key := fmt.Sprint("from OnEvict ", calls)
			begin(t, c, key, dedupe.Fresh)
			commit(t, c, key)
		}
	}})
	for i := range 3 {
		key := fmt.Sprint(i)
		begin(t, c, key, dedupe.Fresh)
		commit(t, c, key)
	}
	if calls != 4 {
		t.Errorf("%d evictions, want 4", calls)
	}
}

func (h Harness) maxInFlight(t *testing.T) {
	c := h.open(t, dedupe.Options{MaxInFlight: 2})
	begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "b", dedupe.Fresh)
	_, err := c.Begin("c")
	var full *dedupe.InFlightError
	if !errors.As(err, &full) || full.Limit != 2 || !errors.Is(err, dedupe.ErrTooManyInFlight) {
		t.Fatalf("third claim: %v, want InFlightError", err)
	}
	begin(t, c, "a", dedupe.InFlight)
	commit(t, c, "a")
	begin(t, c, "c", dedupe.Fresh)
	if _, err := c.Begin("d"); err == nil {
		t.Error("a commit gave two claims free")
	}
	abort(t, c, "b")
	begin(t, c, "d", dedupe.Fresh)
}

func (h Harness) ttl(t *testing.T) {
	c := h.open(t, dedupe.Options{TTL: time.Minute})
	begin(t, c, "claim", dedupe.Fresh)
	begin(t, c, "a", dedupe.Fresh)
	commit(t, c, "a")
	time.Sleep(30 * time.Second)
	begin(t, c, "b", dedupe.Fresh)
	commit(t, c, "b")
	time.Sleep(30*time.Second - 1)
	begin(t, c, "a", dedupe.Duplicate)
	time.Sleep(time.Nanosecond)
	begin(t, c, "a", dedupe.Fresh)
	begin(t, c, "b", dedupe.Duplicate)
	begin(t, c, "claim", dedupe.InFlight) // claims do not age
	if s := c.Stats(); s.Expired != 1 {
		t.Errorf("Stats %+v, want Expired 1", s)
	}

	forever := h.open(t, dedupe.Options{TTL: -1})
	begin(t, forever, "a", dedupe.Fresh)
	commit(t, forever, "a")
	time.Sleep(10 * 365 * 24 * time.Hour)
	begin(t, forever, "a", dedupe.Duplicate)
}

func (h Harness) reopen(t *testing.T) {
	c := h.open(t, dedupe.Options{})
	for i := range 100 {
		key := fmt.Sprint(i)
		begin(t, c, key, dedupe.Fresh)
		switch i % 4 {
		case 0: // in flight when it ends
		case 1:
			abort(t, c, key)
		default:
			commit(t, c, key)
		}
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = h.Reopen(t, c, dedupe.Options{})
		for i := range 100 {
			want := dedupe.Fresh
			if i%4 >= 2 {
				want = dedupe.Duplicate
			}
			begin(t, c, fmt.Sprint(i), want)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, c dedupe.Cache, key string, want dedupe.Verdict) {
	t.Helper()
	got, err := c.Begin(key)
	if err != nil {
		t.Fatalf("Begin(%.40q): %v", key, err)
	}
	if got != want {
		t.Fatalf("Begin(%.40q): %v, want %v", key, got, want)
	}
}

func commit(t *testing.T, c dedupe.Cache, key string) {
	t.Helper()
	if err := c.Commit(key); err != nil {
		t.Fatalf("Commit(%.40q): %v", key, err)
	}
}

func abort(t *testing.T, c dedupe.Cache, key string) {
	t.Helper()
	if err := c.Abort(key); err != nil {
		t.Fatalf("Abort(%.40q): %v", key, err)
	}
}
