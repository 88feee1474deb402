package ostest

import (
	"errors"
	"syscall"
	"testing"
)

func mount(t testing.TB) (dir string) {
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m")
	if errors.Is(err, syscall.EPERM) {
		Missing(t, "MOORING_REQUIRE_MOUNTS", "the right to mount a file system; run the test as root")
	}
	if err != nil {
		t.Fatal("mount: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
