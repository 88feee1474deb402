package persistence

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

func fileSize(t *testing.T, dir string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+segment.Suffix))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestFilledAhead checks that the active file is longer than its records, that it grows only by
// preallocation, and that Close truncates it to its records.
func TestFilledAhead(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int64]bool{}
	for i := range uint64(500) {
		if _, err := Append(l, numbered(i+1, 200)); err != nil {
			t.Fatal(err)
		}
		sizes[fileSize(t, dir)] = true
	}
	if len(sizes) > 5 {
		t.Errorf("500 appends gave the file %d sizes, want a few fillings", len(sizes))
	}
	if size := fileSize(t, dir); size <= l.writer.End {
		t.Errorf("the file ends with its records, at %d", size)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if size := fileSize(t, dir); size != l.writer.End {
		t.Errorf("closed, the file has %d bytes, its records %d", size, l.writer.End)
	}
}

// TestOpen_ZerosAreNotTorn checks that the zeros that a killed process leaves after its last record
// are the end of the log, and that other bytes there are a torn write.
func TestOpen_ZerosAreNotTorn(t *testing.T) {
	for _, c := range []struct {
		name  string
		dirty bool
		torn  uint64
	}{{"zeros", false, 0}, {"a byte among zeros", true, 1}} {
		fsys := newMemFS()
		l := open(t, fsys, Options{})
		for i := range uint64(20) {
			if _, err := Append(l, numbered(i+1, 100)); err != nil {
				t.Fatal(err)
			}
		}
		after := fsys.killed()
		l.Close()
		if c.dirty {
			name := segment.Name("log", 1)
			after.flip(t, name, int64(len(after.data(name))-7), 1)
		}
		l = open(t, after, Options{})
		if s := l.Stats(); s.TornTails != c.torn || s.Pending != 20 || s.Corruptions != 0 {
			t.Errorf("%s: %+v", c.name, s)
		}
		l.Close()
	}
}
