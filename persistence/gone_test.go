package persistence

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// goneBed returns a log in a folder with one message.
func goneBed(t *testing.T, o Options) (*Log, string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not move or remove open files")
	}
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if _, err := Append(l, numbered(1, 50)); err != nil {
		t.Fatal(err)
	}
	return l, dir
}

// untilRefused appends messages until one is refused.
func untilRefused(t *testing.T, l *Log) (accepted int, err error) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); err == nil; accepted++ {
		if _, err = Append(l, numbered(uint64(accepted+2), 100)); err == nil && time.Now().After(end) {
			t.Fatalf("%d messages were accepted", accepted)
		}
	}
	return accepted, err
}

// TestFolderMoved moves the folder away. No message may be accepted then, and nothing may be
// written to a folder that replaces it.
func TestFolderMoved(t *testing.T) {
	for _, sync := range []SyncPolicy{SyncEveryCommit, SyncInterval, SyncNever} {
		for _, replaced := range []bool{false, true} {
			o := small
			if o.Sync = sync; sync == SyncNever { // no sync and no new segment detect it
				o.Files = Files{SegmentBytes: 1 << 30}
			}
			l, dir := goneBed(t, o)
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			var other *Log
			if replaced {
				var err error
				if other, err = Open(dir, o); err != nil {
					t.Fatal(err)
				}
				if _, err := Append(other, numbered(1, 50)); err != nil {
					t.Fatal(err)
				}
			}
			before, _ := os.ReadDir(dir)
			accepted, err := untilRefused(t, l)
			if sync == SyncEveryCommit && accepted > 1 || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("sync %v, replaced %v: %d were accepted, then %v", sync, replaced, accepted-1, err)
			}
			_ = l.Close()
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Errorf("sync %v, replaced %v: the folder in its place had %v and has %v", sync, replaced, before, after)
			}
			if replaced {
				if seqs, _ := contents(t, other); len(seqs) != 1 {
					t.Errorf("sync %v: the other log has %v", sync, seqs)
				}
				if err := other.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestFolderMovedBack checks that the log continues after the folder was moved back, and that no
// accepted message is lost.
func TestFolderMovedBack(t *testing.T) {
	l, dir := goneBed(t, small)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	accepted, err := untilRefused(t, l)
	if !errors.Is(err, ErrDegraded) {
		t.Fatalf("Append returned %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); l.Stats().Degraded; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the outage has not ended")
		}
	}
	if _, err := Append(l, numbered(100, 100)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	// The first message, the accepted ones, the one that is stored later, and the last one.
	if got := int(again.Stats().Pending); got != accepted+2 {
		t.Errorf("%d messages are pending, want %d", got, accepted+2)
	}
}

// TestSegmentGone removes or replaces the active segment. Messages that are accepted afterwards
// must be found again.
func TestSegmentGone(t *testing.T) {
	for what, do := range map[string]func(name string) error{
		"removed": os.Remove,
		"replaced": func(name string) error {
			return errors.Join(os.WriteFile(name+"x", nil, 0o600), os.Rename(name+"x", name))
		},
	} {
		l, dir := goneBed(t, Options{})
		if err := do(segment.Name(dir, l.writer.Number)); err != nil {
			t.Fatal(err)
		}
		var accepted []uint64
		for n := uint64(2); n < 10; n++ {
			if seq, err := Append(l, numbered(n, 100)); err == nil {
				accepted = append(accepted, seq)
			}
		}
		_ = l.Close()
		again, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		found := map[uint64]bool{}
		var e Entry
		for c := (Cursor{}); ; c.Pass(&e) {
			ok, err := again.Next(&c, &e)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			found[e.Seq] = true
		}
		for _, seq := range accepted {
			if !found[seq] {
				t.Errorf("%s: message %d was accepted, and is not in %v", what, seq, found)
			}
		}
		if len(accepted) < 7 {
			t.Errorf("%s: only %d of 8 messages were accepted", what, len(accepted))
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLockFileRemoved checks that a second Log is refused, and that the first one continues.
func TestLockFileRemoved(t *testing.T) {
	l, dir := goneBed(t, small)
	for range 3 {
		if err := os.Remove(filepath.Join(dir, recovery.LockName)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, small)
		var locked *LockedError
		if !errors.As(err, &locked) || locked.Dir != dir || locked.PID != os.Getpid() && locked.PID != 0 {
			t.Errorf("the second Open: %v", err)
		}
		if _, err := Append(l, numbered(2, 50)); err != nil {
			t.Fatal(err)
		}
	}
	// The log creates the lock file again.
	if err := os.Remove(filepath.Join(dir, recovery.LockName)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		if _, err := Append(l, numbered(3, 50)); err != nil {
			t.Fatal(err)
		}
		if held, _ := fsys.Holder(filepath.Join(dir, recovery.LockName)); held {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the lock file was not created again")
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
