package dedupe

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A limit of 1 is not replaced by the default.
func TestMemory_LimitsOfOne(t *testing.T) {
	m := NewMemory(Options{Capacity: 1, MaxInFlight: 1})
	handle(t, m, "a")
	handle(t, m, "b")
	want(t, m, "a", Fresh)
	if _, _, err := m.Begin(t.Context(), "c", owner); !errors.Is(err, ErrTooManyInFlight) {
		t.Errorf("a second claim: %v", err)
	}
	want(t, m, "b", Duplicate)
}

// Stats does not count expired keys, even without a Begin since, and keeps the
// counters after Close.
func TestStats_ExpiredKeysAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]Cache{
			"Memory": NewMemory(Options{TTL: time.Minute}),
			"File":   openOn(t, testPath(t), newFaultDisk(), Options{TTL: time.Minute}),
		} {
			handle(t, c, "a")
			time.Sleep(time.Minute)
			if s := c.Stats(); s.Size != 0 || s.Expired != 1 {
				t.Errorf("%s: %+v", name, s)
			}
			c.Close()
			if s := c.Stats(); s.Committed != 1 || s.Expired != 1 {
				t.Errorf("%s, closed: %+v", name, s)
			}
		}
	})
}

// OnEvict is called for keys that expired while the log was closed, and for keys beyond
// a smaller Capacity.
func TestOpenFile_ReportsDroppedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, path := newFaultDisk(), testPath(t)
		var told []string
		o := Options{TTL: time.Hour, OnEvict: func(key string, why Reason) { told = append(told, fmt.Sprint(key, " ", why)) }}
		f := openOn(t, path, d, o)
		handle(t, f, "old")
		time.Sleep(50 * time.Minute)
		handle(t, f, "one")
		handle(t, f, "two")
		time.Sleep(5 * time.Minute)
		f.Close()
		time.Sleep(10 * time.Minute)

		f = openOn(t, path, d, o)
		if s := f.Stats(); !slices.Equal(told, []string{"old age"}) || s.Recovered != 2 {
			t.Errorf("told %q, %+v", told, s)
		}
		f.Close()
		o.Capacity = 1
		f = openOn(t, path, d, o)
		defer f.Close()
		if !slices.Contains(told, "one capacity") {
			t.Errorf("told %q", told)
		}
	})
}

// A damaged log that cannot be copied is repaired, and the failure is counted.
func TestOpenFile_DamagedLogWithoutCopy(t *testing.T) {
	data := logOf(t, "one", "two")
	data[len(header)+recordHead+recordHead] ^= 0x40
	path := testPath(t)
	d := diskWith(path, data)
	failed := false
	d.fail = func(op string) error {
		if failed || op != "create" {
			return nil
		}
		failed = true
		return errDisk
	}
	f := openOn(t, path, d, Options{})
	defer f.Close()
	want(t, f, "two", Duplicate)
	if s := f.Stats(); s.AsideRefused != 1 || s.Corrupt != 1 {
		t.Errorf("%+v", s)
	}
	g := openOn(t, testPath(t), diskWith(path, data), Options{})
	defer g.Close()
	if s := g.Stats(); s.AsideRefused != 0 {
		t.Errorf("%+v", s)
	}
}

// A record with an impossible time is damage even if its checksum is right: the clock
// would overflow.
func TestParseRecord_RejectsInvalidTimes(t *testing.T) {
	for clock, want := range map[time.Duration]bool{-1: false, 0: true, maxClock: true, maxClock + 1: false} {
		if _, _, ok := parseRecord(appendRecord(nil, clock, 0, "a")); ok != want {
			t.Errorf("%d: %v", clock, ok)
		}
	}
}

// A compaction resets the count of records.
func TestFile_CompactionResetsTheCount(t *testing.T) {
	f := openOn(t, testPath(t), newFaultDisk(), Options{Capacity: 100})
	for i := range 3000 {
		handle(t, f, fmt.Sprint(i))
	}
	if s := f.Stats(); s.Compactions != 2 {
		t.Errorf("%d compactions of 3,000 keys, with %d beyond what is kept for each", s.Compactions, minRecords)
	}
	f.Close()
}
