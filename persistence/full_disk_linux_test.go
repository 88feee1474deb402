package persistence

import (
	"errors"
	"syscall"
	"testing"
)

func mountSmallDisk(t *testing.T) (dir string) {
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m")
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this container may not mount a file system; TestFullDisk tests the same in memory")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
