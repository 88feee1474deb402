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
	ever   bool // synced in any epoch
	told   bool // ViewStale, since the last Synced
	states [Stale + 1]int
}

// stand is one epoch.
type stand struct {
	lost   time.Duration // the last sign of life on the link; of the present: not set
	online int           // devices shown as Online that were last confirmed in it
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

// lose ends the present epoch.
func (v *view) lose(at time.Duration) {
	v.now.lost = at
	v.ended = append(v.ended, v.now)
	v.now = stand{}
	if v.epoch++; len(v.ended) > maxEnded {
		v.ended[0].online += v.ended[1].online
		v.ended = append(v.ended[:1], v.ended[2:]...)
		v.first++
	}
	v.synced = false
}

// sync ends all that was before the present epoch.
func (v *view) sync() {
	v.ended, v.first = v.ended[:0], v.epoch
	v.synced, v.ever, v.told = true, true, false
}

// Lost says that our own link is gone, or that the subscription on it has to be
// made again. alive is the last time at which the server is known to have been in
// touch with us: when its last packet came.
func (t *Tracker) Lost(alive time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.lose(t.since(alive))
}

// Synced says that everything that the server has retained has come since Lost,
// or since the beginning. tell gets a Forgotten for each device that was not among
// it, and then a ViewSynced; it may be nil and must not call the Tracker's
// Synced or Expire.
func (t *Tracker) Synced(at time.Time, tell func(Change)) {
	t.mu.Lock()
	var lost []*device
	for _, d := range t.devices {
		if d.epoch != t.view.epoch {
			lost = append(lost, d)
		}
	}
	t.mu.Unlock()
	for _, d := range lost {
		t.mu.Lock()
		unconfirmed := !d.gone && d.epoch != t.view.epoch
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
	t.view.sync()
	t.mu.Unlock()
	if tell != nil {
		tell(Change{Kind: ViewSynced, At: at})
	}
}

// shown is the state of a device as it is now.
func (t *Tracker) shown(d *device, now time.Duration) State {
	if d.shown == Online && d.epoch != t.view.epoch && now >= t.stale(t.view.of(d)) {
		return Stale
	}
	return d.shown
}

// stale is when the Online devices of an epoch that has ended are shown as Stale.
func (t *Tracker) stale(s *stand) time.Duration { return s.lost + max(t.opts.StaleAfter, 0) }
