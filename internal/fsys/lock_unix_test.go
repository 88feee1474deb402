//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package fsys

import (
	"path/filepath"
	"syscall"
	"testing"
)

// A process that is being started has all descriptors until it calls exec.
func TestLock_EndsWhileAChildHasTheDescriptor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock, err := Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(lock.(held).Fd()))
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
