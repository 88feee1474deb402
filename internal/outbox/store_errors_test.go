package outbox_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// If the store does not answer, the session stays valid and nothing is reported. The next call
// continues.
func TestResetSession_ContinuesAfterAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{OnSessionLost: persistence.FailInFlight}, persistence.Options{})
		r.connect(false, session.Limits{})
		w := r.add(message(1, 1))
		kept := message(2, 1)
		kept.OnSessionLost = persistence.Republish
		r.add(kept)
		r.want("1", "2")
		r.cut(0)
		broken := errors.New("the disk does not answer")
		store.reset = func() error { return broken }
		r.s.Begin(false)
		if err := r.o.ResetSession("owner", r.s.Unacked()); err != broken || len(r.ended) > 0 {
			t.Errorf("ResetSession returned %v and reported %v", err, r.ended)
		}
		wantState(t, w, outbox.Pending)
		store.reset = nil
		r.connect(true, session.Limits{}) // the session that the failed attempt has begun
		wantState(t, w, outbox.Dropped)
		if lost := r.o.NewSession(); lost != (outbox.Lost{Republished: 1, Failed: 1}) || len(r.ended) != 1 || r.ended[0].Cause != outbox.SessionLost {
			t.Errorf("lost %+v, reported %+v", lost, r.ended)
		}
		r.want("2")
	})
}

// After an error, the outbox uses the store again later.
func TestRun_RetriesTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		r.connect(false, session.Limits{})
		times := 2
		store.reading = func(*persistence.Cursor) error {
			if times--; times >= 0 {
				return errors.New("the disk does not answer")
			}
			return nil
		}
		r.add(message(1, 1))
		time.Sleep(3 * second)
		r.want("1")
		if len(r.failed) != 2 {
			t.Errorf("reported %v", r.failed)
		}
	})
}
