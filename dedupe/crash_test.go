package dedupe

import (
	"errors"
	"fmt"
	"testing"
)

// TestFile_PowerFailureAtEveryOperation stops a workload after each operation on the
// disk. In every state that a power failure can leave, each key whose Commit returned
// must be a Duplicate.
func TestFile_PowerFailureAtEveryOperation(t *testing.T) {
	o := Options{Capacity: 40}
	ctx := t.Context()
	workload := func(d *faultDisk, path string, done *[]string) {
		f, err := openFile(path, o, d)
		if err != nil {
			return
		}
		defer f.lock.Close() // without Close: the power failed
		for i := range 60 {
			key := fmt.Sprintf("key %d", i)
			c, v, _ := f.Begin(ctx, key, owner)
			if v != Fresh {
				panic("not fresh")
			}
			f.mu.Lock()
			f.records += minRecords / 20 // so that the log is rewritten at times
			f.mu.Unlock()
			if f.Commit(ctx, c) != nil {
				return
			}
			*done = append(*done, key)
		}
	}
	path := testPath(t)
	whole := newFaultDisk()
	var all []string
	workload(whole, path, &all)
	if len(all) != 60 {
		t.Fatalf("the workload itself committed %d", len(all))
	}
	for cut := range whole.ops {
		d := newFaultDisk()
		var done []string
		off := false
		d.fail = func(string) error {
			if off = off || d.ops > cut; off {
				return errDisk
			}
			return nil
		}
		workload(d, path, &done)
		for _, extra := range []int{0, 1, recordHead - 1, recordHead, recordHead + 3, 1 << 20} {
			for _, oldNames := range []bool{false, true} {
				f, err := openFile(path, o, d.powerCut(extra, oldNames))
				if err != nil {
					t.Fatalf("cut %d, %d bytes more, old names %v: %v", cut, extra, oldNames, err)
				}
				for _, key := range done[max(0, len(done)-o.Capacity+1):] {
					if _, v, err := f.Begin(ctx, key, owner); v != Duplicate {
						t.Fatalf("cut %d, %d bytes more, old names %v: %s is %v %v, %d committed, stats %+v",
							cut, extra, oldNames, key, v, err, len(done), f.Stats())
					}
				}
				if s := f.Stats(); s.Corrupt != 0 {
					t.Fatalf("cut %d: a power failure was treated as corruption: %+v", cut, s)
				}
				f.Close()
			}
		}
	}
}

// After a failed write or fsync, the next commit writes a new log with all keys.
func TestFile_NextCommitRepairsAFailedWrite(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			d, path := newFaultDisk(), testPath(t)
			f := openOn(t, path, d, Options{})
			handle(t, f, "before")
			bad := d.names[f.path]

			d.fail = func(got string) error {
				if got == op {
					return errDisk
				}
				return nil
			}
			err := f.Commit(t.Context(), want(t, f, "during", Fresh))
			var ce *CommitError
			if !errors.As(err, &ce) || !errors.Is(err, errDisk) {
				t.Fatalf("Commit on a failing disk: %v, want CommitError", err)
			}
			want(t, f, "during", Duplicate) // the effect happened

			d.fail = nil
			size := len(bad.data)
			handle(t, f, "after")
			if len(bad.data) != size {
				t.Error("the failed file was written again")
			}
			if s := f.Stats(); s.WriteErrors == 0 {
				t.Errorf("Stats %+v, want WriteErrors", s)
			}
			f.Close()

			f = openOn(t, path, d.powerCut(0, false), Options{})
			for _, key := range []string{"before", "during", "after"} {
				want(t, f, key, Duplicate)
			}
		})
	}
}

// After one failed fsync, the same commit writes a new log.
func TestFile_CommitSurvivesAFailedSync(t *testing.T) {
	d, path := newFaultDisk(), testPath(t)
	f := openOn(t, path, d, Options{})
	failed := false
	d.fail = func(op string) error {
		if op == "sync" && !failed {
			failed = true
			return errDisk
		}
		return nil
	}
	handle(t, f, "a")
	if !failed {
		t.Fatal("nothing failed")
	}
	after := d.powerCut(0, true)
	f.Close()
	want(t, openOn(t, path, after, Options{}), "a", Duplicate)
}

// After a rewrite that fails after its rename, nothing is appended to the old file,
// which has no name any more.
func TestFile_RewriteThatFailsAfterRename(t *testing.T) {
	for _, op := range []string{"create", "rename", "syncdir", "open"} {
		d, path := newFaultDisk(), testPath(t)
		f := openOn(t, path, d, Options{})
		handle(t, f, "a")
		f.mu.Lock()
		f.records += 2 * minRecords // due for a rewrite
		f.mu.Unlock()
		d.fail = func(got string) error {
			if got == op {
				return errDisk
			}
			return nil
		}
		handle(t, f, "b") // durable before the rewrite failed
		d.fail = nil
		handle(t, f, "c")
		f.Close()
		after := d.powerCut(0, true)
		f = openOn(t, path, after, Options{})
		for _, key := range []string{"a", "b", "c"} {
			want(t, f, key, Duplicate)
		}
		f.Close()
	}
}

func TestFile_CloseReportsFailedCommits(t *testing.T) {
	d := newFaultDisk()
	f := openOn(t, testPath(t), d, Options{})
	a := want(t, f, "a", Fresh)
	d.fail = func(string) error { return errDisk }
	if f.Commit(t.Context(), a) == nil {
		t.Fatal("Commit on a dead disk succeeded")
	}
	if err := f.Close(); !errors.Is(err, errDisk) {
		t.Fatalf("Close: %v, want the disk's error", err)
	}
}
