package outbox

import (
	"math"

	"github.com/mooring-mqtt/mooring/persistence"
)

// lostSession is what is known about messages in flight when the server loses the
// session. Only the goroutine that connects uses it.
type lostSession struct {
	// Up to here, by Entry.Number, earlier processes may have sent their messages in
	// the present session.
	earlier    [persistence.Priorities]uint64
	earlierSeq uint64
	recorded   []inFlight // ended in the store and not reported yet
	report     Lost       // for the next NewSession
}

type inFlight struct {
	seq uint64
	id  [16]byte
}

// Lost counts the messages that were in flight in a lost session.
type Lost struct{ Republished, Failed int }

func newLostSession(store Store) (l lostSession) {
	l.earlierSeq = store.LastSeq()
	for p := range l.earlier {
		l.earlier[p] = store.Sent(persistence.Priority(p))
	}
	return l
}

// ResetSession makes the session in the store void, durably, and gives it to owner.
// sent are the messages that this process has sent in it. Messages that are not to
// be sent twice end first in the log: once the session is void, the store does not
// know any more that they were sent. They are reported when all is durable; after an
// error the next call continues.
func (o *Outbox) ResetSession(owner string, sent []uint64) error {
	l := &o.lost
	l.report.Republished = 0
	if err := o.eachInFlight(sent, func(e *persistence.Entry) error {
		if !o.failsInFlight(e) {
			l.report.Republished++
			return nil
		}
		if err := o.cfg.Store.Done(e.Seq, sessionLost(e.ID).result()); err != nil {
			return err // it is in flight for the next call, too
		}
		l.recorded = append(l.recorded, inFlight{e.Seq, e.ID})
		return nil
	}); err != nil {
		return err
	}
	if err := o.cfg.Store.ResetSession(owner); err != nil {
		return err
	}
	if len(l.recorded) > 0 {
		o.open.connectionEnded()
	}
	for _, m := range l.recorded {
		o.end(m.seq, sessionLost(m.id))
	}
	l.report.Failed += len(l.recorded)
	l.recorded = nil
	return nil
}

// NewSession begins a new session, after ResetSession. It returns what was in flight
// in the last one.
func (o *Outbox) NewSession() Lost {
	report := o.lost.report
	o.lost.report, o.lost.earlier = Lost{}, [persistence.Priorities]uint64{}
	return report
}

func sessionLost(id [16]byte) End { return End{ID: id, State: Dropped, Cause: SessionLost} }

// failsInFlight reports whether e fails with the session that it was sent in.
func (o *Outbox) failsInFlight(e *persistence.Entry) bool {
	if e.OnSessionLost == persistence.AsConfigured {
		return o.cfg.OnSessionLost == persistence.FailInFlight
	}
	return e.OnSessionLost == persistence.FailInFlight
}

// eachInFlight calls yield for each pending message that may have been sent in the
// session: those in sent, and those of earlier processes up to their watermark.
func (o *Outbox) eachInFlight(sent []uint64, yield func(*persistence.Entry) error) error {
	var e persistence.Entry
	seen := make(map[uint64]bool, len(sent))
	for _, seq := range sent {
		seen[seq] = true
		if ok, err := o.cfg.Store.Get(seq, &e); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := yield(&e); err != nil {
			return err
		}
	}
	for p, last := range o.lost.earlier {
		at := persistence.Cursor{math.MaxUint64, math.MaxUint64, math.MaxUint64} // this priority only
		for at[p] = 0; last > 0; at.Pass(&e) {
			ok, err := o.cfg.Store.Next(&at, &e)
			if err != nil {
				return err
			}
			if !ok || e.Number > last || e.Seq > o.lost.earlierSeq {
				break
			}
			if seen[e.Seq] {
				continue
			}
			if err := yield(&e); err != nil {
				return err
			}
		}
	}
	return nil
}
