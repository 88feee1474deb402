package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// onHost is a file system that reports another host than the file system below it.
type onHost struct {
	*memFS
	host fsys.Host
}

func (o onHost) Host() fsys.Host { return o.host }

// life opens the log and numbers some messages. It leaves the log as a running process does.
func life(t *testing.T, fs fsys.FS, sync SyncPolicy) *Log {
	t.Helper()
	l := open(t, fs, Options{Sync: sync, Interval: 24 * time.Hour})
	id, last, err := l.Stream("s")
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 3; n++ {
		m := numbered(l.LastSeq()+1, 50)
		m.Stream, m.StreamSeq = id, last+n
		if _, err := Append(l, m); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// power simulates a power failure after which no unsynced data is left.
func power(t *testing.T, fs *memFS) *memFS {
	t.Helper()
	for state := range fs.Trace().States(faultfs.Plan{}) {
		if state.Cut == fs.Len() { // the first state has no unsynced data
			return onMemFS(state.FS())
		}
	}
	t.Fatal("no state at the end of the trace")
	return nil
}

// TestRenewal_BySyncPolicy checks that a new epoch begins if a power failure may have removed
// numbers, under the policy with which they were written. In all other cases, the epoch must
// continue.
func TestRenewal_BySyncPolicy(t *testing.T) {
	const killed, cut, closed = "killed", "power cut", "closed, power cut"
	for _, c := range []struct {
		sync SyncPolicy
		end  string
		want Renewal
	}{
		{SyncEveryCommit, killed, Continued}, {SyncEveryCommit, cut, Continued}, {SyncEveryCommit, closed, Continued},
		{SyncInterval, killed, Continued}, {SyncInterval, cut, TailLost}, {SyncInterval, closed, Continued},
		{SyncNever, killed, Continued}, {SyncNever, cut, TailLost}, {SyncNever, closed, Continued},
	} {
		for next := range SyncNever + 1 {
			t.Run(fmt.Sprint(c.sync, " ", c.end, ", then ", next), func(t *testing.T) {
				disk := newMemFS()
				l := life(t, disk, c.sync)
				epoch, left := l.Epoch(), disk
				switch c.end {
				case killed:
					left = disk.killed()
				case cut:
					left = power(t, disk)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if c.end == closed {
					left = power(t, disk)
				}
				l = life(t, left, next)
				if l.Renewal() != c.want || (l.Epoch() == epoch) != (c.want == Continued) || l.Epoch() < epoch {
					t.Errorf("%v, epoch %d, it was %d; want %v", l.Renewal(), l.Epoch(), epoch, c.want)
				}
				// From now on, the policy of this opening is in force.
				epoch, left = l.Epoch(), power(t, left)
				l.Close()
				want := TailLost
				if next == SyncEveryCommit {
					want = Continued
				}
				l = life(t, left, SyncEveryCommit)
				defer l.Close()
				if l.Renewal() != want || (l.Epoch() == epoch) != (want == Continued) {
					t.Errorf("the second time %v, epoch %d, it was %d; want %v", l.Renewal(), l.Epoch(), epoch, want)
				}
			})
		}
	}
}

// TestRenewal_UnknownBoot checks that, if the boot of the system is unknown, the end of a process
// may have been a power failure.
func TestRenewal_UnknownBoot(t *testing.T) {
	for _, c := range []struct {
		before, after uint64
		want          Renewal
	}{{0, 0, TailLost}, {0, 1, TailLost}, {1, 0, TailLost}, {1, 2, TailLost}, {1, 1, Continued}} {
		disk := newMemFS()
		l := life(t, onHost{disk, fsys.Host{Boot: c.before}}, SyncInterval)
		left := disk.killed()
		l.Close()
		l = life(t, onHost{left, fsys.Host{Boot: c.after}}, SyncInterval)
		if l.Renewal() != c.want {
			t.Errorf("boot %d, then %d: %v, want %v", c.before, c.after, l.Renewal(), c.want)
		}
		l.Close()
	}
}

// TestRenewal_NoNumberTwice checks that no number of an epoch is assigned to two messages that a
// process may have sent. It tests any state after a power failure, also with a clock that was never
// set.
func TestRenewal_NoNumberTwice(t *testing.T) {
	lives := func(t *testing.T) {
		for seed := range uint64(50) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			disk, used := newMemFS(), map[string]bool{}
			for range 6 {
				sync := SyncPolicy(rnd.IntN(int(SyncNever) + 1))
				l := open(t, disk, Options{Sync: sync, Interval: 24 * time.Hour})
				id, last, _ := l.Stream("s")
				for n := last + 1; n <= last+uint64(rnd.IntN(4)); n++ {
					m := numbered(l.LastSeq()+1, 50)
					m.Stream, m.StreamSeq = id, n
					if _, err := Append(l, m); err != nil {
						t.Fatal(err)
					}
					number := fmt.Sprint(l.Epoch(), "/", n)
					if used[number] {
						t.Fatalf("seed %d: %s is used twice", seed, number)
					}
					used[number] = true
				}
				left := disk
				switch rnd.IntN(3) {
				case 0:
					left = disk.killed()
				case 1:
					left = disk.powerCut(rnd)
				}
				l.Close()
				disk = left
			}
		}
	}
	t.Run("clock set", lives)
	t.Run("clock never set", func(t *testing.T) { synctest.Test(t, lives) }) // it always shows the same moment of the year 2000
}

// TestEpoch_ClockNeverSet checks stores that are created, restored or declared copies at the same
// moment of a clock that was never set. They must have different epochs, and an epoch must never
// decrease.
func TestEpoch_ClockNeverSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epochs := map[uint64]bool{}
		disk := newMemFS()
		l := life(t, disk, SyncEveryCommit)
		l.Close()
		for range 50 {
			m := NewMemory(Options{})
			epochs[m.Epoch()] = true
			m.Close()
			copied := disk.killed()
			if err := DeclareCopy("log", Options{FS: copied}, KeepPending); err != nil {
				t.Fatal(err)
			}
			c := life(t, copied, SyncEveryCommit)
			if c.Epoch() <= l.Epoch() {
				t.Errorf("the copy has epoch %d, the original %d", c.Epoch(), l.Epoch())
			}
			epochs[c.Epoch()] = true
			c.Close()
		}
		if len(epochs) != 100 {
			t.Errorf("100 stores have %d epochs", len(epochs))
		}
	})
}

// TestRenewal_ClockSet checks that an epoch of a clock that was never set ends once, when the clock
// is set. The new epoch is the time of that clock.
func TestRenewal_ClockSet(t *testing.T) {
	disk := newMemFS()
	synctest.Test(t, func(t *testing.T) { life(t, disk, SyncEveryCommit).Close() })
	now := uint64(time.Now().UnixMilli())
	for _, want := range []Renewal{ClockSet, Continued} {
		l := life(t, disk, SyncEveryCommit)
		if l.Renewal() != want || l.Epoch() < now {
			t.Errorf("%v, epoch %d; want %v, now %d", l.Renewal(), l.Epoch(), want, now)
		}
		l.Close()
	}
}

// TestRenewal_OtherHost opens a log that another machine wrote. A machine that is unknown for some
// time does not count as another machine.
func TestRenewal_OtherHost(t *testing.T) {
	disk := newMemFS()
	for i, c := range []struct {
		machine uint64
		want    Renewal
	}{{0, Continued}, {1, Continued}, {1, Continued}, {0, Continued}, {1, Continued}, {0, Continued}, {2, OtherHost}, {2, Continued}, {1, OtherHost}} {
		l := open(t, onHost{disk, fsys.Host{Machine: c.machine}}, Options{})
		if l.Renewal() != c.want {
			t.Errorf("%d: machine %d: %v, want %v", i, c.machine, l.Renewal(), c.want)
		}
		if _, known := l.Session(); known != (i > 0 && c.want == Continued) {
			t.Errorf("%d: a session is known: %t", i, known)
		}
		if err := l.ResetSession("c"); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

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
		t.Skip("this file system does not identify files")
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

// TestDeclareCopy checks that a declared copy has a new epoch and no session, and that it keeps or
// drops its messages.
func TestDeclareCopy(t *testing.T) {
	disk := newMemFS()
	l := open(t, disk, Options{})
	for range 2 {
		if _, err := Append(l, numbered(l.LastSeq()+1, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.ResetSession("c"), l.SetSent(Normal, 1), l.Release(1), l.Seen(7, 7), l.Sync()); err != nil {
		t.Fatal(err)
	}
	if err := DeclareCopy("log", Options{FS: disk}, KeepPending); !errors.As(err, new(*LockedError)) {
		t.Errorf("in use: %v", err)
	}
	epoch := l.Epoch()
	l.Close()
	for _, pending := range []CopyPending{KeepPending, DropPending} {
		if err := DeclareCopy("log", Options{FS: disk}, pending); err != nil {
			t.Fatal(err)
		}
		l = open(t, disk, Options{})
		_, known := l.Session()
		s := l.Stats()
		if l.Renewal() != Continued || l.Epoch() <= epoch || known || len(l.Released()) > 0 || len(l.SeenIDs()) > 0 || l.Sent(Normal) != 2 {
			t.Errorf("%v, epoch %d after %d, session %t, released %v, seen %v, sent up to %d", l.Renewal(), l.Epoch(), epoch, known, l.Released(), l.SeenIDs(), l.Sent(Normal))
		}
		if want := uint64(pending) * 2; s.Dropped != want || s.Pending != 2-want {
			t.Errorf("choice %d: %+v", pending, s)
		}
		epoch = l.Epoch()
		l.Close()
	}
	var option *OptionError
	if err := DeclareCopy("log", Options{FS: disk}, DropPending+1); !errors.As(err, &option) {
		t.Errorf("a choice that does not exist: %v", err)
	}
	var folder *FolderError
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "missing")} {
		if err := DeclareCopy(dir, Options{}, KeepPending); !errors.As(err, &folder) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if left, err := os.ReadDir(empty); len(left) > 0 || err != nil {
		t.Errorf("%v were created, %v", left, err)
	}
}

// TestDeclareCopy_CrashStates checks that a crash at any moment leaves either the log as it was or
// the declared copy.
func TestDeclareCopy_CrashStates(t *testing.T) {
	for _, n := range []uint64{2, 200} { // with few messages, the opening writes all of them again; with many, the old segment stays
		disk := newMemFS()
		l := open(t, disk, Options{Files: Files{SegmentBytes: 64 << 10, BufferBytes: 4 << 10}})
		for seq := uint64(1); seq <= n; seq++ {
			if _, err := Append(l, numbered(seq, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(l.ResetSession("c"), l.Release(1), l.Sync(), l.Close()); err != nil {
			t.Fatal(err)
		}
		epoch := l.Epoch()
		disk = disk.killed()
		if err := DeclareCopy("log", Options{FS: disk, Files: small.Files}, KeepPending); err != nil {
			t.Fatal(err)
		}
		disk.Kill()
		before, after := 0, 0
		for state := range disk.Trace().States(faultfs.Plan{PerCut: 40}) {
			l := open(t, onMemFS(state.FS()), Options{})
			seqs, released := contents(t, l)
			_, known := l.Session()
			copied := l.Epoch() > epoch
			if uint64(len(seqs)) != n || known == copied || (len(released) == 0) != copied || state.Cut == disk.Len() && !copied {
				t.Fatalf("%d pending, %v released, epoch %d after %d, session %t\n%v", len(seqs), released, l.Epoch(), epoch, known, state)
			}
			if copied {
				after++
			} else {
				before++
			}
			l.Close()
		}
		if before == 0 || after == 0 {
			t.Errorf("%d states before, %d after", before, after)
		}
	}
}

// TestSentLost checks that SentLost is true from the opening that has lost messages until SetSent
// or ResetSession, across restarts and power failures.
func TestSentLost(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *Log) error
		want   bool
	}{
		"nothing":       {func(*Log) error { return nil }, true},
		"a message":     {func(l *Log) error { _, err := Append(l, &Message{Packet: []byte("p")}); return err }, true},
		"sent":          {func(l *Log) error { return l.SetSent(Normal, l.LastSeq()+5) }, false},
		"session reset": {func(l *Log) error { return l.ResetSession("c") }, false},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", killed: ", killed), func(t *testing.T) {
				disk := newMemFS()
				open := func(sync SyncPolicy) *Log {
					l, err := Open("log", Options{FS: disk, Sync: sync})
					if err != nil {
						t.Fatal(err)
					}
					return l
				}
				l := open(SyncInterval)
				if l.SentLost() {
					t.Error("a new log has lost nothing")
				}
				left := power(t, disk)
				l.Close()
				disk = left
				for range 2 {
					l = open(SyncEveryCommit)
					if !l.SentLost() {
						t.Fatal("after a power cut it is false")
					}
					l.Close()
				}
				l = open(SyncEveryCommit)
				if err := c.change(l); err != nil {
					t.Fatal(err)
				}
				if l.SentLost() != c.want {
					t.Errorf("it is %t", l.SentLost())
				}
				left = disk
				if killed {
					left = power(t, disk)
				}
				l.Close()
				disk = left
				l = open(SyncEveryCommit)
				defer l.Close()
				if l.SentLost() != c.want {
					t.Errorf("after a restart it is %t", l.SentLost())
				}
			})
		}
	}
}

// Each opening reports a damaged place that stays in the log. Only the first of them has lost
// messages.
func TestSentLost_OnceForEachDamage(t *testing.T) {
	dir, o := t.TempDir(), Options{Sync: SyncNever}
	o.Files.SegmentBytes = 64 << 10
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if _, err := Append(l, &Message{Packet: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	damage := func(number uint64) {
		t.Helper()
		name := segment.Name(dir, number)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[30_000] ^= 0xff
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(2)
	for n, want := range []bool{true, false, false, true, false} {
		if n == 3 {
			damage(3)
		}
		l, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if l.SentLost() != want || l.Stats().Corruptions == 0 {
			t.Errorf("opening %d: %t after %d damaged places", n, l.SentLost(), l.Stats().Corruptions)
		}
		if err := l.SetSent(Normal, l.LastSeq()+uint64(n)); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
