package inspect_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// TestOpen_ReadOnly checks that Open opens no file of the folder for writing, so read permission
// suffices. It checks the open files, because permissions do not restrict root.
func TestOpen_ReadOnly(t *testing.T) {
	dir := t.TempDir()
	l, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := persistence.Append(l, numbered(1, 10)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(segment.Name(dir, 1), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	look(t, dir, nil)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || filepath.Dir(target) != dir {
			continue
		}
		files++
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(info), "flags:")
		flags, err := strconv.ParseUint(strings.Fields(rest)[0], 8, 64)
		if err != nil || flags&syscall.O_ACCMODE != syscall.O_RDONLY {
			t.Error(fmt.Sprintf("%s is open with flags %o", target, flags), err)
		}
	}
	if files != 1 {
		t.Errorf("%d files are open, want the segment", files)
	}
}
