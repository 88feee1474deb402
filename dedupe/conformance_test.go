package dedupe_test

import (
	"path/filepath"
	"testing"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/dedupe/dedupetest"
)

func TestMemory_Conformance(t *testing.T) {
	dedupetest.Run(t, dedupetest.Harness{
		New:      func(t *testing.T, o dedupe.Options) dedupe.Cache { return dedupe.NewMemory(o) },
		Bounded:  true,
		Synctest: true,
	})
}

func TestFile_Conformance(t *testing.T) {
	for _, sync := range []dedupe.Sync{dedupe.SyncEach, dedupe.SyncNever} {
		paths := map[dedupe.Cache]string{}
		open := func(t *testing.T, path string, o dedupe.Options) dedupe.Cache {
			o.Sync = sync
			f, err := dedupe.OpenFile(path, o)
			if err != nil {
				t.Fatal(err)
			}
			paths[f] = path
			return f
		}
		t.Run([]string{"SyncEach", "SyncNever"}[sync], func(t *testing.T) {
			dedupetest.Run(t, dedupetest.Harness{
				New: func(t *testing.T, o dedupe.Options) dedupe.Cache {
					return open(t, filepath.Join(t.TempDir(), "keys"), o)
				},
				Reopen: func(t *testing.T, closed dedupe.Cache, o dedupe.Options) dedupe.Cache {
					return open(t, paths[closed], o)
				},
				Bounded:  true,
				Synctest: true,
			})
		})
	}
}
