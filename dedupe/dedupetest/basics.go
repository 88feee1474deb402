package dedupetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mooring-mqtt/mooring/dedupe"
)

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

// oneWinner lets several owners handle the same messages concurrently. Some attempts fail. Each
// message must be handled exactly once.
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

// context tests that a call claims nothing if its context has ended. Commit may succeed in spite of
// this, but its error and the state of the key must agree.
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
