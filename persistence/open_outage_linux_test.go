package persistence

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/ostest"
)

// TestOpen_ReadOnlyFileSystem opens a log on a file system that is mounted read-only, and then for writing.
func TestOpen_ReadOnlyFileSystem(t *testing.T) {
	dir := ostest.SmallDisk(t)
	l, err := Open(dir+"/log", small)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 30; seq++ {
		if _, err := Append(l, numbered(seq, 300)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=4m"); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	var folder *FolderError
	if _, err := Open(dir+"/new", small); !errors.As(err, &folder) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("a new log: %v", err)
	}
	if l, err = Open(dir+"/log", small); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir+"/log", small); !errors.Is(err, ErrLocked) {
		t.Errorf("a second opener: %v", err)
	}
	if _, err := Append(l, numbered(31, 300)); !errors.Is(err, ErrDegraded) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("Append: %v", err)
	}
	if seqs, _ := contents(t, l); len(seqs) != 30 {
		t.Errorf("%v are pending", seqs)
	}
	if err := l.Done(1, Result{Kind: Acked}); err != nil {
		t.Error(err)
	}
	remount(0)
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err = Append(l, numbered(31, 300)); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir+"/log", small); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if seqs, _ := contents(t, l); len(seqs) != 30 || seqs[0] != 2 || seqs[29] != 31 {
		t.Errorf("%v are pending", seqs)
	}
}

// A folder that another user owns can be read if its permissions allow it.
func TestOpen_ReadOnlyFolder(t *testing.T) {
	dir, child := ostest.InChild(t)
	if !child {
		return
	}
	ostest.LeaveRoot(t, dir)
	l, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Append(l, numbered(1, 300)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	if l, err = Open(dir, small); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Append(l, numbered(2, 300)); !errors.Is(err, ErrDegraded) || !errors.Is(err, syscall.EACCES) {
		t.Errorf("Append: %v", err)
	}
}
