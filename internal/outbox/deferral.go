package outbox

import (
	"container/heap"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// deferrals has the messages that are not sent for now: those that the server refused with a code
// that may pass, those of the same topic and priority that wait for them, and those over which
// connections ended. It is pure: it reads and sends nothing.
//
// The messages of one topic and priority are a lane, in the order of the log. While there is a lane,
// all messages of its topic and priority go through it. When its time has come, its first message is
// sent. If that is acknowledged, the lane is open: the others follow. If it is refused, the lane
// waits again, for longer.
type deferrals struct {
	backoff reliability.Backoff
	any     atomic.Bool // there is something here

	mu       sync.Mutex
	refused  []refusal // not looked at yet
	lanes    [persistence.Priorities]map[string]*lane
	waiting  laneHeap // lanes of a topic
	isolated laneHeap // lanes of one message
	ready    []*lane  // of a topic, may send; each at most once
	sent     map[uint64]flight
	held     map[uint16]uint64 // packet identifiers that a deferred message may have been sent under
	count    [persistence.Priorities]int
	bytes    int64
	expires  int64 // no message expires before, in Unix milliseconds
	trial    *lane // has sent its one message
}

// refusal is an answer of the server that the send loop has still to look at.
type refusal struct {
	seq   uint64
	code  byte
	text  string
	alone bool // connections ended over the message
}

// lane is the deferred messages of one topic and priority; alone: one message of any.
type lane struct {
	topic    string
	priority persistence.Priority
	alone    bool
	queue    []deferred // not sent, by sequence
	sent     int        // sent and not acknowledged
	open     bool       // its last answer was not a refusal: all may be sent
	queued   bool       // in ready
	attempts int        // refusals in a row
	code     byte       // the last one
	since    time.Time
	until    time.Time
	index    int // in waiting or isolated; -1: in neither
}

// deferred is a message in a lane.
type deferred struct {
	seq     uint64
	size    int
	expires int64  // Unix milliseconds; never: it does not expire
	id      uint16 // under which it may have been sent in this session; 0: it was not
}

type flight struct {
	lane *lane
	deferred
}

func (d *deferrals) init(b reliability.Backoff) {
	d.backoff, d.sent, d.held, d.expires = b, map[uint64]flight{}, map[uint16]uint64{}, never
	for p := range d.lanes {
		d.lanes[p] = map[string]*lane{}
	}
}

// longest is the longest time that a message is deferred for at a time.
func (d *deferrals) longest() time.Duration { return d.backoff.Later() * 2 }

// note takes an answer for the send loop.
func (d *deferrals) note(r refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, r)
	d.any.Store(true)
}

// take returns the answers that were noted.
func (d *deferrals) take() []refusal {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.refused
	d.refused = nil
	d.settle()
	return list
}

// settle notes whether there is anything here.
func (d *deferrals) settle() {
	d.any.Store(len(d.refused)+len(d.waiting)+len(d.isolated)+len(d.ready)+len(d.sent) > 0)
}

// blocks reports whether a message of this topic and priority has to wait in a lane.
func (d *deferrals) blocks(topic []byte, p persistence.Priority) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lanes[p][string(topic)] != nil
}

// holds reports whether a packet identifier belongs to another message than seq.
func (d *deferrals) holds(id uint16, seq uint64) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	by, held := d.held[id]
	return held && by != seq
}

// refuse defers a message after a refusal and returns until when.
func (d *deferrals) refuse(topic string, e *persistence.Entry, code byte, now time.Time) (until time.Time, attempts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.laneOf(topic, e.Priority, now)
	d.land(e.Seq)
	// Messages of a lane that were sent together are refused together, which is one attempt.
	if l.attempts == 0 || !now.Before(l.until) {
		l.attempts++
		l.until = now.Add(d.backoff.Delay(l.attempts - 1))
	}
	l.open, l.code = false, code
	d.enter(l, e, 0)
	d.wait(l)
	return l.until, l.attempts
}

// follow adds a message that waits for others of its topic and priority. A lane is made if there is
// none, which sends at once: the message only needs another packet identifier.
func (d *deferrals) follow(topic string, e *persistence.Entry, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.laneOf(topic, e.Priority, now)
	d.enter(l, e, 0)
	d.schedule(l, now)
}

// isolate defers a message over which connections ended. It keeps its packet identifier.
func (d *deferrals) isolate(e *persistence.Entry, id uint16, code byte, now time.Time) (until time.Time, attempts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	attempts = e.Deferral.Attempts + 1
	until = now.Add(d.backoff.Delay(attempts - 1))
	if l := d.land(e.Seq); l != nil && !l.alone {
		d.schedule(l, now)
	}
	l := &lane{priority: e.Priority, alone: true, attempts: attempts, code: code, since: now, until: until, index: -1}
	d.enter(l, e, id)
	d.wait(l)
	return until, attempts
}

// restore adds a message that an earlier process deferred.
// A released one is in flight.
func (d *deferrals) restore(topic string, e *persistence.Entry, left time.Duration, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, since := &e.Deferral, now.Add(e.Deferral.Since.Sub(e.Deferral.Until))
	l := &lane{priority: e.Priority, alone: true, since: since, index: -1}
	if !x.Alone {
		l = d.laneOf(topic, e.Priority, now)
		l.open = l.open && x.Attempts == 0
	}
	if until := now.Add(left); until.After(l.until) {
		l.until = until
	}
	if l.code, l.attempts = x.Code, max(l.attempts, x.Attempts); since.Before(l.since) {
		l.since = since
	}
	d.enter(l, e, x.PacketID)
	if e.Released {
		i := slices.IndexFunc(l.queue, func(x deferred) bool { return x.seq == e.Seq })
		d.sent[e.Seq] = flight{l, l.queue[i]}
		l.queue = slices.Delete(l.queue, i, i+1)
		l.sent++
	}
	d.schedule(l, now)
}

// laneOf returns the lane of a topic and priority, which it makes if there is none.
func (d *deferrals) laneOf(topic string, p persistence.Priority, now time.Time) *lane {
	l := d.lanes[p][topic]
	if l == nil {
		l = &lane{topic: topic, priority: p, open: true, since: now, index: -1}
		d.lanes[p][topic] = l
	}
	return l
}

// enter puts a message at its place in a lane.
func (d *deferrals) enter(l *lane, e *persistence.Entry, id uint16) {
	x := deferred{seq: e.Seq, size: len(e.Packet), expires: never, id: id}
	if !e.Expires.IsZero() {
		x.expires = e.Expires.UnixMilli()
		d.expires = min(d.expires, x.expires)
	}
	if id != 0 {
		d.held[id] = e.Seq
	}
	d.insert(l, x)
	d.count[l.priority]++
	d.bytes += int64(x.size)
}

func (d *deferrals) insert(l *lane, x deferred) {
	i := len(l.queue)
	for i > 0 && l.queue[i-1].seq > x.seq { // nearly always the last
		i--
	}
	l.queue = slices.Insert(l.queue, i, x)
	d.any.Store(true)
}

// wait lets a lane wait until its time.
func (d *deferrals) wait(l *lane) {
	switch {
	case l.queued: // pick looks at its time
	case l.index < 0:
		heap.Push(d.heapOf(l), l)
	default:
		heap.Fix(d.heapOf(l), l.index)
	}
}

func (d *deferrals) heapOf(l *lane) *laneHeap {
	if l.alone {
		return &d.isolated
	}
	return &d.waiting
}

// leave takes a lane out of its heap.
func (d *deferrals) leave(l *lane) {
	if l.index >= 0 {
		heap.Remove(d.heapOf(l), l.index)
	}
}

// schedule makes a lane send as far as it may, or ends it.
func (d *deferrals) schedule(l *lane, now time.Time) {
	switch {
	case len(l.queue) == 0 && l.sent == 0:
		d.end(l)
	case len(l.queue) == 0 || !l.open && l.sent > 0:
	case now.Before(l.until) || l.alone:
		d.wait(l)
	case !l.queued:
		d.leave(l)
		l.queued = true
		d.ready = append(d.ready, l)
	}
}

// end removes an empty lane.
func (d *deferrals) end(l *lane) {
	d.leave(l)
	if !l.alone {
		delete(d.lanes[l.priority], l.topic)
	}
	if d.trial == l {
		d.trial = nil
	}
	d.settle()
}

// land ends the flight of a message, and returns its lane; nil: it was not sent from one.
func (d *deferrals) land(seq uint64) *lane {
	f, ok := d.sent[seq]
	if !ok {
		return nil
	}
	delete(d.sent, seq)
	d.release(f.id, seq)
	f.lane.sent--
	d.count[f.lane.priority]--
	d.bytes -= int64(f.size)
	if d.trial == f.lane {
		d.trial = nil
	}
	return f.lane
}

func (d *deferrals) release(id uint16, seq uint64) {
	if d.held[id] == seq {
		delete(d.held, id)
	}
}

// trialSeq returns the message that was sent alone and has no answer; 0: there is none.
func (d *deferrals) trialSeq() uint64 {
	if !d.any.Load() {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for seq, f := range d.sent {
		if f.lane == d.trial {
			return seq
		}
	}
	return 0
}

// ended notes the end of a message. The server's answer to it, whatever it is, opens its lane.
func (d *deferrals) ended(seq uint64, e *End, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.land(seq)
	if l == nil {
		return
	}
	if e.Cause == ByServer {
		if l.attempts > 0 && e.State == Acked {
			d.passed(l.code, now)
		}
		l.open, l.until, l.attempts = true, now, 0
	}
	d.schedule(l, now)
}

// gone notes that a picked message has ended before.
func (d *deferrals) gone(seq uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.land(seq); l != nil {
		d.schedule(l, now)
	}
}

// passed makes the lanes due that wait because of the same state of the server.
func (d *deferrals) passed(code byte, now time.Time) {
	if code == wire.ReasonNotAuthorized {
		return // this is about one topic
	}
	for _, l := range slices.Clone(d.waiting) {
		if l.code == code {
			l.until = now
			d.schedule(l, now)
		}
	}
}

// pickAlone returns the message that is to be sent alone now; quiet: no other message is in flight.
// hold reports that no other message may be sent now.
func (d *deferrals) pickAlone(now time.Time, quiet bool) (x deferred, ok, hold bool) {
	if !d.any.Load() {
		return x, false, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.trial != nil:
		return x, false, true
	case len(d.isolated) == 0 || now.Before(d.isolated[0].until):
		return x, false, false
	case !quiet:
		return x, false, true
	}
	d.trial = d.isolated[0]
	d.leave(d.trial)
	return d.pop(d.trial), true, true
}

// pick returns the next message of a topic that is to be sent now.
func (d *deferrals) pick(now time.Time) (x deferred, ok bool) {
	if !d.any.Load() {
		return x, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.waiting) > 0 && !now.Before(d.waiting[0].until) {
		d.schedule(d.waiting[0], now)
	}
	for len(d.ready) > 0 {
		l := d.ready[0]
		d.ready = d.ready[1:]
		l.queued = false
		if len(l.queue) == 0 || !l.open && l.sent > 0 || now.Before(l.until) {
			d.schedule(l, now)
			continue
		}
		x = d.pop(l)
		d.schedule(l, now) // at the end: lanes take turns
		return x, true
	}
	return x, false
}

// pop takes the first message of a lane as sent.
func (d *deferrals) pop(l *lane) deferred {
	x := l.queue[0]
	l.queue = l.queue[1:]
	l.sent++
	d.sent[x.seq] = flight{l, x}
	return x
}

// under notes the packet identifier that a picked message is sent under.
func (d *deferrals) under(seq uint64, id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.sent[seq]; ok {
		f.id = id
		d.sent[seq], d.held[id] = f, seq
	}
}

// unpick takes back a message that was picked and not sent.
func (d *deferrals) unpick(x deferred, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.sent[x.seq]
	if !ok {
		return
	}
	delete(d.sent, x.seq)
	if f.id != x.id {
		d.release(f.id, x.seq)
	}
	f.lane.sent--
	if d.trial == f.lane {
		d.trial = nil
	}
	d.insert(f.lane, x)
	d.schedule(f.lane, now)
}

// sessionLost takes back all messages in flight, and their packet identifiers.
func (d *deferrals) sessionLost(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.held)
	for _, lanes := range d.lanes {
		for _, l := range lanes {
			l.forgetIDs()
		}
	}
	for _, l := range d.isolated {
		l.forgetIDs()
	}
	for seq, f := range d.sent {
		delete(d.sent, seq)
		f.lane.sent--
		f.id = 0
		d.insert(f.lane, f.deferred)
		d.schedule(f.lane, now)
	}
	d.trial = nil
}

func (l *lane) forgetIDs() {
	for i := range l.queue {
		l.queue[i].id = 0
	}
}

// expired removes and returns the messages that were not sent and whose time has passed.
func (d *deferrals) expired(clock time.Time, now time.Time) (seqs []uint64) {
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
	each := func(l *lane) {
		l.queue = slices.DeleteFunc(l.queue, func(x deferred) bool {
			if x.id != 0 || x.expires > ms {
				if x.id == 0 {
					d.expires = min(d.expires, x.expires)
				}
				return false
			}
			seqs = append(seqs, x.seq)
			d.count[l.priority]--
			d.bytes -= int64(x.size)
			return true
		})
		d.schedule(l, now)
	}
	for _, lanes := range d.lanes {
		for _, l := range lanes {
			each(l)
		}
	}
	for _, l := range slices.Clone(d.isolated) {
		each(l)
	}
	return seqs
}

// next returns how long it is until something can be sent or expires; never: nothing will.
func (d *deferrals) next(clock, now time.Time) time.Duration {
	if !d.any.Load() {
		return math.MaxInt64
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := time.Duration(math.MaxInt64)
	if d.expires != never {
		wait = max(time.UnixMilli(d.expires).Sub(clock), 0)
	}
	for _, h := range []laneHeap{d.waiting, d.isolated} {
		if len(h) > 0 {
			wait = min(wait, max(h[0].until.Sub(now), 0))
		}
	}
	return wait
}

// Deferred describes the deferred messages.
type Deferred struct {
	Messages int
	Bytes    int64
	Topics   int       // topics, by priority, that wait
	Oldest   time.Time // when the first topic of them was refused; zero: there is none
	Code     byte      // the last reason code for that
	Newest   time.Time // when the last topic was refused
}

func (d *deferrals) describe() (x Deferred) {
	if !d.any.Load() {
		return x
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	look := func(l *lane) {
		if x.Oldest.IsZero() || l.since.Before(x.Oldest) {
			x.Oldest, x.Code = l.since, l.code
		}
		if l.since.After(x.Newest) {
			x.Newest = l.since
		}
	}
	for p, lanes := range d.lanes {
		x.Messages += d.count[p]
		x.Topics += len(lanes)
		for _, l := range lanes {
			look(l)
		}
	}
	for _, l := range d.isolated {
		look(l)
	}
	if d.trial != nil {
		look(d.trial)
	}
	x.Bytes = d.bytes
	return x
}

// full reports whether a message of this topic and priority would be deferred, and at least this
// many messages or bytes are. oldest is the first of its lane that was not sent; 0: there is none.
func (d *deferrals) full(topic string, p persistence.Priority, messages int, bytes int64) (full bool, code byte, oldest uint64) {
	if !d.any.Load() {
		return false, 0, 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l, n := d.lanes[p][topic], 0
	for _, c := range d.count {
		n += c
	}
	if l == nil || n < messages && d.bytes < bytes {
		return false, 0, 0
	}
	if i := slices.IndexFunc(l.queue, func(x deferred) bool { return x.id == 0 }); i >= 0 {
		oldest = l.queue[i].seq
	}
	return true, l.code, oldest
}

// of returns how many messages of a priority are deferred.
func (d *deferrals) of(p persistence.Priority) int {
	if !d.any.Load() {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count[p]
}

// laneHeap has the lane that waits for the shortest time first.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

func (h *laneHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	l.index = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
