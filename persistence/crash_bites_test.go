package persistence

import (
	"hash/crc32"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// TestCrashStatesBite takes away one sync at a time, then the checksums, and
// wants a violation each time: what is explored would not go unnoticed.
func TestCrashStatesBite(t *testing.T) {
	type op = faultfs.Op
	for _, c := range []struct {
		name     string
		workload string // that finds it soon
		lie      func(syncing, op) bool
	}{
		{"commits are not synced", "publish", func(s syncing, o op) bool { return o.Kind == faultfs.Sync && s.own && s.synced }},
		{"openings of segments are not synced", "publish", func(s syncing, o op) bool { return o.Kind == faultfs.Sync && s.own && !s.synced }},
		{"segments that were found are not synced", "never, larger segments", func(s syncing, o op) bool { return o.Kind == faultfs.Sync && !s.own }},
		{"names of new segments are not synced", "publish", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.Create }},
		{"names that were found are not synced", "huge packets", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.SyncDir }},
		{"removals are not synced", "ack", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.Remove }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bites(t, c.workload, func() func(op) bool { return newLiar(c.lie) })
		})
	}
	t.Run("checksums are not checked", func(t *testing.T) {
		table := castagnoli
		castagnoli = new(crc32.Table) // every checksum is the same
		defer func() { castagnoli = table }()
		bites(t, "publish", nil)
	})
}

// bites wants a violation.
func bites(t *testing.T, workload string, lie func() func(faultfs.Op) bool) {
	for _, w := range crashWorkloads {
		if w.name != workload {
			continue
		}
		states := 0
		for want := 1000; want < 100_000; want *= 4 { // more and more thoroughly
			x := &explorer{w: w, want: want, lie: lie}
			err := x.explore()
			states += len(x.distinct)
			if err != nil {
				what, _, _ := strings.Cut(err.Error(), "\n")
				t.Logf("found after %d states: %s", states, what)
				return
			}
		}
		t.Fatalf("nothing was found in %d states", states)
	}
	t.Fatalf("there is no workload %q", workload)
}

// syncing is what a sync is about.
type syncing struct {
	own    bool         // the file was created on this file system, not found there
	synced bool         // and synced before
	last   faultfs.Kind // what was done to the folder before: Create, Remove or SyncDir
}

// newLiar follows a file system and asks lie about its syncs.
func newLiar(lie func(syncing, faultfs.Op) bool) func(faultfs.Op) bool {
	own, synced, last := map[string]bool{}, map[string]bool{}, faultfs.SyncDir
	return func(op faultfs.Op) bool {
		switch op.Kind {
		case faultfs.Create:
			own[op.Name], last = true, faultfs.Create
		case faultfs.Remove:
			last = faultfs.Remove
		case faultfs.Sync:
			defer func() { synced[op.Name] = true }()
			return lie(syncing{own[op.Name], synced[op.Name], last}, op)
		case faultfs.SyncDir:
			defer func() { last = faultfs.SyncDir }()
			return lie(syncing{last: last}, op)
		}
		return false
	}
}
