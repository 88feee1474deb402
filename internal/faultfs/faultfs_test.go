package faultfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
)

func create(t *testing.T, s *faultfs.FS, name string) fsys.File {
	t.Helper()
	f, err := s.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, f fsys.File, off int64, data string) {
	t.Helper()
	if n, err := f.WriteAt([]byte(data), off); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
}

// must ends the test if one of the errors is not nil.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// states returns the possible contents of the folder at a cut. Each is formatted as "name=data
// name=data", with zeros as dots.
func states(s *faultfs.FS, cut int) []string {
	seen := map[string]bool{}
	for state := range s.Trace().States(faultfs.Plan{}) {
		if state.Cut != cut {
			continue
		}
		files := state.FS().Files()
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			parts = append(parts, strings.TrimPrefix(name, "d/")+"="+strings.ReplaceAll(string(files[name]), "\x00", "."))
		}
		seen[strings.Join(parts, " ")] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func expect(t *testing.T, s *faultfs.FS, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := states(s, s.Len()); !slices.Equal(got, want) {
		t.Errorf("a crash leaves\n%q, want\n%q", got, want)
	}
}

// TestNames checks that an unsynced name may be missing, independent of the data of the file.
func TestNames(t *testing.T) {
	s := faultfs.New()
	f := create(t, s, "d/a")
	write(t, f, 0, "x")
	must(t, f.Sync())
	expect(t, s, "", "a=x")
	must(t, s.SyncDir("elsewhere"))
	expect(t, s, "", "a=x")
	must(t, s.SyncDir("d"), f.Close())
	expect(t, s, "a=x")
	must(t, s.Rename("d/a", "d/b"))
	expect(t, s, "a=x", "b=x")
	g := create(t, s, "d/c")
	expect(t, s, "a=x", "b=x", "a=x c=", "b=x c=")
	must(t, s.SyncDir("d"), g.Close(), s.Remove("d/c"), s.Remove("d/b"))
	expect(t, s, "b=x c=", "b=x", "c=", "")
}

// TestWrites checks that unsynced writes may be missing, kept, torn or reordered, and that a file may
// grow without its data.
func TestWrites(t *testing.T) {
	s := faultfs.New()
	f := create(t, s, "d/a")
	must(t, f.Sync(), s.SyncDir("d"))
	expect(t, s, "a=")
	write(t, f, 0, "xyz")
	expect(t, s, "a=", "a=...", "a=xyz", "a=x", "a=xy", "a=x..", "a=xy.")
	must(t, f.Sync())
	expect(t, s, "a=xyz")
	write(t, f, 0, "XY")
	expect(t, s, "a=xyz", "a=XYz", "a=Xyz", "a=X.z")
	write(t, f, 4, "!")
	for _, want := range []string{"a=xyz", "a=XYz.!", "a=XYz", "a=xyz.!", "a=XYz..", "a=Xyz.!"} {
		if !slices.Contains(states(s, s.Len()), want) {
			t.Errorf("no crash leaves %q", want)
		}
	}
}

// TestSectors checks that any sectors of a long write may be missing, and that it may be torn at each
// byte near its ends and near sector boundaries.
func TestSectors(t *testing.T) {
	s := faultfs.New()
	f := create(t, s, "d/a")
	must(t, f.Sync(), s.SyncDir("d"))
	write(t, f, 100, strings.Repeat("x", 1000)) // touches sectors 0, 1 and 2
	kept := map[string]bool{}
	sizes := map[int]bool{}
	for state := range s.Trace().States(faultfs.Plan{}) {
		data := state.FS().Files()["d/a"]
		sizes[len(data)] = true
		data = append(data, make([]byte, 1100)...)
		kept[fmt.Sprint(data[100] == 'x', data[512] == 'x', data[1024] == 'x')] = true
	}
	if len(kept) != 8 {
		t.Errorf("of 3 sectors there are only the subsets %v", kept)
	}
	for _, size := range []int{0, 100 + 1, 511, 512, 513, 1023, 1024, 1025, 1099, 1100} {
		if !sizes[size] {
			t.Errorf("no crash leaves %d bytes", size)
		}
	}
}

func TestTruncation(t *testing.T) {
	s := faultfs.From(map[string][]byte{"d/a": []byte("wxyz")})
	f, err := s.Open("d/a")
	must(t, err, f.Truncate(1))
	expect(t, s, "a=wxyz", "a=w")
	must(t, f.Sync())
	expect(t, s, "a=w")
}

// TestFailedSync checks that data written before a failed sync can be read, but that no later sync
// makes it durable.
func TestFailedSync(t *testing.T) {
	s := faultfs.From(map[string][]byte{"d/a": []byte("ab")})
	f, err := s.Open("d/a")
	must(t, err)
	write(t, f, 0, "A")
	s.SetFault(func(op faultfs.Op) (int, error) { return op.Len, syscall.EIO })
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	s.SetFault(nil)
	must(t, f.Sync())
	expect(t, s, "a=ab", "a=Ab")
	write(t, f, 1, "B")
	must(t, f.Sync())
	expect(t, s, "a=aB", "a=AB")
	if got := string(s.Files()["d/a"]); got != "AB" {
		t.Errorf("reading shows %q", got)
	}
}

// TestFaults checks that a failed operation has no effect, except the allowed part of a write, and
// that a skipped operation reports success and has no effect.
func TestFaults(t *testing.T) {
	s := faultfs.New()
	f := create(t, s, "d/a")
	write(t, f, 0, "xyz")
	s.SetFault(func(op faultfs.Op) (int, error) { return op.Len / 2, syscall.ENOSPC })
	n, err := f.WriteAt([]byte("1234"), 0)
	_, errRead := f.ReadAt(make([]byte, 1), 0)
	_, errCreate := s.Create("d/b")
	_, errOpen := s.Open("d/a")
	_, errDir := s.ReadDir("d")
	if n != 2 {
		t.Errorf("%d bytes of a failed write, want 2", n)
	}
	for i, err := range []error{err, errRead, errCreate, errOpen, errDir, f.Truncate(0), f.Sync(), s.SyncDir("d"), s.Remove("d/a"), s.Rename("d/a", "d/b")} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	s.SetFault(func(faultfs.Op) (int, error) { return 0, faultfs.ErrSkip })
	write(t, f, 0, "lost")
	must(t, f.Sync(), s.SyncDir("d"), f.Truncate(0))
	s.SetFault(nil)
	if got := string(s.Files()["d/a"]); got != "12z" {
		t.Errorf("the file has %q", got)
	}
	if !slices.Contains(states(s, s.Len()), "") {
		t.Error("a sync of the folder that was a lie has made a name durable")
	}
}

// TestSystem checks that errors are like those of an operating system.
func TestSystem(t *testing.T) {
	s := faultfs.New()
	f := create(t, s, "d/a")
	_, exists := s.Create("d/a")
	_, missing := s.Open("d/b")
	_, end := f.ReadAt(make([]byte, 1), 5)
	for _, c := range []struct{ got, want error }{
		{exists, fs.ErrExist}, {missing, fs.ErrNotExist}, {s.Remove("d/b"), fs.ErrNotExist},
		{s.Remove("d/a"), syscall.EBUSY}, {s.Rename("d/a", "d/b"), syscall.EBUSY}, {end, io.EOF},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	l, err := s.Lock("d/LOCK")
	must(t, err)
	if _, err := s.Lock("d/LOCK"); !errors.As(err, new(*fsys.LockedError)) {
		t.Error(err)
	}
	must(t, l.Close())
	_, err = s.Lock("d/LOCK")
	must(t, err)
	s.Kill()
	_, err = s.Lock("d/LOCK")
	must(t, err, s.Remove("d/a"))
	names, err := s.ReadDir("d")
	if len(names) > 0 || err != nil {
		t.Error(names, err)
	}
}

// TestKilled checks at each cut that killing the process loses nothing and makes nothing durable.
func TestKilled(t *testing.T) {
	s := faultfs.New()
	f := create(t, s, "d/a")
	write(t, f, 0, "x")
	write(t, f, 1, "y")
	again := s.Trace().KilledAt(2)
	if got := string(again.Files()["d/a"]); got != "x" {
		t.Errorf("after two operations the file has %q", got)
	}
	expect(t, again, "", "a=", "a=.", "a=x")
	g, err := again.Open("d/a")
	must(t, err, g.Sync(), again.SyncDir("d"))
	expect(t, again, "a=x")
	expect(t, s.Killed(), states(s, s.Len())...)
}

// TestSample checks that each sampled state is a possible state, and so is each result of PowerCut.
func TestSample(t *testing.T) {
	s := faultfs.New()
	for _, name := range []string{"d/a", "d/b"} {
		f := create(t, s, name)
		write(t, f, 0, "abcdef")
		write(t, f, 3, "ghi")
	}
	all := map[uint64]bool{}
	for state := range s.Trace().States(faultfs.Plan{}) {
		all[state.Hash()] = true
	}
	seen := map[int]int{}
	for state := range s.Trace().States(faultfs.Plan{PerCut: 20, Seed: 7}) {
		if seen[state.Cut]++; !strings.Contains(state.String(), "crash after") {
			t.Error(state)
		}
		if state.Cut < 4 && !all[state.Hash()] {
			t.Errorf("impossible: %v", state)
		}
	}
	for cut, n := range seen {
		if n > 20 {
			t.Errorf("%d states at cut %d", n, cut)
		}
	}
	if len(seen) != s.Len()+1 {
		t.Errorf("%d cuts of %d", len(seen), s.Len()+1)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		files := s.PowerCut(rnd).Files()
		for name, data := range files {
			if len(data) > 6 {
				t.Fatalf("%s has %q", name, data)
			}
		}
	}
	if len(all) < 80 {
		t.Errorf("only %d states", len(all))
	}
}
