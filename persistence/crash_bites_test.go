package persistence

import (
	"hash/crc32"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// TestCrashStates_FindsOmittedSyncs omits one sync at a time, then checks without checksums. The
// exploration must find a violation each time. This shows that it would detect such a defect.
func TestCrashStates_FindsOmittedSyncs(t *testing.T) {
	type op = faultfs.Op
	for _, c := range []struct {
		name     string
		workload string // a workload that finds the defect soon
		lie      func(syncing, op) bool
	}{
		{"commits are not synced", "publish", func(s syncing, o op) bool { return o.Kind == faultfs.Sync && s.own && s.synced }},
		{"openings of segments are not synced", "publish", func(s syncing, o op) bool { return o.Kind == faultfs.Sync && s.own && !s.synced }},
		{"segments that were found are not synced", "never, larger segments", func(s syncing, o op) bool { return o.Kind == faultfs.Sync && !s.own }},
		{"names of new segments are not synced", "publish", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.Create }},
		{"names that were found are not synced", "huge packets", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.SyncDir }},
		{"removals are not synced", "drops", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.Remove }},
		{"the name that the reserve gets is not synced", "outages of a full disk", func(s syncing, o op) bool { return o.Kind == faultfs.SyncDir && s.last == faultfs.Rename }},
		{"receipts are not synced", "receipts", func(s syncing, o op) bool {
			return o.Kind == faultfs.Sync && strings.HasSuffix(o.Name, receipts.Suffix)
		}},
		{"names of receipts are not synced", "receipts", func(s syncing, o op) bool {
			return o.Kind == faultfs.SyncDir && s.last == faultfs.Create && strings.HasSuffix(s.name, receipts.Suffix)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bites(t, explorer{lie: func() func(op) bool { return newLiar(c.lie) }}, c.workload)
		})
	}
	// Removes a segment before the records that end or move its messages are durable.
	hasty := func(l *Log) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range l.state.catalog.Segments {
			s.Emptied = 0
		}
	}
	for _, workload := range []string{"never", "compaction, interval"} {
		t.Run("removals do not wait, "+workload, func(t *testing.T) { bites(t, explorer{meddle: hasty}, workload) })
	}
	t.Run("records are forgotten in an outage", func(t *testing.T) {
		bites(t, explorer{meddle: func(l *Log) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.pipe.outage != nil {
				l.pipe.open.buf = l.pipe.open.buf[:0]
			}
		}}, "outages")
	})
	t.Run("records of a failed write are not written after the outage", func(t *testing.T) {
		bites(t, explorer{meddle: func(l *Log) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, b := range l.pipe.held {
				b.buf = b.buf[:0]
			}
		}}, "outages")
	})
	t.Run("records of an opening in an outage are forgotten", func(t *testing.T) {
		bites(t, explorer{meddle: func(l *Log) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if x := l.folder.opening; x != nil {
				x.records = nil
			}
		}}, "outages at openings")
	})
	t.Run("Sync does not sync idle writes", func(t *testing.T) {
		bites(t, explorer{meddle: func(l *Log) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.pipe.durable = l.pipe.written
		}}, "idle")
	})
	t.Run("a lossy policy is not recorded", func(t *testing.T) {
		bites(t, explorer{meddle: func(l *Log) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.state.ledger.Writer.Lossy = false
		}}, "never, counters")
	})
	t.Run("checksums are not checked", func(t *testing.T) {
		table := record.Castagnoli
		record.Castagnoli = new(crc32.Table) // makes all checksums equal
		defer func() { record.Castagnoli = table }()
		bites(t, explorer{}, "publish")
	})
}

// bites fails the test unless the exploration finds a violation.
func bites(t *testing.T, with explorer, workload string) {
	for _, w := range crashWorkloads {
		if w.name != workload {
			continue
		}
		states := 0
		for want := 1000; want < 100_000; want *= 4 { // with more and more states
			x := with
			x.w, x.want = w, want
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

// syncing describes what a sync applies to.
type syncing struct {
	own    bool         // the file was created on this file system, not found there
	synced bool         // the file was synced before
	last   faultfs.Kind // the last operation on the folder: Create, Remove, Rename or SyncDir
	name   string       // the file of that operation
}

// newLiar watches a file system and calls lie for each of its syncs.
func newLiar(lie func(syncing, faultfs.Op) bool) func(faultfs.Op) bool {
	own, synced, last, name := map[string]bool{}, map[string]bool{}, faultfs.SyncDir, ""
	return func(op faultfs.Op) bool {
		switch op.Kind {
		case faultfs.Create:
			own[op.Name], last, name = true, faultfs.Create, op.Name
		case faultfs.Remove:
			last, name = faultfs.Remove, op.Name
		case faultfs.Rename:
			own[op.To], last, name = true, faultfs.Rename, op.To
		case faultfs.Sync:
			defer func() { synced[op.Name] = true }()
			return lie(syncing{own: own[op.Name], synced: synced[op.Name]}, op)
		case faultfs.SyncDir:
			defer func() { last = faultfs.SyncDir }()
			return lie(syncing{last: last, name: name}, op)
		}
		return false
	}
}
