package persistence

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNow_ContinuesAfterReopen checks that the clock of the store does not go back between two
// openings, and that it runs at the speed of the system clock.
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
		m.state.ledger.Clock.Offset += 5000 // as if the system clock had been ahead
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

// TestMaxAge checks that MaxAge bounds Expires, and sets it for a message without it.
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
