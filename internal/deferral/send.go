package deferral

import (
	"maps"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Trial returns the message that was sent alone and has no answer; 0: there is none.
func (d *Queue) Trial() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trial
}

// Ended notes the end of a message. The server's answer to it, whatever it is, opens its lane; acked:
// the server took it.
func (d *Queue) Ended(seq uint64, answered, acked bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.endGivenUp(seq) {
		return
	}
	trial := d.trial == seq
	l := d.remove(seq)
	if l == nil {
		return
	}
	if answered && trial {
		d.rest = time.Time{}
	}
	if answered && (!l.alone || trial) { // PUBCOMP of an earlier message says nothing about the topic
		if l.attempts > 0 && acked {
			d.passed(l.code, now)
		}
		d.reopen(l, now)
		return
	}
	d.schedule(l, now)
}

// Gone notes that a message has ended before.
func (d *Queue) Gone(seq uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.endGivenUp(seq) {
		return
	}
	if l := d.remove(seq); l != nil {
		d.schedule(l, now)
	}
}

// Released notes that the server has taken over a message that may have been sent alone: its topic
// works.
func (d *Queue) Released(seq uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trial != seq {
		return
	}
	d.trial, d.rest = 0, time.Time{}
	d.reopen(d.sent[seq].lane, now)
}

// reopen lets all messages of a lane go.
func (d *Queue) reopen(l *lane, now time.Time) {
	l.open, l.alone, l.silent, l.until, l.attempts = true, l.one, false, now, 0
	d.schedule(l, now)
}

// InFlight returns the messages that were sent and not acknowledged, ascending.
func (d *Queue) InFlight() []uint64 {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.sent))
}

// Waits reports whether a message is deferred and not in flight, or has an answer that was not looked at.
func (d *Queue) Waits(seq uint64) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, givenUp := d.givenUp[seq]
	return givenUp || d.queued[seq] != nil || slices.ContainsFunc(d.refused, func(r Refusal) bool { return r.Seq == seq })
}

// passed makes the lanes due that wait because of the same state of the server.
func (d *Queue) passed(code byte, now time.Time) {
	if code != wire.ReasonNotAuthorized { // this is about one topic
		d.due(now, func(c byte) bool { return c == code }, false)
	}
}

// Due makes the lanes due that wait because of a reason code for which because returns true. fresh: their
// delays begin anew.
func (d *Queue) Due(now time.Time, because func(code byte) bool, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due(now, because, fresh)
}

func (d *Queue) due(now time.Time, because func(code byte) bool, fresh bool) {
	for _, lanes := range d.lanes {
		for _, l := range lanes {
			if !l.alone && because(l.code) {
				if l.until = now; fresh {
					l.attempts = 0
				}
				d.schedule(l, now)
			}
		}
	}
}

// PickAlone returns the message that is to be sent alone now; may: one may be tried; quiet: no other
// message is in flight. hold reports that no other message may be sent now.
func (d *Queue) PickAlone(now time.Time, may, quiet bool) (x Item, ok, hold bool) {
	if !d.any.Load() {
		return x, false, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.trial != 0:
		return x, false, true
	case !may || len(d.isolated) == 0 || now.Before(d.isolated[0].until) || now.Before(d.rest):
		return x, false, false
	case !quiet:
		return x, false, true
	}
	l := d.isolated[0]
	d.leave(l)
	x = d.pop(l)
	d.trial = x.Seq
	return x, true, true
}

// Pick returns the next message of a topic that is to be sent now.
func (d *Queue) Pick(now time.Time) (x Item, ok bool) {
	if !d.any.Load() {
		return x, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.waiting) > 0 && !now.Before(d.waiting[0].until) {
		l := d.waiting[0]
		d.leave(l) // also if one of its messages is in flight: the answer schedules it
		d.schedule(l, now)
	}
	for len(d.ready) > 0 {
		l := d.ready[0]
		d.ready = d.ready[1:]
		l.queued = false
		if len(l.queue) == 0 || l.alone || !l.open && l.sent > 0 || now.Before(l.until) {
			d.schedule(l, now)
			continue
		}
		x = d.pop(l)
		d.schedule(l, now) // at the end: lanes take turns
		return x, true
	}
	return x, false
}

// Under notes the packet identifier that a picked message is sent under.
func (d *Queue) Under(seq uint64, id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.sent[seq]; ok {
		f.ID = id
		d.sent[seq], d.held[id] = f, seq
	}
}

// Reserve notes that a message that is not here has a packet identifier.
func (d *Queue) Reserve(id uint16, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != 0 {
		d.held[id] = seq
		d.any.Store(true)
	}
}

// Release takes back Reserve.
func (d *Queue) Release(id uint16, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(id, seq)
}

// Unpick takes back a message that was picked and not sent.
func (d *Queue) Unpick(x Item, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.sent[x.Seq]
	if !ok {
		return
	}
	delete(d.sent, x.Seq)
	if f.ID != x.ID {
		d.release(f.ID, x.Seq)
	}
	f.lane.sent--
	if d.trial == x.Seq {
		d.trial = 0
	}
	d.insert(f.lane, x)
	d.schedule(f.lane, now)
}

// SessionLost takes back all messages in flight, and their packet identifiers.
func (d *Queue) SessionLost(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.held)
	for _, lanes := range d.lanes {
		for _, l := range lanes {
			d.forgetIDs(l)
		}
	}
	for _, l := range d.isolated {
		d.forgetIDs(l)
	}
	if d.any.Load() {
		d.expires = 0 // messages that may have been sent can expire now
	}
	for seq, x := range d.givenUp {
		x.ID = 0
		d.givenUp[seq] = x
	}
	for seq, f := range d.sent {
		delete(d.sent, seq)
		f.lane.sent--
		f.ID = 0
		d.insert(f.lane, f.Item)
		d.schedule(f.lane, now)
	}
	d.trial = 0
}
