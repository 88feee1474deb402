package persistence

import (
	"fmt"
	"syscall"
	"testing"
)

// TestRemovalFails checks that the log retries the removal of a file, and that a failed removal
// does no harm.
func TestRemovalFails(t *testing.T) {
	fsys := newMemFS()
	fsys.fault = func(op, _ string, n int) (int, error) {
		if op == "remove" {
			return 0, fmt.Errorf("in use: %w", syscall.EBUSY)
		}
		return n, nil
	}
	l := open(t, fsys, small)
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Stats(); s.Segments < 10 {
		t.Fatalf("%d segments, though none can be removed", s.Segments)
	}
	fsys.fault = nil
	if _, err := Append(l, numbered(101, 500)); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Segments > 2 || s.DiskBytes > 3*small.Files.SegmentBytes {
		t.Fatalf("not removed: %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRemovalWhileReading checks a segment that Next has open when its last message ends.
func TestRemovalWhileReading(t *testing.T) {
	l := open(t, newMemFS(), small)
	defer l.Close()
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
	}
	var e Entry
	for range 100 {
		if ok, err := l.Next(&Cursor{0}, &e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		before := l.Stats().Segments
		if err := l.Done(e.Seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		last := e.Seq == l.state.catalog.Segments[0].End()-1
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if last && before > 3 && l.Stats().Segments >= before {
			t.Fatalf("the segment that ended with %d is still there", e.Seq)
		}
	}
}
