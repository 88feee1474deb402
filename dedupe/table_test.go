package dedupe

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The age of a key that is in the log twice is that of its last commit.
func TestFile_RepeatedKeyInTheLog(t *testing.T) {
	d, path := newFaultDisk(), testPath(t)
	f := openOn(t, path, d, Options{Capacity: 2})
	for _, key := range []string{"one", "two", "three", "one"} {
		handle(t, f, key)
	}
	f.Close()
	f = openOn(t, path, d, Options{Capacity: 3})
	handle(t, f, "four")
	want(t, f, "one", Duplicate)
	want(t, f, "three", Duplicate)
	want(t, f, "two", Fresh)
}

// A recovered key survives a power failure, even if the process that was killed had
// not synced it.
func TestOpenFile_SyncsRecoveredKeys(t *testing.T) {
	d, path := newFaultDisk(), testPath(t)
	f := openOn(t, path, d, Options{Sync: SyncNever})
	handle(t, f, "a")
	f.lock.Close() // killed
	g := openOn(t, path, d, Options{Sync: SyncNever})
	want(t, g, "a", Duplicate)
	after := d.powerCut(0, true)
	g.Close()
	want(t, openOn(t, path, after, Options{}), "a", Duplicate)
}

// Close writes a batch that no Commit has written yet.
func TestFile_CloseWritesAnOpenBatch(t *testing.T) {
	f := openOn(t, testPath(t), newFaultDisk(), Options{})
	a := want(t, f, "a", Fresh)
	f.table.beginCommit(&a)
	b := &batch{keys: []pending{{a.Key, a.Token}}, done: make(chan struct{})}
	f.open = b
	f.Close()
	select {
	case <-b.done:
	default:
		t.Fatal("the commit waits indefinitely")
	}
}

// TestTable_Model compares the table with a list and a map.
func TestTable_Model(t *testing.T) {
	type entry struct {
		key string
		at  time.Duration
	}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		capacity, ttl, limit, keys := 5, time.Duration(20), 3, 12
		if seed%2 == 1 { // the table grows while claims are held
			capacity, ttl, limit, keys = 60, 200, 90, 150
		}
		tab := newTable(Options{Capacity: capacity, MaxBytes: 1 << 20, TTL: ttl, MaxInFlight: limit})
		tab.token = rnd.Uint64N(64) // so that each slot is in use when the table grows
		var committed []entry       // oldest first
		claims := map[string]Claim{}
		now := time.Duration(0)
		for step := range 600 {
			now += time.Duration(rnd.IntN(3))
			for len(committed) > 0 && now-committed[0].at >= ttl {
				committed = committed[1:]
			}
			key := fmt.Sprint(rnd.IntN(keys))
			switch rnd.IntN(3) {
			case 0:
				want := Fresh
				for _, e := range committed {
					if e.key == key {
						want = Duplicate
					}
				}
				if _, held := claims[key]; held {
					want = InFlight
				}
				var claim Claim
				tab.expire(now)
				got, err := tab.begin(&claim, key, owner, now)
				if want == Fresh && len(claims) == limit {
					if err == nil {
						t.Fatalf("seed %d step %d: a claim beyond the limit", seed, step)
					}
					continue
				}
				if got != want || err != nil {
					t.Fatalf("seed %d step %d: begin(%s) %v %v, want %v", seed, step, key, got, err, want)
				}
				if want == Fresh {
					claims[key] = claim
				}
			case 1:
				if claim, ok := claims[key]; ok {
					held, err := tab.beginCommit(&claim)
					if !held || err != nil {
						t.Fatalf("seed %d step %d: the claim on %s is not held: %v", seed, step, key, err)
					}
					tab.commit(pending{key, claim.Token}, now)
					delete(claims, key)
					if committed = append(committed, entry{key, now}); len(committed) > capacity {
						committed = committed[1:]
					}
				}
			case 2:
				if claim, ok := claims[key]; ok {
					if err := tab.abort(claim); err != nil {
						t.Fatalf("seed %d step %d: abort(%s): %v", seed, step, key, err)
					}
					delete(claims, key)
				}
			}
			tab.expire(now)
			if s := tab.snapshot(); s.Size != len(committed) || s.Claims != len(claims) {
				t.Fatalf("seed %d step %d: %+v, want %d committed and %d claims", seed, step, s, len(committed), len(claims))
			}
		}
	}
}
