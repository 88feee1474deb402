package client

import "time"

// alarm calls a function at the earliest time that it is set to. Its owner calls it
// under a lock.
type alarm struct {
	timer *time.Timer // its function calls rang
	at    time.Time   // when timer fires; zero: not
	off   bool        // it is not set any more
}

// set has f called at a time; zero: not.
func (a *alarm) set(at time.Time, f func()) {
	if a.off || at.IsZero() || !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	if a.at = at; a.timer == nil {
		a.timer = time.AfterFunc(time.Until(at), f)
	} else {
		a.timer.Reset(time.Until(at))
	}
}

func (a *alarm) rang() { a.at = time.Time{} }

// stop ends the alarm.
func (a *alarm) stop() {
	if a.off = true; a.timer != nil {
		a.timer.Stop()
	}
}
