package dedupe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// commitNow claims and commits a key.
func commitNow(t *testing.T, f *File, key string) error {
	t.Helper()
	c, status, err := f.Begin(context.Background(), key, "owner")
	if err != nil || status != Fresh {
		t.Fatalf("Begin returned %v, %v", status, err)
	}
	return f.Commit(context.Background(), c)
}

// holds checks that the log at path contains the keys.
func holds(t *testing.T, path string, keys ...string) {
	t.Helper()
	f, err := OpenFile(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, key := range keys {
		if _, status, err := f.Begin(context.Background(), key, "other"); status != Duplicate || err != nil {
			t.Errorf("%s is %v, %v; want a Duplicate", key, status, err)
		}
	}
}

// TestFile_RemovedLogIsWrittenAgain checks that keys committed before and after the removal are
// found.
func TestFile_RemovedLogIsWrittenAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not remove open files")
	}
	for what, remove := range map[string]func(path string) error{
		"the log":           os.Remove,
		"the log, moved":    func(path string) error { return os.Rename(path, path+".old") },
		"log and lock file": func(path string) error { return errors.Join(os.Remove(path), os.Remove(path+".lock")) },
		"the lock file":     func(path string) error { return os.Remove(path + ".lock") },
	} {
		t.Run(what, func(t *testing.T) {
			path := testPath(t)
			f := openOn(t, path, fsys.OS, Options{})
			if err := errors.Join(commitNow(t, f, "a"), remove(path), commitNow(t, f, "b"), commitNow(t, f, "c")); err != nil {
				t.Fatal(err)
			}
			_, err := OpenFile(path, Options{})
			if locked := (*LockedError)(nil); !errors.As(err, &locked) {
				t.Errorf("a second File was opened: %v", err)
			}
			if err := commitNow(t, f, "d"); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			holds(t, path, "a", "b", "c", "d")
		})
	}
}

// TestFile_SecondOpenerAfterTheLockFileWasRemoved checks that the lock of the log itself refuses a
// second opener, even after the log was rewritten.
func TestFile_SecondOpenerAfterTheLockFileWasRemoved(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not remove open files")
	}
	path := testPath(t)
	f := openOn(t, path, fsys.OS, Options{})
	for _, rewrite := range []bool{false, true} {
		if rewrite {
			f.writer <- struct{}{}
			err := f.rewrite()
			<-f.writer
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(path + ".lock"); err != nil {
			t.Fatal(err)
		}
		_, err := OpenFile(path, Options{})
		var locked *LockedError
		if !errors.As(err, &locked) || locked.Path != path {
			t.Errorf("rewritten: %v: the second File: %v", rewrite, err)
		}
	}
}

// TestFile_ReplacedLogIsLeftAlone checks that a file that replaces the log is not changed.
func TestFile_ReplacedLogIsLeftAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not replace open files")
	}
	for _, sync := range []Sync{SyncEach, SyncNever} {
		path := testPath(t)
		f := openOn(t, path, fsys.OS, Options{Sync: sync})
		if err := commitNow(t, f, "a"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path+".other", []byte("other"), 0o600), os.Rename(path+".other", path)); err != nil {
			t.Fatal(err)
		}
		err := commitNow(t, f, "b")
		for end := time.Now().Add(10 * time.Second); sync == SyncNever && err == nil && time.Now().Before(end); { // within lookAfter
			err = commitNow(t, f, time.Now().String())
		}
		var failed *CommitError
		var gone *fsys.GoneError
		if !errors.As(err, &failed) || !errors.As(err, &gone) || gone.Name != path || !gone.Replaced {
			t.Errorf("sync %v: Commit returned %v", sync, err)
		}
		if err := f.Close(); !errors.As(err, &gone) {
			t.Errorf("sync %v: Close returned %v", sync, err)
		}
		if b, err := os.ReadFile(path); string(b) != "other" || err != nil {
			t.Errorf("sync %v: the other file has %q, %v", sync, b, err)
		}
	}
}

// TestFile_MovedFolder checks that commits fail while the folder is moved away.
func TestFile_MovedFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not move folders of open files")
	}
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keys")
	f := openOn(t, path, fsys.OS, Options{})
	if err := errors.Join(commitNow(t, f, "a"), os.Rename(dir, dir+".away")); err != nil {
		t.Fatal(err)
	}
	if failed := (*CommitError)(nil); !errors.As(commitNow(t, f, "b"), &failed) {
		t.Error("a commit into nowhere")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(commitNow(t, f, "c"), f.Close()); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "a", "b", "c")
}
