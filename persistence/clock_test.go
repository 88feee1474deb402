package persistence

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClock: what a store's clock shows when it is opened, after an earlier
// opening has noted a time.
func TestClock(t *testing.T) {
	const set = neverSet + 1_000_000 // some time after the bubble's clock
	for _, c := range []struct {
		name    string
		last    int64
		waiting bool
		now     int64
		want    int64
	}{
		{"new", 0, false, set, set},
		{"later", set - 500, true, set, set},
		{"the system's clock went back", set + 5000, true, set, set + 5000},
		{"it went back, nothing waits", set + 5000, false, set, set},
		{"it was never set before, messages wait", 1000, true, set, 1000},
		{"it was never set before, nothing waits", 1000, false, set, set},
		{"it is not set", 5000, false, 1000, 5000},
	} {
		var k clock
		k.beginAt(time.UnixMilli(c.now), c.last, c.waiting)
		if got := k.start.UnixMilli() + k.offset; got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestNowGoesOn: from one opening to the next the store's clock does not run
// back, and it goes at the system's pace.
func TestNowGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(Options{})
		begin := m.Now()
		time.Sleep(time.Hour)
		if d := m.Now().Sub(begin); d != time.Hour {
			t.Errorf("an hour took %v", d)
		}
		if _, err := Append(m, &Message{}); err != nil {
			t.Fatal(err)
		}
		m.ledger.clock.offset += 5000 // as if the system's clock had shown more
		before := m.Now()
		m = m.Reopen()
		defer m.Close()
		if m.Now().Before(before) {
			t.Errorf("%v, then %v", before, m.Now())
		}
		var e Entry
		if ok, err := m.Get(1, &e); !ok || err != nil || e.Accepted.Sub(begin) != time.Hour {
			t.Errorf("accepted %v after %v, %v", e.Accepted, begin, err)
		}
	})
}

// TestMaxAge: it bounds Expires, and sets it where there is none.
func TestMaxAge(t *testing.T) {
	m := NewMemory(Options{Limits: Limits{MaxAge: time.Minute}})
	defer m.Close()
	at := m.Now()
	for i, expires := range []time.Time{{}, at.Add(time.Hour), at.Add(time.Second)} {
		if _, err := Append(m, &Message{Accepted: at, Expires: expires}); err != nil {
			t.Fatal(err)
		}
		var e Entry
		want := []time.Duration{time.Minute, time.Minute, time.Second}[i]
		if ok, err := m.Get(uint64(i+1), &e); !ok || err != nil || e.Expires.Sub(e.Accepted) != want {
			t.Errorf("%d: expires after %v, want %v", i, e.Expires.Sub(e.Accepted), want)
		}
	}
}

// TestWear: a page that was synced counts whole, and a day later no more.
func TestWear(t *testing.T) {
	var w wear
	w.add(0, 1, hourMillis)
	w.add(4000, 5000, 2*hourMillis)
	w.add(4096, 8192, 2*hourMillis)
	w.add(10, 10, 2*hourMillis)
	for _, c := range []struct{ hour, day uint64 }{{2, 4}, {24, 4}, {25, 3}, {26, 0}, {1000, 0}} {
		if total, day := w.read(int64(c.hour) * hourMillis); total != 4*pageSize || day != c.day*pageSize {
			t.Errorf("hour %d: %d in all, %d of a day; want %d pages", c.hour, total, day, c.day)
		}
	}
}
