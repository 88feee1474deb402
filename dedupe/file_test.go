package dedupe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// logOf writes keys to a log and returns its bytes.
func logOf(t *testing.T, keys ...string) []byte {
	path := testPath(t)
	f := openOn(t, path, fsys.OS, Options{})
	for _, key := range keys {
		handle(t, f, key)
	}
	data := mustRead(t, path) // before Close appends the time
	f.Close()
	return data
}

func TestOpenFile_UnfinishedTailAtEveryByte(t *testing.T) {
	keys := []string{"one", "two", "three"}
	data, folder := logOf(t, keys...), t.TempDir()
	for size := 0; size <= len(data); size++ {
		path := filepath.Join(folder, fmt.Sprint(size))
		d := diskWith(path, bytes.Clone(data[:size]))
		f := openOn(t, path, d, Options{})
		whole := len(scan(data[:size]).records) - 1 // the first is the open record
		for i, key := range keys {
			v := Fresh
			if i < whole {
				v = Duplicate
			}
			want(t, f, key, v)
		}
		if s := f.Stats(); s.Corrupt != 0 || (size != len(data)) != (s.TornBytes > 0 || whole != len(keys)) {
			t.Fatalf("cut at %d: %+v", size, s)
		}
		handle(t, f, "four") // after the last whole record
		f.Close()
		f = openOn(t, path, d, Options{})
		want(t, f, "four", Duplicate)
		f.Close()
	}
}

func TestOpenFile_TailOfZeros(t *testing.T) {
	path := testPath(t)
	os.WriteFile(path, append(logOf(t, "one"), make([]byte, 4096)...), 0o600)
	f := openOn(t, path, fsys.OS, Options{})
	want(t, f, "one", Duplicate)
	if s := f.Stats(); s.TornBytes != 4096 || s.Corrupt != 0 {
		t.Errorf("%+v", s)
	}
}

func TestOpenFile_RecoversAroundDamage(t *testing.T) {
	data, folder := logOf(t, "one", "two", "three"), t.TempDir()
	two := bytes.Index(data, []byte("two"))
	last := bytes.Index(data, []byte("three")) - recordHead
	for at := 0; at < last; at++ {
		path := filepath.Join(folder, fmt.Sprint(at))
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x40
		d := diskWith(path, bytes.Clone(damaged))
		f := openOn(t, path, d, Options{})
		want(t, f, "three", Duplicate)
		if at != two && (at < two-recordHead || at >= last) {
			want(t, f, "two", Duplicate)
		}
		if s := f.Stats(); s.Corrupt != 1 || s.TornBytes != 0 {
			t.Fatalf("byte %d: %+v, want Corrupt 1", at, s)
		}
		if aside, _ := fsys.ReadFile(d, path+".corrupt"); !bytes.Equal(aside, damaged) {
			t.Fatalf("byte %d: no copy kept", at)
		}
		f.Close()
		f = openOn(t, path, d, Options{}) // repaired
		if s := f.Stats(); s.Corrupt != 0 {
			t.Fatalf("byte %d: still damaged: %+v", at, s)
		}
		f.Close()
	}
}

func TestOpenFile_ForeignFile(t *testing.T) {
	path := testPath(t)
	const diary = "Dear diary, today I was nearly overwritten.\n"
	os.WriteFile(path, []byte(diary), 0o600)
	for range 2 { // the second time shows that the lock was released
		if _, err := OpenFile(path, Options{}); !errors.Is(err, ErrFormat) {
			t.Fatalf("opening a foreign file: %v, want ErrFormat", err)
		}
	}
	if got := mustRead(t, path); string(got) != diary {
		t.Fatalf("the file now holds %q", got)
	}
}

func TestOpenFile_Locked(t *testing.T) {
	path := testPath(t)
	f := openOn(t, path, fsys.OS, Options{})
	_, err := OpenFile(path, Options{})
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("second open: %v, want LockedError", err)
	}
	if pid := os.Getpid(); locked.PID != pid || !strings.Contains(err.Error(), fmt.Sprint(pid)) {
		t.Errorf("holder %d, want %d", locked.PID, pid)
	}
	f.Close()
	openOn(t, path, fsys.OS, Options{}).Close()
}

func TestOpenFile_CreatesDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "no", "such")
	f, err := OpenFile(filepath.Join(dir, "handled"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if info, err := os.Stat(d); err != nil || runtime.GOOS != "windows" && info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", d, info, err)
		}
	}
	if _, err := OpenFile(filepath.Join(dir, "handled", "below"), Options{}); err == nil || !strings.Contains(err.Error(), "create the directory") {
		t.Errorf("a file in place of the directory: %v", err)
	}
}

func TestLockedError_UnknownHolder(t *testing.T) {
	if got := (&LockedError{Path: "p"}).Error(); got != "dedupe: p is in use by another process; stop it or use another path" {
		t.Error(got)
	}
}

// slowDisk blocks each fsync until the test continues it.
type slowDisk struct {
	*faultDisk
	gate chan struct{}
}

func (d slowDisk) Open(path string) (fsys.File, error) {
	f, err := d.faultDisk.Open(path)
	if err != nil {
		return nil, err
	}
	return slowFile{f, d.gate}, nil
}

type slowFile struct {
	fsys.File
	gate chan struct{}
}

func (f slowFile) Sync() error {
	<-f.gate
	return f.File.Sync()
}

func TestFile_CommitsShareAnFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := slowDisk{newFaultDisk(), make(chan struct{})}
		f := openOn(t, testPath(t), d, Options{})
		before := f.Stats().Syncs
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { handle(t, f, fmt.Sprint(i)) })
		}
		synctest.Wait() // one call is in its fsync, 49 wait
		if _, v, _ := f.Begin(t.Context(), "0", owner); v != InFlight {
			t.Errorf("before the fsync: %v, want in flight", v)
		}
		d.gate <- struct{}{}
		synctest.Wait()
		close(d.gate) // for the calls that are not part of the first write
		wg.Wait()
		if n := f.Stats().Syncs - before; n < 1 || n > 2 {
			t.Errorf("50 commits took %d fsyncs, want at most 2", n)
		}
		f.Close()
	})
}

func TestFile_Compaction(t *testing.T) {
	d, path := newFaultDisk(), testPath(t)
	f := openOn(t, path, d, Options{Capacity: 100})
	for i := range 3000 {
		handle(t, f, fmt.Sprint(i))
	}
	s := f.Stats()
	if limit := int64((minRecords + 2*100 + 1) * (recordHead + 4)); s.Compactions == 0 || s.LogBytes > limit {
		t.Errorf("%+v, want compactions and at most %d bytes", s, limit)
	}
	if got := int64(len(d.names[f.path].data)); got != s.LogBytes {
		t.Errorf("LogBytes %d, the log has %d", s.LogBytes, got)
	}
	f.Close()
	f = openOn(t, path, d, Options{Capacity: 100})
	want(t, f, "2999", Duplicate)
	want(t, f, "2900", Duplicate)
	want(t, f, "2899", Fresh)
}

func TestOpenFile_SmallerCapacity(t *testing.T) {
	d, path := newFaultDisk(), testPath(t)
	f := openOn(t, path, d, Options{})
	for i := range 10 {
		handle(t, f, fmt.Sprint(i))
	}
	f.Close()
	f = openOn(t, path, d, Options{Capacity: 4})
	want(t, f, "6", Duplicate)
	want(t, f, "5", Fresh)
}

func TestFile_KeysAgeAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, path, o := newFaultDisk(), testPath(t), Options{TTL: time.Hour}
		f := openOn(t, path, d, o)
		handle(t, f, "a")
		time.Sleep(20 * time.Minute)
		handle(t, f, "b")
		time.Sleep(5 * time.Minute)
		f.Close() // a is 25 minutes old, b 5

		time.Sleep(15 * time.Minute)
		f = openOn(t, path, d, o) // 40 and 20
		time.Sleep(20*time.Minute - 1)
		want(t, f, "a", Duplicate)
		time.Sleep(time.Nanosecond)
		want(t, f, "a", Fresh)
		want(t, f, "b", Duplicate)
		f.Close() // b is 40

		time.Sleep(1000 * time.Hour) // counts as half an hour
		f = openOn(t, path, d, o)
		want(t, f, "b", Fresh)
	})
}

func TestFile_LongDowntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, path, o := newFaultDisk(), testPath(t), Options{TTL: time.Hour}
		f := openOn(t, path, d, o)
		handle(t, f, "old")
		time.Sleep(31 * time.Minute)
		handle(t, f, "young")
		f.Close()
		time.Sleep(50 * 365 * 24 * time.Hour) // or the wall clock was corrected
		f = openOn(t, path, d, o)
		want(t, f, "old", Fresh)
		want(t, f, "young", Duplicate)
	})
}

// The wall clock is read when the log is opened. If it went back, no time has passed.
func TestResume_WallClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	records := []record{{clock: time.Minute, wall: now.UnixNano(), key: "a"}}
	for away, want := range map[time.Duration]time.Duration{
		-24 * time.Hour:  0,
		0:                0,
		time.Minute:      time.Minute,
		24 * time.Hour:   30 * time.Minute,
		time.Duration(1): 1,
	} {
		if got := resume(records, time.Hour, now.Add(away)).base - time.Minute; got != want {
			t.Errorf("opened %v later: the clock went %v, want %v", away, got, want)
		}
	}
}

func TestFile_ConcurrentCommitsOfOneClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := slowDisk{newFaultDisk(), make(chan struct{})}
		f := openOn(t, testPath(t), d, Options{})
		a := want(t, f, "a", Fresh)
		first := make(chan error, 1)
		go func() { first <- f.Commit(t.Context(), a) }()
		synctest.Wait()
		if err := f.Commit(t.Context(), a); !errors.Is(err, ErrClaimLost) {
			t.Errorf("second Commit beside the first: %v, want ErrClaimLost", err)
		}
		f.Abort(t.Context(), a) // too late
		close(d.gate)
		if err := <-first; err != nil {
			t.Error(err)
		}
		want(t, f, "a", Duplicate)
		f.Close()
	})
}

func TestFile_CloseWaitsForCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, path := slowDisk{newFaultDisk(), make(chan struct{})}, testPath(t)
		f := openOn(t, path, d, Options{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { handle(t, f, fmt.Sprint(i)) })
		}
		synctest.Wait()
		wg.Go(func() { f.Close() })
		synctest.Wait()
		close(d.gate)
		wg.Wait()
		f = openOn(t, path, d.faultDisk, Options{})
		for i := range 4 {
			want(t, f, fmt.Sprint(i), Duplicate)
		}
		f.Close()
	})
}
