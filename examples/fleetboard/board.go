package main

import (
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// board is what the backend knows of the fleet, as browsers are shown it. It
// changes four times a second at most, for all browsers at the same time; numbers
// once a second. Its lock is held while a frame is made and given to the streams,
// so a snapshot and the frames behind it fit together.
type board struct {
	backend *backend
	watch   *client.StatusWatch
	name    func(topic string) string
	sim     *simulation

	mu      sync.Mutex
	records map[string]*record
	refused uint64 // words of devices beyond maxDevices
	all     recent // latencies
	second  spread // those since the last point
	handledSince,
	handledAll uint64
	last    frame // as it was sent: all but rows and points
	history []point
	feed    []event // the newest of all devices, the newest last
	streams map[*stream]struct{}
	snap    []byte // a snapshot that is still right
	ticks   int
	closing bool // no further streams
	begun   bool // the ticks; not under mu
	stop    chan struct{}
	ended   chan struct{}
}

// record is one device.
type record struct {
	seen     bool // by the watch, in this tick
	absent   time.Time
	handled  uint64
	latency  recent
	report   selfReport
	reported time.Time // zero: never
	device   presence.Device
	events   []event // the newest last
	noted    int
	row      row
	shown    bool // row was sent
}

// event is one line of a device's history.
type event struct {
	At      int64  `json:"at"` // Unix time in milliseconds
	Device  string `json:"device"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Boot    string `json:"boot,omitempty"`
	Done    string `json:"done,omitempty"` // what the simulation did, or the view as a whole
	Initial bool   `json:"initial,omitempty"`
}

const (
	tickEvery   = 250 * time.Millisecond
	maxEvents   = 40               // of a device
	maxFeed     = 60               // of all
	maxHistory  = 300              // points, a second each
	forgetAfter = time.Minute      // a device without a status, and without a reading
	reportIsOld = 10 * time.Second // and longer than three readings
)

func newBoard(b *backend, name func(topic string) string) *board {
	return &board{backend: b, name: name, records: map[string]*record{}, streams: map[*stream]struct{}{}, stop: make(chan struct{}), ended: make(chan struct{})}
}

// begin starts the ticks. The watch and the simulation are there by now.
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

// recordLocked is that of a device, made if there is room; else nil.
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

// handled counts a reading that was handled, and how long it took from its
// acceptance by the device.
func (b *board) handled(name string, accepted, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.recordLocked(name, now)
	if r == nil {
		return
	}
	took := max(now.Sub(accepted), 0) // clocks of two machines may differ
	r.handled++
	r.absent = now
	r.latency.add(took, now)
	b.all.add(took, now)
	b.second.add(took)
	b.handledSince++
	b.handledAll++
}

// reported takes what a device says of itself.
func (b *board) reported(name string, report selfReport, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.recordLocked(name, now); r != nil {
		r.report, r.reported = report, now
	}
}

// changed notes what the watch tells. States are not taken from it: each tick
// looks at them all, so nothing is wrong when a change was missed.
func (b *board) changed(c presence.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := event{At: c.At.UnixMilli(), From: c.From.String(), To: c.Device.State.String(), Reason: c.Device.Status.Reason, Initial: c.Initial}
	switch c.Kind {
	case presence.Changed:
		e.Boot = c.Device.Boot.String()
	case presence.Forgotten:
		e.Reason = "its retained status is gone"
	case presence.ViewStale, presence.ViewSynced, presence.ViewFull, presence.Missed:
		b.feedLocked(event{At: e.At, Done: map[presence.Kind]string{
			presence.ViewStale:  "Backend without broker for too long: what was online is stale",
			presence.ViewSynced: "Backend knows every status again",
			presence.ViewFull:   "Too many devices: further ones are not shown",
			presence.Missed:     "Too many changes at once: some are not listed",
		}[c.Kind]})
		return
	}
	b.noteLocked(b.name(c.Device.Topic), e, c.At)
}

// did notes what the simulation did to a device; "" is the backend or the broker.
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
