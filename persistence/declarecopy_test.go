package persistence

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// TestDeclareCopy checks that a declared copy has a new epoch and no session, and that it keeps or
// drops its messages.
func TestDeclareCopy(t *testing.T) {
	disk := newMemFS()
	l := open(t, disk, Options{})
	for range 2 {
		if _, err := Append(l, numbered(l.LastSeq()+1, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.ResetSession("c"), l.SetSent(Normal, 1), l.Release(1), l.Seen(7, 7), l.Sync()); err != nil {
		t.Fatal(err)
	}
	if err := DeclareCopy("log", Options{FS: disk}, KeepPending); !errors.As(err, new(*LockedError)) {
		t.Errorf("in use: %v", err)
	}
	epoch := l.Epoch()
	l.Close()
	for _, pending := range []CopyPending{KeepPending, DropPending} {
		if err := DeclareCopy("log", Options{FS: disk}, pending); err != nil {
			t.Fatal(err)
		}
		l = open(t, disk, Options{})
		_, known := l.Session()
		s := l.Stats()
		if l.Renewal() != Continued || l.Epoch() <= epoch || known || len(l.Released()) > 0 || len(l.SeenIDs()) > 0 || l.Sent(Normal) != 2 {
			t.Errorf("%v, epoch %d after %d, session %t, released %v, seen %v, sent up to %d", l.Renewal(), l.Epoch(), epoch, known, l.Released(), l.SeenIDs(), l.Sent(Normal))
		}
		if want := uint64(pending) * 2; s.Dropped != want || s.Pending != 2-want {
			t.Errorf("choice %d: %+v", pending, s)
		}
		epoch = l.Epoch()
		l.Close()
	}
	var option *OptionError
	if err := DeclareCopy("log", Options{FS: disk}, DropPending+1); !errors.As(err, &option) {
		t.Errorf("a choice that does not exist: %v", err)
	}
	var folder *FolderError
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "missing")} {
		if err := DeclareCopy(dir, Options{}, KeepPending); !errors.As(err, &folder) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if left, err := os.ReadDir(empty); len(left) > 0 || err != nil {
		t.Errorf("%v were created, %v", left, err)
	}
}

// TestDeclareCopy_CrashStates checks that a crash at any moment leaves either the log as it was or
// the declared copy.
func TestDeclareCopy_CrashStates(t *testing.T) {
	for _, n := range []uint64{2, 200} { // with few messages, the opening writes all of them again; with many, the old segment stays
		disk := newMemFS()
		l := open(t, disk, Options{Files: Files{SegmentBytes: 64 << 10, BufferBytes: 4 << 10}})
		for seq := uint64(1); seq <= n; seq++ {
			if _, err := Append(l, numbered(seq, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(l.ResetSession("c"), l.Release(1), l.Sync(), l.Close()); err != nil {
			t.Fatal(err)
		}
		epoch := l.Epoch()
		disk = disk.killed()
		if err := DeclareCopy("log", Options{FS: disk, Files: small.Files}, KeepPending); err != nil {
			t.Fatal(err)
		}
		disk.Kill()
		before, after := 0, 0
		for state := range disk.Trace().States(faultfs.Plan{PerCut: 40}) {
			l := open(t, onMemFS(state.FS()), Options{})
			seqs, released := contents(t, l)
			_, known := l.Session()
			copied := l.Epoch() > epoch
			if uint64(len(seqs)) != n || known == copied || (len(released) == 0) != copied || state.Cut == disk.Len() && !copied {
				t.Fatalf("%d pending, %v released, epoch %d after %d, session %t\n%v", len(seqs), released, l.Epoch(), epoch, known, state)
			}
			if copied {
				after++
			} else {
				before++
			}
			l.Close()
		}
		if before == 0 || after == 0 {
			t.Errorf("%d states before, %d after", before, after)
		}
	}
}
