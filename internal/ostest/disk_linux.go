package ostest

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// requireMounts is an environment variable. If it is 1, SmallDisk fails where it would skip.
const requireMounts = "MOORING_REQUIRE_MOUNTS"

func mount(t testing.TB) (dir string) {
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m")
	if errors.Is(err, syscall.EPERM) && os.Getenv(requireMounts) != "1" {
		t.Skip("this process may not mount a file system: run it as root, or set " + requireMounts + "=1 to make this a failure")
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
