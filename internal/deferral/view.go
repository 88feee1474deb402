package deferral

import (
	"math"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// Expired removes and returns the unsent messages that have expired.
func (d *Queue) Expired(clock time.Time, now time.Time) (seqs []uint64) {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ms := clock.UnixMilli()
	if ms < d.expires {
		return nil
	}
	d.expires = never
	each := func(l *topicQueue) {
		l.queue = slices.DeleteFunc(l.queue, func(x Item) bool {
			if x.ID != 0 || x.expires > ms {
				if x.ID == 0 {
					d.expires = min(d.expires, x.expires)
				}
				return false
			}
			seqs = append(seqs, x.Seq)
			d.forget(l, x)
			return true
		})
		d.schedule(l, now)
	}
	for _, topics := range d.topics {
		for _, l := range topics {
			each(l)
		}
	}
	for _, l := range slices.Clone(d.isolated) {
		each(l)
	}
	return seqs
}

// Next returns the time until a message can be sent or expires. It returns never if there is no
// such message. Topic queues that were already due at the last look of the send loop wait for
// something else and do not count.
func (d *Queue) Next(clock, now, looked time.Time) time.Duration {
	if !d.any.Load() {
		return math.MaxInt64
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := time.Duration(math.MaxInt64)
	if d.expires != never {
		wait = max(time.UnixMilli(d.expires).Sub(clock), 1)
	}
	note := func(until time.Time) {
		if until.After(looked) {
			wait = min(wait, max(until.Sub(now), 1))
		}
	}
	if len(d.waiting) > 0 {
		note(d.waiting[0].until)
	}
	if len(d.isolated) > 0 {
		if until := d.isolated[0].until; until.After(d.rest) {
			note(until)
		} else {
			note(d.rest)
		}
	}
	return wait
}

// State describes the deferred messages.
type State struct {
	Messages int
	Bytes    int64
	Topics   int       // waiting topics; a topic counts once per priority
	Oldest   time.Time // first refusal of the topic that has waited longest; zero: there is none
	Code     byte      // reason code of the last refusal of that topic
	Newest   time.Time // first refusal of the topic that was refused last
}

// Describe returns the state.
func (d *Queue) Describe() (x State) {
	if !d.any.Load() {
		return x
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	note := func(since time.Time, code byte) {
		if x.Oldest.IsZero() || since.Before(x.Oldest) {
			x.Oldest, x.Code = since, code
		}
		if since.After(x.Newest) {
			x.Newest = since
		}
	}
	look := func(l *topicQueue) { note(l.since, l.code) }
	for p, topics := range d.topics {
		x.Messages += d.count[p]
		x.Topics += len(topics)
		for _, l := range topics {
			look(l)
		}
	}
	for _, l := range d.isolated {
		look(l)
	}
	if f, ok := d.sent[d.trial]; ok {
		look(f.topicQueue)
	}
	for _, g := range d.givenUp {
		note(g.since, g.code)
	}
	x.Bytes = d.bytes
	return x
}

// Messages returns the number of deferred messages.
func (d *Queue) Messages() (n int) {
	if !d.any.Load() {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.count {
		n += c
	}
	return n
}

// Full reports whether a message of this topic and priority would be deferred although at least the
// given number of messages or bytes are deferred.
func (d *Queue) Full(topic string, p persistence.Priority, messages int, bytes int64) (full bool, code byte) {
	if !d.any.Load() {
		return false, 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l, n := d.topics[p][topic], 0
	for _, c := range d.count {
		n += c
	}
	if l == nil || n < messages && d.bytes < bytes {
		return false, 0
	}
	return true, l.code
}

// TakeOldest removes and returns the first unsent message of this topic and priority, or 0. Because
// it is removed, it is not sent while it ends.
func (d *Queue) TakeOldest(topic string, p persistence.Priority, now time.Time) (seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.topics[p][topic]
	if l == nil {
		return 0
	}
	i := slices.IndexFunc(l.queue, func(x Item) bool { return x.ID == 0 })
	if i < 0 {
		return 0
	}
	seq = l.queue[i].Seq
	d.remove(seq)
	d.schedule(l, now)
	return seq
}

// Identifiers returns the number of packet identifiers that deferred messages hold.
func (d *Queue) Identifiers() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}
