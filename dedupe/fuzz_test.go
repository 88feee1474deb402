package dedupe

import (
	"errors"
	"os"
	"testing"
	"time"
)

// FuzzRecover opens any bytes as a log. The only error is ErrFormat. The recovered
// keys, and a key that is committed afterwards, are Duplicates after a restart.
func FuzzRecover(f *testing.F) {
	good := []byte(header)
	good = appendRecord(good, time.Minute, 1e18, "one")
	good = appendRecord(good, time.Hour, 1e18, "two")
	good = appendRecord(good, 2*time.Hour, 1e18, "")
	f.Add(good)
	f.Add(good[:len(good)-5])
	f.Add([]byte(header))
	f.Add([]byte("mooring"))
	f.Add([]byte("something else altogether"))
	f.Add(good[10:])
	f.Add(appendOpenRecord([]byte(header), time.Minute, 1e18, tokensPerOpen))
	f.Add(appendOpenRecord(good, time.Minute, 1e18, maxBaseToken+1))
	f.Add(appendRecord([]byte(header), maxClock, -1, "far future"))
	f.Add(appendRecord(append(good, "mdd1 noise"...), time.Second, 1, "one"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := testPath(t)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		o := Options{Capacity: 8, TTL: -1}
		c, err := OpenFile(path, o)
		if errors.Is(err, ErrFormat) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var known []string
		c.table.each(func(key string, _ time.Duration) { known = append(known, key) })
		if claim, v, _ := c.Begin(t.Context(), "fuzz key", owner); v == Fresh {
			if err := c.Commit(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			known = append(known, "fuzz key")
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c, err = OpenFile(path, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if s := c.Stats(); s.Corrupt != 0 || s.TornBytes != 0 {
			t.Fatalf("not repaired: %+v", s)
		}
		for _, key := range known[max(0, len(known)-o.Capacity):] {
			want(t, c, key, Duplicate)
		}
	})
}
