package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// TestLocked checks that only one Log can have a folder open, also within a process.
func TestLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.Dir != dir || locked.PID != os.Getpid() {
		t.Fatalf("the second Open: %v", err)
	}
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%q does not name the folder", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = Open(dir, Options{})
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	l.Close()
}

// TestUnusableFolder checks that the error names the folder and contains advice.
func TestUnusableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "sub")} {
		_, err := Open(dir, Options{})
		var folder *FolderError
		if !errors.As(err, &folder) || folder.Dir != dir || !strings.Contains(folder.Fix, "remove the file") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if os.Getuid() == 0 {
		return // root may write everywhere; the next check needs another user
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	var folder *FolderError
	if !errors.As(err, &folder) || !strings.Contains(folder.Fix, "give this user write permission") {
		t.Errorf("read-only: %v", err)
	}
}

// TestOpen_ReleasesLockOnFailure checks that a failed Open releases the lock.
func TestOpen_ReleasesLockOnFailure(t *testing.T) {
	fsys := newMemFS()
	for _, op := range []string{"create", "write", "sync", "syncdir"} {
		fsys.fault = func(o, _ string, n int) (int, error) {
			if o == op {
				return 0, os.ErrPermission
			}
			return n, nil
		}
		_, err := Open("log", Options{FS: fsys})
		var folder *FolderError
		if !errors.As(err, &folder) || !errors.Is(err, os.ErrPermission) {
			t.Fatalf("%s: %v", op, err)
		}
		fsys.fault = nil
		if names, _ := fsys.ReadDir("log"); len(names) != 0 {
			t.Fatalf("%s left %v", op, names)
		}
	}
	open(t, fsys, Options{}).Close()
}

// TestNewerVersion checks that a folder of a newer release is refused and not changed.
func TestNewerVersion(t *testing.T) {
	fsys, name := smallLog(t)
	data := fsys.data(name)
	binary.LittleEndian.PutUint16(data[8:], FormatVersion+1)
	binary.LittleEndian.PutUint32(data[60:], record.CRC(data[:60]))
	fsys = fsys.edit(name, data)
	_, err := Open("log", Options{FS: fsys})
	var version *VersionError
	if !errors.As(err, &version) || version.File != name || version.Version != FormatVersion+1 {
		t.Fatalf("Open = %v", err)
	}
	if !bytes.Equal(fsys.data(name), data) || len(fsys.Files()) != 1 {
		t.Fatal("the folder was changed")
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o   Options
		bad string // the invalid option; empty: all are valid
	}{
		{Options{}, ""},
		{Options{Files: Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}, Limits: Limits{MaxMessages: 1, MaxBytes: 1, MaxPacketBytes: 1, MaxStreams: 1, MaxDiskBytes: 16 << 10}}, ""},
		{Options{Files: Files{SegmentBytes: 1 << 30}, Limits: Limits{MaxMessages: 10_000_000, MaxPacketBytes: record.MaxPacketBytes}}, ""},
		{Options{Sync: SyncInterval, Interval: time.Millisecond}, ""},
		{Options{Sync: SyncNever + 1}, "Sync"},
		{Options{Interval: time.Microsecond}, "Interval"},
		{Options{Interval: -1}, "Interval"},
		{Options{Limits: Limits{MaxMessages: -1}}, "Limits.MaxMessages"},
		{Options{Limits: Limits{MaxBytes: -1}}, "Limits.MaxBytes"},
		{Options{Limits: Limits{MaxPacketBytes: record.MaxPacketBytes + 1}}, "Limits.MaxPacketBytes"},
		{Options{Limits: Limits{MaxStreams: record.MaxStreams + 1}}, "Limits.MaxStreams"},
		{Options{Limits: Limits{MaxDiskBytes: -1}}, "Limits.MaxDiskBytes"},
		{Options{Files: Files{SegmentBytes: 1<<30 + 1}}, "Files.SegmentBytes"},
		{Options{Files: Files{SegmentBytes: 100}}, "Files.SegmentBytes"},
		{Options{Files: Files{BufferBytes: 100}}, "Files.BufferBytes"},
	} {
		var option *OptionError
		check := func(what string, err error) {
			t.Helper()
			if c.bad == "" && err != nil || c.bad != "" && (!errors.As(err, &option) || option.Option != c.bad) {
				t.Errorf("%s of %+v: %v", what, c.o, err)
			}
		}
		check("Validate", c.o.Validate())
		o := c.o
		o.FS = newMemFS()
		l, err := Open("log", o)
		check("Open", err)
		if err == nil {
			l.Close()
		}
		_, _, err = NewMemory(c.o).Stream("a")
		check("NewMemory", err)
	}
}

// TestMaxDiskBytes_AfterCompaction checks that a message is not refused for the size that the last
// compaction had left, if most of that has ended since.
func TestMaxDiskBytes_AfterCompaction(t *testing.T) {
	o := small
	o.Limits.MaxDiskBytes = 64 << 10
	l := open(t, newMemFS(), o)
	defer l.Close()
	append1 := func() uint64 {
		t.Helper()
		seq := l.LastSeq() + 1
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		return seq
	}
	for l.Stats().DiskBytes < o.Limits.MaxDiskBytes*3/4 {
		append1()
	}
	l.mu.Lock()
	c := &l.waste.compaction
	c.floor, c.round = l.waste.size, l.state.catalog.Active().Number
	l.mu.Unlock()
	for seq := uint64(2); seq <= l.LastSeq(); seq++ {
		if err := l.Done(seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	for range 500 {
		if err := l.Done(append1(), Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMaxDiskBytes checks that one old message does not keep the segments after it. Pending
// messages reach the limit, and messages that are done do not.
func TestMaxDiskBytes(t *testing.T) {
	o := small
	o.Limits.MaxDiskBytes = 64 << 10
	l := open(t, newMemFS(), o)
	defer l.Close()
	for seq := uint64(1); seq < 1000; seq++ {
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		if s := l.Stats(); s.DiskBytes > o.Limits.MaxDiskBytes+200 { // acknowledgements may exceed it
			t.Fatalf("%+v", s)
		}
		if seq > 1 {
			if err := l.Done(seq, Result{Kind: Acked}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := l.Stats()
	if s.Pending != 1 || s.Moved == 0 || s.Moved > 1000*500/uint64(small.Files.SegmentBytes) {
		t.Fatalf("%+v", s)
	}
	var err error
	for seq := l.LastSeq() + 1; err == nil && seq < 2000; seq++ {
		_, err = Append(l, numbered(seq, 500))
	}
	var full *FullError
	if !errors.As(err, &full) || full.Limit != "MaxDiskBytes" {
		t.Fatalf("Append = %v", err)
	}
	if got, _ := contents(t, l); got[0] != 1 {
		t.Fatal(got[0])
	}
}
