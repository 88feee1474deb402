package presence

import (
	"container/heap"
	"slices"
	"time"
)

// maxSilentIntervals is the number of heartbeat intervals for which a device may be silent before
// it becomes Stale.
const maxSilentIntervals = 3

// silence is a heap of the times at which devices are checked for silence. Each device is in the
// heap once. A new status does not change the time of the check. The check itself sets the next
// time.
type silence struct{ heap []check }

type check struct {
	at time.Duration
	d  *device
}

// arm schedules the check of a device.
func (s *silence) arm(d *device, devices int) {
	if d.raw != Online || d.interval == 0 || d.silent {
		return
	}
	at := d.limit()
	if d.due != 0 && d.due <= at {
		return
	}
	if len(s.heap) > 2*devices+64 { // a device whose interval becomes shorter leaves an old entry
		s.heap = slices.DeleteFunc(s.heap, func(c check) bool { return c.d.due != c.at || c.d.gone })
		heap.Init(s)
	}
	d.due = at
	heap.Push(s, check{at, d})
}

// limit returns the time until which a device may be silent.
func (d *device) limit() time.Duration {
	return d.confirmedAt + maxSilentIntervals*time.Duration(d.interval)*time.Second
}

// Expire makes devices Stale whose time has come. It calls tell with a Changed for each device that
// was silent for three intervals. It calls tell with a ViewStale if the link has been down for
// StaleAfter. It returns the time at which the caller should call Expire again, or zero if no call
// is needed. tell may be nil. tell must not call Synced or Expire.
func (t *Tracker) Expire(now time.Time, tell func(Change)) (next time.Time) {
	for {
		c, reported, next := t.expireOne(now)
		if !reported {
			return next
		}
		if tell != nil {
			tell(c)
		}
	}
}

// Hold defers the check for silence until the given time. Call it when the process was suspended or
// could not read, so that Apply gets the messages that were received meanwhile before a device
// becomes Stale. A call with an earlier time than the last one has no effect.
func (t *Tracker) Hold(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hold = max(t.hold, t.since(until))
}

func (t *Tracker) expireOne(at time.Time) (c Change, reported bool, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, v, s := t.since(at), &t.view, &t.silence
	schedule := func(due time.Duration) {
		if at := t.base.Add(due); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for i := range v.ended {
		if !v.viewStaleDue(i) {
			continue
		}
		stale := t.stale(&v.ended[i])
		if now >= stale {
			v.reported = true
			for j := range v.ended {
				v.ended[j].reported = v.ended[j].reported || t.isStale(&v.ended[j], now)
			}
			return Change{Kind: ViewStale, At: at}, true, next
		}
		schedule(stale)
	}
	for len(s.heap) > 0 && s.heap[0].at <= now && t.hold <= now {
		e := heap.Pop(s).(check)
		d := e.d
		if d.gone || d.due != e.at {
			continue
		}
		d.due = 0
		if d.raw != Online || d.interval == 0 || d.doubted || d.epoch != v.epoch {
			continue // the device is not Online until it is confirmed
		}
		if d.limit() > now {
			s.arm(d, len(t.devices))
			continue
		}
		v.remove(d)
		from := d.shown
		d.silent, d.shown, d.since = true, Stale, now
		v.add(d)
		return Change{At: at, Device: t.device(d, now), From: from}, true, next
	}
	if len(s.heap) > 0 {
		schedule(max(s.heap[0].at, t.hold))
	}
	return c, false, next
}

func (s *silence) Len() int           { return len(s.heap) }
func (s *silence) Less(i, j int) bool { return s.heap[i].at < s.heap[j].at }
func (s *silence) Swap(i, j int)      { s.heap[i], s.heap[j] = s.heap[j], s.heap[i] }
func (s *silence) Push(x any)         { s.heap = append(s.heap, x.(check)) }
func (s *silence) Pop() any {
	n := len(s.heap) - 1
	c := s.heap[n]
	s.heap[n] = check{}
	s.heap = s.heap[:n]
	return c
}
