package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/ostest"
)

// This file tests which changes of a folder are detected as a copy when the log is opened.

// realLog creates a log on a real disk, with a session, a released message and a pending one. It
// skips the test if the file system does not identify files.
func realLog(t *testing.T) (dir string, l *Log) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*.mlog"))
	f, err := fsys.OS.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fsys.IdentityOf(f) == 0 {
		ostest.MissingIdentity(t)
	}
	if err := l.ResetSession("c"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Append(l, numbered(l.LastSeq()+1, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.SetSent(Normal, 1), l.Release(1), l.Seen(7, 7), l.Sync()); err != nil {
		t.Fatal(err)
	}
	return dir, l
}

func copyFolder(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// wantVoid checks that a copy has a new epoch, all messages and no session.
func wantVoid(t *testing.T, l *Log, cause Renewal, epoch uint64) {
	t.Helper()
	owner, known := l.Session()
	seqs, released := contents(t, l)
	if l.Renewal() != cause || !l.Renewal().Copied() || l.Epoch() <= epoch || owner != "" || known {
		t.Errorf("%v, epoch %d after %d, session of %q, %t", l.Renewal(), l.Epoch(), epoch, owner, known)
	}
	if !slices.Equal(seqs, []uint64{1, 2}) || len(released) > 0 || len(l.Released()) > 0 || len(l.SeenIDs()) > 0 || l.Sent(Normal) != 2 {
		t.Errorf("pending %v, released %v, seen %v, sent up to %d", seqs, released, l.SeenIDs(), l.Sent(Normal))
	}
}

// wantOriginal checks that the original continues its epoch.
func wantOriginal(t *testing.T, dir string, epoch uint64) {
	t.Helper()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	owner, known := l.Session()
	if l.Renewal() != Continued || l.Epoch() != epoch || owner != "c" || !known || len(l.Released()) != 1 || l.Sent(Normal) != 1 {
		t.Errorf("%v, epoch %d after %d, session of %q, %t, %v released", l.Renewal(), l.Epoch(), epoch, owner, known, l.Released())
	}
}

// TestRenewal_CopiedFolder checks copies of an open and of a closed log, and a copy of a copy. Each
// must be detected once. The original continues its epoch.
func TestRenewal_CopiedFolder(t *testing.T) {
	dir, l := realLog(t)
	running, stopped, again := dir+".running", dir+".stopped", dir+".again"
	copyFolder(t, running, dir)
	l.Close()
	copyFolder(t, stopped, dir)
	wantOriginal(t, dir, l.Epoch())
	epoch := l.Epoch()
	for _, c := range []string{running, stopped, again} {
		l, err := Open(c, Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantVoid(t, l, CopiedFiles, epoch)
		epoch = l.Epoch()
		l.Close()
		if l, err = Open(c, Options{}); err != nil || l.Renewal() != Continued || l.Epoch() != epoch {
			t.Errorf("%s: the second opening: %v, epoch %d, it was %d, %v", c, l.Renewal(), l.Epoch(), epoch, err)
		}
		l.Close()
		if c == stopped {
			copyFolder(t, again, stopped)
		}
	}
	wantOriginal(t, dir, l.Epoch())
}

// TestRenewal_CopiedWhileWriting copies a folder while messages are accepted. The copy must contain
// all messages that were accepted before, and must be detected, although its files are from
// different moments.
func TestRenewal_CopiedWhileWriting(t *testing.T) {
	dir, l := realLog(t)
	l.Close()
	l, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			seq := l.LastSeq() + 1
			if _, err := Append(l, numbered(seq, 200)); err != nil {
				t.Error(err)
				return
			}
			accepted.Store(seq)
		}
	}()
	for i := range 5 {
		for from := accepted.Load(); accepted.Load() < from+20; {
			runtime.Gosched()
		}
		before, to := accepted.Load(), fmt.Sprint(dir, i)
		copyFolder(t, to, dir)
		c, err := Open(to, small)
		if err != nil {
			t.Fatal(err)
		}
		if seqs, _ := contents(t, c); uint64(len(seqs)) < before || c.Renewal() != CopiedFiles || c.Epoch() <= l.Epoch() || c.Stats().Corruptions > 0 {
			t.Errorf("%d of at least %d messages, %v, epoch %d after %d, %+v", len(seqs), before, c.Renewal(), c.Epoch(), l.Epoch(), c.Stats())
		}
		c.Close()
	}
	close(stop)
	<-done
	l.Close()
}

// TestRenewal_RestoredFolder replaces the log with an older copy. The new files may have the inode
// numbers of the old ones.
func TestRenewal_RestoredFolder(t *testing.T) {
	dir, l := realLog(t)
	backup := dir + ".backup"
	copyFolder(t, backup, dir)
	for seq := uint64(3); seq <= 10; seq++ {
		if _, err := Append(l, numbered(seq, 50)); err != nil {
			t.Fatal(err)
		}
	}
	epoch := l.Epoch()
	l.Close()
	for range 3 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		copyFolder(t, dir, backup)
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantVoid(t, l, CopiedFiles, epoch)
		epoch = l.Epoch()
		l.Close()
	}
}

// TestRenewal_NotACopy checks that ordinary operations on a folder do not count as a copy.
func TestRenewal_NotACopy(t *testing.T) {
	dir, l := realLog(t)
	epoch := l.Epoch()
	l.Close()
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"restart", func() error { return nil }},
		{"renamed", func() error {
			old := dir
			dir += ".renamed"
			return os.Rename(old, dir)
		}},
		{"times and permissions", func() error {
			return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				return errors.Join(os.Chmod(path, 0o640), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
			})
		}},
		{"through a symbolic link", func() error {
			old := dir
			dir += ".link"
			return os.Symlink(old, dir)
		}},
		{"without the lock file", func() error { return os.Remove(filepath.Join(dir, "LOCK")) }},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		t.Run(c.name, func(t *testing.T) { wantOriginal(t, dir, epoch) })
	}
}
