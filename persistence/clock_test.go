package persistence

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNow_ContinuesAfterReopen: from one opening to the next the store's clock does not run
// back, and it goes at the system's pace.
func TestNow_ContinuesAfterReopen(t *testing.T) {
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
		m.state.ledger.Clock.Offset += 5000 // as if the system's clock had shown more
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
