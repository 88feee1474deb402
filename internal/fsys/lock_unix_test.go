//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A child process that is being started has all descriptors of its parent until it calls exec.
func TestLock_ReleasedDespiteChildDescriptor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock, err := Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(lock.(*held).file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
	if _, err := Lock(name); err == nil {
		t.Error("the file is not locked")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// guarded returns a lock that guards its folder.
func guarded(t *testing.T) (h Held, dir, name string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "folder")
	mustDo(t, os.Mkdir(dir, 0o700))
	name = filepath.Join(dir, "LOCK")
	h, err := Lock(name)
	mustDo(t, err)
	mustDo(t, h.Guard(dir, dir))
	t.Cleanup(func() { _ = h.Close() })
	return h, dir, name
}

// A process that has removed the lock file must fail to lock the guarded folder.
func TestLock_RefusesAfterLockFileRemoval(t *testing.T) {
	for range 2 { // the second time after Check has created the lock file again
		h, dir, name := guarded(t)
		mustDo(t, os.Remove(name))
		other, err := Lock(name)
		mustDo(t, err)
		var locked *LockedError
		if err := other.Guard(dir, dir); !errors.As(err, &locked) || locked.Name != dir || locked.PID != os.Getpid() && locked.PID != 0 {
			t.Errorf("the folder is guarded, and Guard returned %v", err)
		}
		if err := h.Check(); err != nil { // the other holder has the lock file
			t.Errorf("Check returned %v", err)
		}
		mustDo(t, other.Close(), h.Check())
		if _, err := Lock(name); !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("Check has not locked the new lock file: %v", err)
		}
		mustDo(t, h.Close())
		again, err := Lock(name)
		mustDo(t, err)
		mustDo(t, again.Guard(dir, dir), again.Close())
	}
}

func TestLock_CheckNotices(t *testing.T) {
	for what, tt := range map[string]struct {
		do       func(dir, name string) error
		replaced bool
	}{
		"a removed folder": {func(dir, _ string) error { return os.RemoveAll(dir) }, false},
		"a moved folder":   {func(dir, _ string) error { return os.Rename(dir, dir+".old") }, false},
		"another folder":   {func(dir, _ string) error { return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700)) }, true},
		"a file as a parent folder": {func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.WriteFile(dir, nil, 0o600))
		}, true},
	} {
		h, dir, name := guarded(t)
		mustDo(t, h.Check(), tt.do(dir, name))
		var gone *GoneError
		if err := h.Check(); !errors.As(err, &gone) || gone.Name != dir || gone.Replaced != tt.replaced || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Without a guard, it is unknown who has used the folder meanwhile.
	name := filepath.Join(t.TempDir(), "LOCK")
	h, err := Lock(name)
	mustDo(t, err)
	defer h.Close()
	mustDo(t, h.Check(), os.Remove(name))
	var gone *GoneError
	if err := h.Check(); !errors.As(err, &gone) || gone.Name != name {
		t.Errorf("a removed lock file that guards nothing: %v", err)
	}
}

// A guarded file is replaced while it is locked.
func TestLock_GuardReplacedFile(t *testing.T) {
	dir := t.TempDir()
	data, next := filepath.Join(dir, "data"), filepath.Join(dir, "data.new")
	mustDo(t, os.WriteFile(data, nil, 0o600), os.WriteFile(next, nil, 0o600))
	h, err := Lock(filepath.Join(dir, "data.lock"))
	mustDo(t, err)
	defer h.Close()
	mustDo(t, h.Guard(data, data), h.Check(), h.Guard(data, next))
	refused := func(when string) {
		t.Helper()
		f, err := os.Open(data)
		mustDo(t, err)
		defer f.Close()
		if err := flock(f); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("%s the file is not locked: %v", when, err)
		}
	}
	refused("before the renaming")
	mustDo(t, os.Rename(next, data))
	refused("after the renaming")
	mustDo(t, h.Check())
	refused("after Check")
}

func TestFile_SyncNoticesRemovalAndReplacement(t *testing.T) {
	for what, tt := range map[string]struct {
		do       func(name string) error
		replaced bool
	}{
		"removed": {os.Remove, false},
		"moved":   {func(name string) error { return os.Rename(name, name+".old") }, false},
		"replaced": {func(name string) error {
			return errors.Join(os.WriteFile(name+".new", nil, 0o600), os.Rename(name+".new", name))
		}, true},
		"folder moved": {func(name string) error { return os.Rename(filepath.Dir(name), filepath.Dir(name)+".old") }, false},
	} {
		dir := filepath.Join(t.TempDir(), "folder")
		name := filepath.Join(dir, "file")
		mustDo(t, os.Mkdir(dir, 0o700))
		f, err := OS.Create(name)
		mustDo(t, err)
		defer f.Close()
		mustDo(t, f.Sync(), CheckFile(f), tt.do(name))
		for call, err := range map[string]error{"Sync": f.Sync(), "CheckFile": CheckFile(f)} {
			var gone *GoneError
			if !errors.As(err, &gone) || gone.Name != name || gone.Replaced != tt.replaced {
				t.Errorf("%s, %s: %v", what, call, err)
			}
		}
	}
}
