// Package ostest brings tests to the limits of the operating system: a full file system, and a
// process without file descriptors.
package ostest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// SmallDisk mounts an empty file system of 4 MiB and returns its path. It skips the test where the
// process may not mount one. The end of the test unmounts it.
func SmallDisk(t testing.TB) (dir string) {
	t.Helper()
	return mount(t)
}

// FillDisk uses the free space of the file system that contains dir with a file, and returns a function
// that removes the file.
func FillDisk(t testing.TB, dir string) (remove func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}
