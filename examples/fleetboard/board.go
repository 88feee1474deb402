package main

import (
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// board is the state of the fleet that browsers show. It changes at most four times per second, for all
// browsers at the same time. Numbers change once per second. The board holds its lock while it creates
// a frame and passes it to the streams. So a snapshot and the following frames are consistent.
type board struct {
	backend *backend
	watch   *client.StatusWatch
	name    func(topic string) string
	sim     *simulation

	mu      sync.Mutex
	records map[string]*record
	refused uint64 // messages of devices beyond maxDevices
	all     recent // latencies
	second  spread // latencies since the last point
	handledSince,
	handledAll uint64
	last    frame // last sent frame, without rows and points
	known   *known
	history []point
	feed    []event // last events of all devices, the newest last
	streams map[*stream]struct{}
	snap    []byte // current snapshot, or nil
	ticks   int
	closing bool // new streams are refused
	begun   bool // run was started; not protected by mu
	stop    chan struct{}
	ended   chan struct{}
}

// record is one device.
type record struct {
	seen     bool // the watch has the device, in this tick
	absent   time.Time
	handled  uint64
	latency  recent
	report   selfReport
	reported time.Time // zero: never
	lost     time.Time // when a report last showed more dropped readings than the report before it
	device   presence.Device
	events   []event // the newest last
	noted    int
	row      row
	shown    bool // browsers have received row
}

// event is one line of a device's history.
type event struct {
	At      int64  `json:"at"` // Unix time in milliseconds
	Device  string `json:"device"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Boot    string `json:"boot,omitempty"`
	Done    string `json:"done,omitempty"` // a fault, or a change of the whole view
	Initial bool   `json:"initial,omitempty"`
}

const (
	tickEvery   = 250 * time.Millisecond
	maxEvents   = 40               // per device
	maxFeed     = 60               // of all devices
	maxHistory  = 300              // points, one per second
	forgetAfter = time.Minute      // for a device without a status and without readings
	reportIsOld = 10 * time.Second // an older report is shown as outdated
)

func newBoard(b *backend, name func(topic string) string) *board {
	return &board{backend: b, name: name, records: map[string]*record{}, streams: map[*stream]struct{}{}, stop: make(chan struct{}), ended: make(chan struct{})}
}

// begin starts the ticks. The watch and the simulation must be set.
func (b *board) begin() {
	b.begun = true
	go b.run()
}

func (b *board) run() {
	defer close(b.ended)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		b.tick(time.Now())
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
	}
}

// end ends the ticks and all streams.
func (b *board) end() {
	close(b.stop)
	b.endStreams()
	if b.begun {
		<-b.ended
	}
}

func (b *board) endStreams() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = true
	for s := range b.streams {
		s.close()
	}
}

// recordLocked returns the record of a device. It creates one unless there are maxDevices; then it is nil.
func (b *board) recordLocked(name string, now time.Time) *record {
	r := b.records[name]
	if r == nil {
		if len(b.records) >= maxDevices {
			b.refused++
			return nil
		}
		r = &record{absent: now, row: row{name: name, since: now.UnixMilli(), p50: -1, p99: -1}}
		b.records[name] = r
	}
	return r
}

// handled counts a handled reading and its latency.
func (b *board) handled(name string, accepted, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.recordLocked(name, now)
	if r == nil {
		return
	}
	took := max(now.Sub(accepted), 0) // the clocks of two machines may differ
	r.handled++
	r.absent = now
	r.latency.add(took, now)
	b.all.add(took, now)
	b.second.add(took)
	b.handledSince++
	b.handledAll++
}

// reported stores the report of a device.
func (b *board) reported(name string, report selfReport, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.recordLocked(name, now)
	if r == nil {
		return
	}
	if !r.reported.IsZero() && report.Dropped > r.report.Dropped {
		r.lost = now
	}
	r.report, r.reported = report, now
}

// changed records a change as an event. It does not change states: each tick reads all states from the
// watch, so a missed change causes no wrong state.
func (b *board) changed(c presence.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := event{At: c.At.UnixMilli(), From: c.From.String(), To: c.Device.State.String(), Reason: c.Device.Status.Reason, Initial: c.Initial}
	switch c.Kind {
	case presence.Changed, presence.Restarted:
		e.Boot = c.Device.Boot.String()
	case presence.Forgotten:
		e.Reason = "its retained status was removed"
	case presence.ViewStale, presence.ViewSynced, presence.ViewFull, presence.Missed:
		b.feedLocked(event{At: e.At, Done: map[presence.Kind]string{
			presence.ViewStale:  "Backend disconnected for too long: online devices are now stale",
			presence.ViewSynced: "Backend has received all statuses again",
			presence.ViewFull:   "Too many devices: additional devices are not shown",
			presence.Missed:     "Too many changes at once: some are not listed",
		}[c.Kind]})
		return
	}
	b.noteLocked(b.name(c.Device.Topic), e, c.At)
}

// did records a fault of a device as an event. An empty name means the backend or the broker.
func (b *board) did(name, what string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := event{At: now.UnixMilli(), Done: what}
	if name == "" {
		b.feedLocked(e)
		return
	}
	b.noteLocked(name, e, now)
}

func (b *board) noteLocked(name string, e event, at time.Time) {
	r := b.recordLocked(name, at)
	if r == nil {
		return
	}
	e.Device = name
	if len(r.events) >= maxEvents {
		r.events = append(r.events[:0], r.events[1:]...)
	}
	r.events = append(r.events, e)
	r.noted++
	if !e.Initial {
		b.feedLocked(e)
	}
}

func (b *board) feedLocked(e event) {
	if len(b.feed) >= maxFeed {
		b.feed = append(b.feed[:0], b.feed[1:]...)
	}
	b.feed = append(b.feed, e)
}
