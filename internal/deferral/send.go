package deferral

import (
	"maps"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Trial returns the message that was sent alone and is unanswered, or 0.
func (d *Queue) Trial() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trial
}

// Ended records the end of a message. answered means that the server answered it; any answer opens
// its topic queue. acked means that the server accepted it.
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
	if answered && (!l.alone || trial) { // a PUBCOMP for an earlier message is no evidence about the topic
		if l.attempts > 0 && acked {
			d.passed(l.code, now)
		}
		d.reopen(l, now)
		return
	}
	d.schedule(l, now)
}

// Gone records that a message has already ended.
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

// Released records that the server has sent PUBREC for a message. If that message was sent alone,
// its topic works again.
func (d *Queue) Released(seq uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trial != seq {
		return
	}
	d.trial, d.rest = 0, time.Time{}
	d.reopen(d.sent[seq].topicQueue, now)
}

// reopen releases all messages of a topic queue.
func (d *Queue) reopen(l *topicQueue, now time.Time) {
	l.open, l.alone, l.silent, l.until, l.attempts = true, l.one, false, now, 0
	d.schedule(l, now)
}

// InFlight returns the messages that were sent and not acknowledged, in ascending order.
func (d *Queue) InFlight() []uint64 {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.sent))
}

// Waits reports whether a message is deferred and not in flight, or has an answer that is not
// handled yet.
func (d *Queue) Waits(seq uint64) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, givenUp := d.givenUp[seq]
	return givenUp || d.queued[seq] != nil || slices.ContainsFunc(d.refused, func(r Refusal) bool { return r.Seq == seq })
}

// passed makes the topic queues due that wait because of the same state of the server.
func (d *Queue) passed(code byte, now time.Time) {
	if code != wire.ReasonNotAuthorized { // 0x87 is about one topic
		d.due(now, func(c byte) bool { return c == code }, false)
	}
}

// Due makes the topic queues due that wait because of a reason code for which because returns true.
// If fresh is true, their delays start again from the minimum.
func (d *Queue) Due(now time.Time, because func(code byte) bool, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due(now, because, fresh)
}

func (d *Queue) due(now time.Time, because func(code byte) bool, fresh bool) {
	for _, topics := range d.topics {
		for _, l := range topics {
			if !l.alone && because(l.code) {
				if l.until = now; fresh {
					l.attempts = 0
				}
				d.schedule(l, now)
			}
		}
	}
}

// PickAlone returns the message that must be sent alone now. may means that a trial is allowed.
// quiet means that no other message is in flight. hold means that no other message may be sent now.
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

// Pick returns the next message that may be sent now.
func (d *Queue) Pick(now time.Time) (x Item, ok bool) {
	if !d.any.Load() {
		return x, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.waiting) > 0 && !now.Before(d.waiting[0].until) {
		l := d.waiting[0]
		d.leave(l) // also if one of its messages is in flight: the answer schedules the queue
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
		d.schedule(l, now) // at the end, so that the topic queues take turns
		return x, true
	}
	return x, false
}

// Under records the packet identifier of a picked message.
func (d *Queue) Under(seq uint64, id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.sent[seq]; ok {
		f.ID = id
		d.sent[seq], d.held[id] = f, seq
	}
}

// Reserve records that a message outside the Queue has a packet identifier.
func (d *Queue) Reserve(id uint16, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != 0 {
		d.held[id] = seq
		d.any.Store(true)
	}
}

// Release reverses Reserve.
func (d *Queue) Release(id uint16, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(id, seq)
}

// Unpick returns a picked message that was not sent.
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
	f.topicQueue.sent--
	if d.trial == x.Seq {
		d.trial = 0
	}
	d.insert(f.topicQueue, x)
	d.schedule(f.topicQueue, now)
}

// SessionLost returns all messages in flight to their queues and clears their packet identifiers.
func (d *Queue) SessionLost(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.held)
	for _, topics := range d.topics {
		for _, l := range topics {
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
		f.topicQueue.sent--
		f.ID = 0
		d.insert(f.topicQueue, f.Item)
		d.schedule(f.topicQueue, now)
	}
	d.trial = 0
}
