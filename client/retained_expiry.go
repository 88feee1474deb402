package client

import "time"

// expiry takes messages out of a RetainedView when their Message Expiry Interval is
// over: the server does not tell. One timer for all, that looks at them at most once
// a second, so a message goes up to a second late; it is not returned meanwhile.
type expiry struct {
	timer *time.Timer
	next  time.Time // when timer comes; zero: not
	over  bool
}

const expiryPace = time.Second

// expireAtLocked sees to it that a message that expires at that time goes; zero: it
// does not.
func (v *mirror) expireAtLocked(at time.Time) {
	x := &v.expiry
	if now := time.Now(); at.Before(now.Add(expiryPace)) && !at.IsZero() {
		at = now.Add(expiryPace)
	}
	switch {
	case x.over || at.IsZero() || !x.next.IsZero() && !at.Before(x.next):
		return
	case x.timer == nil:
		x.timer = time.AfterFunc(time.Until(at), v.expire)
	default:
		x.timer.Reset(time.Until(at))
	}
	x.next = at
}

func (v *mirror) expire() {
	v.held.Lock()
	defer v.held.Unlock()
	v.expiry.next = time.Time{}
	var soonest time.Time
	for _, e := range v.entries {
		switch {
		case e.expired():
			v.removeLocked(e)
		case !e.expires.IsZero() && (soonest.IsZero() || e.expires.Before(soonest)):
			soonest = e.expires
		}
	}
	v.expireAtLocked(soonest)
}

// finish ends the view.
func (v *mirror) finish() {
	v.held.Lock()
	v.expiry.over = true
	if v.expiry.timer != nil {
		v.expiry.timer.Stop()
	}
	v.held.Unlock()
	v.changes.close()
}
