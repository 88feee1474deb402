package presence

import "time"

// view is the state of the link, divided into epochs in which it was up.
type view struct {
	epoch    uint32 // number of the present epoch
	first    uint32 // number of ended[0]
	ended    []epoch
	now      epoch
	synced   bool // the present epoch is synced
	quiet    bool // the last epoch was synced and ended with Resync
	ever     bool // at least one epoch was synced
	reported bool // a ViewStale was reported since the last Synced
	states   [Stale + 1]int
}

// epoch is a period in which the link was up.
type epoch struct {
	lost     time.Duration // time of the last packet on the link; not set in the present epoch
	up       bool          // the epoch ended with Resync, and the link was not lost since then
	online   int           // number of devices that were last confirmed in this epoch and are shown as Online
	news     bool          // a device was reported Online in this epoch
	reported bool          // a ViewStale was reported after this epoch became stale
}

// maxEnded limits the number of stored epochs. If the link is lost more often without a sync, the
// two oldest epochs are merged. The merged epoch has the time of the older one.
const maxEnded = 32

// of returns the epoch in which the device was last confirmed.
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

// begin ends the present epoch while the link stays up.
func (v *view) begin() {
	v.now.up = true
	v.ended = append(v.ended, v.now)
	v.now = epoch{}
	if v.epoch++; len(v.ended) > maxEnded {
		a, b := &v.ended[0], &v.ended[1]
		a.online += b.online
		if b.news && !b.reported {
			a.news, a.reported = true, false
		}
		v.ended = append(v.ended[:1], v.ended[2:]...)
		v.first++
	}
}

// viewStaleDue reports whether a ViewStale is due when epoch i becomes stale. One ViewStale is due
// after each Synced. Another one is due if a device was reported Online after that.
func (v *view) viewStaleDue(i int) bool {
	s := &v.ended[i]
	return !s.up && (i == 0 && v.ever && !v.reported || s.news && !s.reported && s.online > 0)
}

// sync removes the epochs before the present one.
func (v *view) sync() {
	v.ended, v.first = v.ended[:0], v.epoch
	v.synced, v.quiet, v.ever, v.reported = true, false, true, false
}

// Lost tells the Tracker that the link is down, or that the subscription has ended. alive is the
// time at which the server's last packet was received.
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

// Resync tells the Tracker that the client has subscribed again while the link is up. The server
// then sends all retained statuses again. Resync changes no State. The next Synced forgets the
// devices for which no status was received. If the Tracker was synced before Resync, that Synced
// reports no ViewSynced.
func (t *Tracker) Resync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.begin()
	t.view.quiet, t.view.synced = t.view.quiet || t.view.synced, false
}

// Synced tells the Tracker that all retained statuses were received since the last Lost, or since
// the beginning. It calls tell with a Forgotten, with Absent set, for each device that has no
// retained status. It then calls tell with a ViewSynced, unless Lost was called during Synced. tell may be nil. tell
// must not call Synced or Expire.
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
		c.Absent = true
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

// shown returns the state of a device, including the effect of a link that is down.
func (t *Tracker) shown(d *device, now time.Duration) State {
	if d.shown == Online && d.epoch != t.view.epoch && t.isStale(t.view.of(d), now) {
		return Stale
	}
	return d.shown
}

// isStale reports whether the Online devices of an ended epoch are Stale.
func (t *Tracker) isStale(s *epoch, now time.Duration) bool { return !s.up && now >= t.stale(s) }

// stale returns when the Online devices of an ended epoch become Stale.
func (t *Tracker) stale(s *epoch) time.Duration { return s.lost + max(t.opts.StaleAfter, 0) }
