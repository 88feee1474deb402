package outbox

import (
	"math"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// lostSession is what the outbox knows about messages in flight when the server loses the session.
// Only the goroutine that connects uses it.
type lostSession struct {
	policy persistence.SessionLostPolicy // for messages that set no policy
	// Earlier processes may have sent messages up to this Entry.Number in the present session.
	earlier    [persistence.Priorities]uint64
	earlierSeq uint64
	recorded   []inFlight // ended in the store, but not reported yet
	report     Lost       // for the next NewSession
}

type inFlight struct {
	seq   uint64
	id    [16]byte
	topic string
}

// Lost counts the messages that were in flight in a lost session.
type Lost struct{ Republished, Failed int }

func newLostSession(cfg *Config) (l lostSession) {
	store := cfg.Store
	l.policy, l.earlierSeq = cfg.OnSessionLost, store.LastSeq()
	for p := range l.earlier {
		l.earlier[p] = store.Sent(persistence.Priority(p))
	}
	return l
}

// record ends the in-flight messages that fail with their session, in the store, and counts the
// others. sent lists the messages that this process has sent in the session. The messages of
// earlier processes up to their watermark are in flight as well.
func (l *lostSession) record(store Store, sent []uint64) error {
	l.report.Republished = 0
	var e persistence.Entry
	lose := func() error {
		if e.Deferral.GivenUp { // it ends by itself
			return nil
		}
		if !failsInFlight(&e, l.policy) {
			l.report.Republished++
			return nil
		}
		if err := store.Done(e.Seq, sessionLost(e.ID, "").result()); err != nil {
			return err // it stays in flight for the next call
		}
		l.recorded = append(l.recorded, inFlight{e.Seq, e.ID, string(wire.ImageTopic(e.Packet))})
		return nil
	}
	seen := make(map[uint64]bool, len(sent))
	for _, seq := range sent {
		seen[seq] = true
		ok, err := store.Get(seq, &e)
		if ok && err == nil {
			err = lose()
		}
		if err != nil {
			return err
		}
	}
	for _, d := range store.Deferred() {
		if d.PacketID == 0 || seen[d.Seq] {
			continue
		}
		ok, err := store.Get(d.Seq, &e)
		if ok && err == nil {
			err = lose()
		}
		if err != nil {
			return err
		}
	}
	for p, last := range l.earlier {
		at := persistence.Cursor{math.MaxUint64, math.MaxUint64, math.MaxUint64} // visit only this priority
		for at[p] = 0; last > 0; at.Pass(&e) {
			ok, err := store.Next(&at, &e)
			if err == nil && (!ok || e.Number > last || e.Seq > l.earlierSeq) {
				break
			}
			if err == nil && !seen[e.Seq] {
				err = lose()
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
