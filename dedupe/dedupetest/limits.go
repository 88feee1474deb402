package dedupetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

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
