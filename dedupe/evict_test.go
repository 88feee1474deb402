package dedupe_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// A key must not stay claimed by a call that panicked, because no caller holds the claim.
func TestOnEvict_PanicLeavesNoClaim(t *testing.T) {
	fail := false
	o := dedupe.Options{TTL: time.Minute, Capacity: 2, OnEvict: func(string, dedupe.Reason) {
		if fail {
			fail = false
			panic("boom")
		}
	}}
	for name, open := range map[string]func(t *testing.T) dedupe.Cache{
		"memory": func(*testing.T) dedupe.Cache { return dedupe.NewMemory(o) },
		"file": func(t *testing.T) dedupe.Cache {
			f, err := dedupe.OpenFile(filepath.Join(t.TempDir(), "keys"), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cache := open(t)
				panics := func(call func()) {
					t.Helper()
					defer func() {
						if recover() == nil {
							t.Error("OnEvict was not called")
						}
					}()
					fail = true
					call()
				}
				claim := func(key string) (c dedupe.Claim) {
					t.Helper()
					c, v, err := cache.Begin(t.Context(), key, "me")
					if err != nil || v != dedupe.Fresh {
						t.Fatalf("%v, %v; want a fresh key", v, err)
					}
					return c
				}
				commit := func(key string) {
					t.Helper()
					if err := cache.Commit(t.Context(), claim(key)); err != nil {
						t.Fatal(err)
					}
				}
				commit("a")
				time.Sleep(time.Hour)
				panics(func() { _, _, _ = cache.Begin(t.Context(), "b", "me") }) // drops a by age
				commit("b")
				commit("c")
				d := claim("d")
				panics(func() { _ = cache.Commit(t.Context(), d) }) // drops b by capacity
				if _, v, err := cache.Begin(t.Context(), "d", "me"); v != dedupe.Duplicate || err != nil {
					t.Errorf("%v, %v; want a duplicate: the key was committed", v, err)
				}
			})
		})
	}
}
