package client

import (
	"math"

	"github.com/mooring-mqtt/mooring/persistence"
)

// lostSession is what has to be known when the server has lost the session. Only
// the goroutine that connects touches it.
type lostSession struct {
	// Up to here, by Entry.Number, earlier processes may have sent what they
	// accepted, in the session that this process goes on with.
	before [persistence.Priorities]uint64
	again  int          // of what was in flight, how many messages are published again
	failed []failedWith // given up in the store, and nobody was told yet
	told   int          // given up, and told since the last SessionLost
}

// failedWith is a message that is given up with its session.
type failedWith struct {
	seq uint64
	id  MessageID
}

func (l *lostSession) init(store persistence.Store) {
	for p := range l.before {
		l.before[p] = store.Sent(persistence.Priority(p))
	}
}

// voidSession makes the session in the store void, durably. What is to fail with it
// fails before that in the log: once the marks of what was sent are gone, nobody
// could tell what this is any more. Until then a process that comes after a crash
// finds the outcome, or the marks.
func (c *Client) voidSession(owner string) error {
	l := &c.lost
	l.again = 0
	if err := c.eachInFlight(func(e *persistence.Entry) error {
		if !c.failsInFlight(e) {
			l.again++
			return nil
		}
		if err := c.store.Done(e.Seq, persistence.Result{Kind: persistence.Dropped}); err != nil {
			return err // it is among those in flight the next time, too
		}
		l.failed = append(l.failed, failedWith{e.Seq, e.ID})
		return nil
	}); err != nil {
		return err
	}
	return c.store.ResetSession(owner)
}

// failsInFlight says whether a message fails with the session that it was sent in.
func (c *Client) failsInFlight(e *persistence.Entry) bool {
	if e.OnSessionLost == AsConfigured {
		return c.cfg.Session.OnLost == FailInFlight
	}
	return e.OnSessionLost == FailInFlight
}

// eachInFlight calls yield for each message that may have been sent in the session
// and is not done: what this process has sent, and of earlier ones what is marked.
func (c *Client) eachInFlight(yield func(*persistence.Entry) error) error {
	var e persistence.Entry
	ours := map[uint64]bool{}
	for _, seq := range c.session.Unacked() {
		ours[seq] = true
		if ok, err := c.store.Get(seq, &e); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := yield(&e); err != nil {
			return err
		}
	}
	for p, last := range c.lost.before {
		at := persistence.Cursor{math.MaxUint64, math.MaxUint64, math.MaxUint64} // none of the others
		for at[p] = 0; last > 0; at.Pass(&e) {
			ok, err := c.store.Next(&at, &e)
			if err != nil {
				return err
			}
			if !ok || e.Number > last || e.Seq > c.pending.before {
				break
			}
			if ours[e.Seq] {
				continue
			}
			if err := yield(&e); err != nil {
				return err
			}
		}
	}
	return nil
}

// sessionLost runs when the server has no session and the store knows that, before
// anything is sent in the new one.
func (c *Client) sessionLost() {
	l := &c.lost
	failed := l.told + len(l.failed)
	if l.again+failed > 0 || c.identity.Expected() {
		c.counters.sessionsLost.Add(1)
		c.event(SessionLost{InFlight: l.again + failed, Republished: l.again, Failed: failed})
	}
	c.tellFailed()
	l.before, l.told = [persistence.Priorities]uint64{}, 0
}

// tellFailed tells of the messages that were given up with their session, once that
// is durable.
func (c *Client) tellFailed() {
	l := &c.lost
	if len(l.failed) == 0 {
		return
	}
	c.pending.unsent() // that they fail says nothing about the server
	for _, m := range l.failed {
		c.finish(m.seq, persistence.Result{Kind: persistence.Dropped}, Outcome{State: Dropped, Err: ErrSessionLost}, m.id)
	}
	l.told += len(l.failed)
	l.failed = nil
}
