package presence

import "time"

// view knows what may be believed while our own link comes and goes. An epoch is
// one stand of the link; it ends with Lost. Each device has that in which it was
// last confirmed.
type view struct {
	epoch  uint32 // the present one
	first  uint32 // that of ended[0]
	ended  []stand
	now    stand
	synced bool // in the present epoch
	quiet  bool // it was, and only Resync has come since
	ever   bool // synced in any epoch
	told   bool // ViewStale, since the last Synced
	states [Stale + 1]int
}

// stand is one epoch.
type stand struct {
	lost   time.Duration // the last sign of life on the link; of the present: not set
	stands bool          // the link was not lost since: it ended with Resync
	online int           // devices shown as Online that were last confirmed in it
	news   bool          // that one is Online was told in it
	told   bool          // a ViewStale was told since it is stale
}

// maxEnded bounds the epochs that are told apart. Before a link is lost more
// often than that without a sync, the two oldest become one, with the time of the
// older.
const maxEnded = 32

func newView() view { return view{epoch: 1, first: 1} }

// of is the epoch that a device belongs to.
func (v *view) of(d *device) *stand {
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

// lose ends the present epoch with the link.
func (v *view) lose(at time.Duration) {
	v.begin()
	v.synced, v.quiet = false, false
	for i := range v.ended {
		if s := &v.ended[i]; s.stands {
			s.lost, s.stands = at, false
		}
	}
}

// begin ends the present epoch; the link stands.
func (v *view) begin() {
	v.now.stands = true
	v.ended = append(v.ended, v.now)
	v.now = stand{}
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

// untold reports whether a ViewStale is due when stand i is stale: one for all since
// the last Synced, and one more where a device was told to be Online behind it.
func (v *view) untold(i int) bool {
	s := &v.ended[i]
	return !s.stands && (i == 0 && v.ever && !v.told || s.news && !s.told && s.online > 0)
}

// sync ends all that was before the present epoch.
func (v *view) sync() {
	v.ended, v.first = v.ended[:0], v.epoch
	v.synced, v.quiet, v.ever, v.told = true, false, true, false
}

// Lost says that our own link is gone, or that nothing is subscribed to on it any
// more. alive is the last time at which the server is known to have been in
// touch with us: when its last packet came.
func (t *Tracker) Lost(alive time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.lose(t.since(alive))
}

// Resync says that the subscription is made again on a link that stands, and all that
// is retained comes again. Everything stays as it is shown; what has not come again
// by Synced is forgotten. If everything was known before, Synced tells no ViewSynced.
func (t *Tracker) Resync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.begin()
	t.view.quiet, t.view.synced = t.view.quiet || t.view.synced, false
}

// Synced says that everything that the server has retained has come since Lost,
// or since the beginning. tell gets a Forgotten for each device that was not among
// it, and then a ViewSynced; it may be nil and must not call the Tracker's
// Synced or Expire. If a Lost comes in between, that is all: it is not synced.
func (t *Tracker) Synced(at time.Time, tell func(Change)) {
	t.mu.Lock()
	epoch := t.view.epoch
	var lost []*device
	for _, d := range t.devices {
		if d.epoch != epoch {
			lost = append(lost, d)
		}
	}
	t.mu.Unlock()
	for _, d := range lost {
		t.mu.Lock()
		unconfirmed := !d.gone && d.epoch != epoch && t.view.epoch == epoch
		var c Change
		if unconfirmed {
			c = t.removeLocked(d, at)
		}
		t.mu.Unlock()
		if unconfirmed && tell != nil {
			tell(c)
		}
	}
	t.mu.Lock()
	t.since(at)
	tells := t.view.epoch == epoch && !t.view.quiet
	if t.view.epoch == epoch {
		t.view.sync()
	}
	t.mu.Unlock()
	if tells && tell != nil {
		tell(Change{Kind: ViewSynced, At: at})
	}
}

// shown is the state of a device as it is now.
func (t *Tracker) shown(d *device, now time.Duration) State {
	if d.shown == Online && d.epoch != t.view.epoch && t.isStale(t.view.of(d), now) {
		return Stale
	}
	return d.shown
}

// isStale reports whether the Online devices of an epoch that has ended are shown as
// Stale.
func (t *Tracker) isStale(s *stand, now time.Duration) bool { return !s.stands && now >= t.stale(s) }

// stale is when the Online devices of an epoch that has ended are shown as Stale.
func (t *Tracker) stale(s *stand) time.Duration { return s.lost + max(t.opts.StaleAfter, 0) }
