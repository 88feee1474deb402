package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/ostest"
)

func TestLock_OneHolder(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	if held, _ := fsys.Holder(name); held {
		t.Fatal("a lock without a file is held")
	}
	for range 2 {
		lock, err := fsys.Lock(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fsys.OS.Lock(name)
		var locked *fsys.LockedError
		if !errors.As(err, &locked) || locked.Name != name || locked.PID != os.Getpid() {
			t.Errorf("the second Lock returned %v", err)
		}
		if held, pid := fsys.Holder(name); !held || pid != os.Getpid() {
			t.Errorf("Holder returned %v, %d", held, pid)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHolder_ReleasedLock(t *testing.T) {
	if _, err := os.Stat("/proc/locks"); err != nil {
		ostest.Missing(t, "MOORING_REQUIRE_IDENTITY", "/proc/locks, which names the process that holds a lock")
	}
	name := filepath.Join(t.TempDir(), "LOCK")
	lock, err := fsys.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if held, pid := fsys.Holder(name); held {
		t.Errorf("process %d holds a lock that was released", pid)
	}
}

func TestOS_Files(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	name := filepath.Join(dir, "file")
	if err := fsys.OS.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OS.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fsys.OS.Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second Create returned %v", err)
	}
	if err := fsys.OS.MkdirAll(filepath.Join(name, "sub")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("MkdirAll below a file returned %v", err)
	}
	if _, err := f.WriteAt([]byte("content"), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(4), f.Sync(), fsys.OS.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	if size, err := f.Size(); size != 4 || err != nil {
		t.Errorf("Size returned %d, %v", size, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if names, err := fsys.OS.ReadDir(dir); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("ReadDir returned %v, %v", names, err)
	}
	if err := fsys.OS.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Sync of a removed file returned %v", err)
	}
	if _, err := fsys.OS.Open(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a removed file returned %v", err)
	}
	if _, err := fsys.OpenReadOnly(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReadOnly of a removed file returned %v", err)
	}
}
