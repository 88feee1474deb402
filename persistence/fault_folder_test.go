package persistence

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Tests with a folder to which other processes write.

// TestForeignHighestNumber creates a file with the highest possible segment number. Open must not
// ignore the log because of it. It refuses the folder until the file is removed.
func TestForeignHighestNumber(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "0000ffffffffffff.mlog")
	for round := 1; round <= 3; round++ {
		l, err := Open(dir, Options{})
		var folder *FolderError
		if errors.As(err, &folder) {
			err = os.Remove(foreign)
			if err == nil {
				l, err = Open(dir, Options{})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			if _, err := Append(l, numbered(1, 50)); err != nil {
				t.Fatal(err)
			}
		}
		if seqs, _ := contents(t, l); !slices.Equal(seqs, []uint64{1}) {
			t.Fatalf("round %d: %v are left", round, seqs)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			if err := os.WriteFile(foreign, []byte("not a segment"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFolderRemoved checks that no message is accepted after the folder was removed, because data
// in files without a name is not durable.
func TestFolderRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Append(l, numbered(1, 50)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for ; accepted < 100; accepted++ {
		if _, err = Append(l, numbered(uint64(accepted+2), 500)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrDegraded) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Append: %v", err)
	}
	if accepted > 0 {
		t.Errorf("%d messages were accepted and cannot be found", accepted)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
}

// TestZeroedSegment checks a newest segment that consists of zeros. The log keeps a copy of it and
// reports damage, because it may have contained accepted messages.
func TestZeroedSegment(t *testing.T) {
	fsys, name := smallLog(t)
	zeros := make([]byte, len(fsys.data(name)))
	fsys = fsys.edit(name, zeros)
	told := 0
	l := open(t, fsys, Options{OnCorruption: func(Corruption) { told++ }})
	defer l.Close()
	if told == 0 || len(fsys.data(name+recovery.CopySuffix)) != len(zeros) {
		t.Errorf("reported %d times, files: %d", told, len(fsys.Files()))
	}
}

// TestForeignNames creates a folder with the name of the next segment. Open returns an error. A log
// in use takes the next name.
func TestForeignNames(t *testing.T) {
	for what, put := range map[string]func(name string) error{
		"folder":  func(name string) error { return os.Mkdir(name, 0o700) },
		"symlink": func(name string) error { return os.Symlink("nowhere", name) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			l, err := Open(dir, small)
			if err != nil {
				t.Fatal(err)
			}
			if err := put(segment.Name(dir, 2)); err != nil && runtime.GOOS == "windows" {
				t.Skip("on Windows, this user has no right to create a symlink: ", err)
			} else if err != nil {
				t.Fatal(err)
			}
			for seq := uint64(1); seq <= 30; seq++ {
				if _, err := Append(l, numbered(seq, 400)); err != nil {
					t.Fatal(err)
				}
			}
			foreign := segment.Name(dir, l.writer.Number+1)
			if err := errors.Join(l.Close(), put(foreign)); err != nil {
				t.Fatal(err)
			}
			var folder *FolderError
			if _, err = Open(dir, small); !errors.As(err, &folder) || !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			if err := os.Remove(foreign); err != nil {
				t.Fatal(err)
			}
			if l, err = Open(dir, small); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if seqs, _ := contents(t, l); len(seqs) != 30 || l.Stats().Corruptions > 0 {
				t.Errorf("%v are left, %+v", seqs, l.Stats())
			}
			if _, err := os.Lstat(segment.Name(dir, 2)); err != nil {
				t.Error(err)
			}
		})
	}
}
