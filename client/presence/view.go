package presence

import "time"

// view is what holds while the own link goes down and up, by epochs of the link.
type view struct {
	epoch  uint32 // the present one
	first  uint32 // that of ended[0]
	ended  []epoch
	now    epoch
	synced bool // in the present epoch
	quiet  bool // it was, and only Resync was called since
	ever   bool // synced in any epoch
	told   bool // ViewStale was reported since the last Synced
	states [Stale + 1]int
}

// epoch is one time that the link was up.
type epoch struct {
	lost   time.Duration // the last sign of life on the link; not set in the present one
	up     bool          // the link was not lost since: it ended with Resync
	online int           // devices shown as Online that were last confirmed in it
	news   bool          // a device was reported Online in it
	told   bool          // ViewStale was reported since it is stale
}

// maxEnded bounds the epochs that are told apart. If a link is lost more often
// without a sync, the two oldest become one, with the time of the older.
const maxEnded = 32

// of returns the epoch that a device belongs to.
func (v *view) of(d *device) *epoch {
	if d.epoch == v.epoch {
		return &v.now
	}
	if d.epoch <= v.first {
		return &v.ended[0]
	}
	return &v.ended[d.epoch-v.first]
}

func (v *view) add(d *device) {
	v.states[d.shown]++
	if d.shown == Online {
		v.of(d).online++
	}
}

func (v *view) remove(d *device) {
	v.states[d.shown]--
	if d.shown == Online {
		v.of(d).online--
	}
}

// begin ends the present epoch; the link stays up.
func (v *view) begin() {
	v.now.up = true
	v.ended = append(v.ended, v.now)
	v.now = epoch{}
	if v.epoch++; len(v.ended) > maxEnded {
		a, b := &v.ended[0], &v.ended[1]
		a.online += b.online
		if b.news && !b.told {
			a.news, a.told = true, false
		}
		v.ended = append(v.ended[:1], v.ended[2:]...)
		v.first++
	}
}

// untold reports whether a ViewStale is due when epoch i is stale: one for all since
// the last Synced, and one more if a device was reported Online after it.
func (v *view) untold(i int) bool {
	s := &v.ended[i]
	return !s.up && (i == 0 && v.ever && !v.told || s.news && !s.told && s.online > 0)
}

// sync removes the epochs before the present one.
func (v *view) sync() {
	v.ended, v.first = v.ended[:0], v.epoch
	v.synced, v.quiet, v.ever, v.told = true, false, true, false
}

// Lost reports that the own link is down, or that its subscription has ended. alive
// is when the last packet of the server was received.
func (t *Tracker) Lost(alive time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, v := t.since(alive), &t.view
	v.begin()
	v.synced, v.quiet = false, false
	for i := range v.ended {
		if s := &v.ended[i]; s.up {
			s.lost, s.up = at, false
		}
	}
}

// Resync reports that the subscription was made again on a link that is up, and that
// all retained statuses are sent again. No state changes; devices without a status by
// Synced are forgotten. If the Tracker was synced, Synced reports no ViewSynced.
func (t *Tracker) Resync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.begin()
	t.view.quiet, t.view.synced = t.view.quiet || t.view.synced, false
}

// Synced reports that all retained statuses were received since Lost, or since the
// beginning. tell gets a Forgotten for each device without one, and a ViewSynced unless
// Lost is called meanwhile. It may be nil and must not call Synced or Expire.
func (t *Tracker) Synced(at time.Time, tell func(Change)) {
	if tell == nil {
		tell = func(Change) {}
	}
	t.mu.Lock()
	present := t.view.epoch
	var lost []*device
	for _, d := range t.devices {
		if d.epoch != present {
			lost = append(lost, d)
		}
	}
	t.mu.Unlock()
	for _, d := range lost {
		t.mu.Lock()
		if d.gone || d.epoch == present || t.view.epoch != present {
			t.mu.Unlock()
			continue
		}
		c := t.removeLocked(d, at)
		t.mu.Unlock()
		tell(c)
	}
	t.mu.Lock()
	t.since(at)
	synced, quiet := t.view.epoch == present, t.view.quiet
	if synced {
		t.view.sync()
	}
	t.mu.Unlock()
	if synced && !quiet {
		tell(Change{Kind: ViewSynced, At: at})
	}
}

// shown returns the state of a device.
func (t *Tracker) shown(d *device, now time.Duration) State {
	if d.shown == Online && d.epoch != t.view.epoch && t.isStale(t.view.of(d), now) {
		return Stale
	}
	return d.shown
}

// isStale reports whether the Online devices of an ended epoch are shown as Stale.
func (t *Tracker) isStale(s *epoch, now time.Duration) bool { return !s.up && now >= t.stale(s) }

// stale returns when the Online devices of an ended epoch are shown as Stale.
func (t *Tracker) stale(s *epoch) time.Duration { return s.lost + max(t.opts.StaleAfter, 0) }
