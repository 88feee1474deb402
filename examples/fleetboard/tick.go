package main

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// tick updates the rows and passes the changes to the streams.
func (b *board) tick(now time.Time) {
	link := b.linkState()
	b.mu.Lock()
	defer b.mu.Unlock()
	if link.Since = b.last.Link.Since; b.ticks == 0 || link.Trusted != b.last.Link.Trusted {
		link.Since = now.UnixMilli()
	}
	full := b.ticks%4 == 0
	b.ticks++
	for d := range b.watch.All() {
		if r := b.recordLocked(b.name(d.Topic), now); r != nil {
			r.device, r.seen = d, true
		}
	}
	f := frame{Now: now.UnixMilli(), Link: link, Chaos: b.sim.faults.on()}
	for name, r := range b.records {
		next := b.rowLocked(r, now, full && link.Trusted)
		if !r.seen && r.device.State == presence.Unknown && now.Sub(r.absent) > forgetAfter {
			delete(b.records, name)
			if r.shown {
				f.Gone = append(f.Gone, name)
			}
			continue
		}
		r.seen = false
		f.Totals.count(&next)
		if next != r.row || !r.shown {
			r.row, r.shown = next, true
			f.Rows = append(f.Rows, next)
		}
	}
	b.measureLocked(&f, now, full)
	b.last, b.snap = f, nil
	b.last.Rows, b.last.Gone, b.last.Points = nil, nil, nil
	if len(b.streams) > 0 {
		if data, err := json.Marshal(f); err == nil { // a frame can always be encoded
			data = message("delta", data)
			for s := range b.streams {
				s.push(data)
			}
		}
	}
}

// rowLocked returns the row of a record. It updates the numbers only if full: without a connection, the
// row keeps the last known numbers.
func (b *board) rowLocked(r *record, now time.Time, full bool) row {
	next := r.row
	switch {
	case r.seen:
		next.state, next.since = r.device.State, r.device.Since.UnixMilli()
	case r.device.State != presence.Unknown: // the watch has forgotten the device
		r.device = presence.Device{}
		next.state, next.since = presence.Unknown, now.UnixMilli()
		r.absent = now
	}
	next.boots, next.flaps, next.events = r.device.Boots, r.device.Flaps, r.noted
	if d := b.sim.device(next.name); d != nil {
		next.trouble, _ = d.condition()
		next.simulated = true
	}
	if full || !r.shown {
		s := r.latency.spread(now)
		next.p50, next.p99 = micros(s.quantile(.5)), micros(s.quantile(.99))
		next.handled, next.backlog, next.reconnects = r.handled, r.report.Pending, r.report.Reconnects
		next.reported = !r.reported.IsZero()
		next.backlogIsOld = next.reported && now.Sub(r.reported) > reportIsOld
		next.dropped, next.losing = r.report.Dropped, now.Sub(r.lost) < window
	}
	return next
}

// measureLocked adds the rates and latencies of all devices to f, and once per second a point.
func (b *board) measureLocked(f *frame, now time.Time, full bool) {
	t := &f.Totals
	if !f.Link.Trusted {
		f.Known = b.known
	}
	if !full {
		t.Rate, t.P50, t.P99 = b.last.Totals.Rate, b.last.Totals.P50, b.last.Totals.P99
		return
	}
	t.Rate = float64(b.handledSince)
	if len(b.history) > 0 {
		if gone := now.Sub(time.UnixMilli(b.history[len(b.history)-1].at)).Seconds(); gone > 0.1 {
			t.Rate = float64(int(float64(b.handledSince)/gone*10+0.5)) / 10
		}
	}
	all := b.all.spread(now)
	t.P50, t.P99 = micros(all.quantile(.5)), micros(all.quantile(.99))
	if f.Link.Trusted {
		b.known = &known{totals: *t, At: f.Now}
	}
	p := point{at: f.Now, online: t.Online, rate: t.Rate, p99: micros(b.second.quantile(.99)), backlog: t.Backlog, trusted: f.Link.Trusted}
	b.handledSince, b.second = 0, spread{}
	if len(b.history) >= maxHistory {
		b.history = append(b.history[:0], b.history[1:]...)
	}
	b.history = append(b.history, p)
	f.Points = []point{p}
}

// linkState returns the state of the backend's connection. tick sets its field Since.
func (b *board) linkState() linkState {
	s, c := b.backend.c.State(), b.watch.Counts()
	l := linkState{Phase: s.Phase.String(), Trusted: s.Phase == client.PhaseConnected && c.Synced}
	if s.Err != nil {
		l.Err = s.Err.Error()
	}
	return l
}

// snapshotLocked returns all current rows and points as one message.
func (b *board) snapshotLocked() []byte {
	if b.snap != nil {
		return b.snap
	}
	f := b.last
	f.Points = b.history
	f.Rows = make([]row, 0, len(b.records))
	for _, r := range b.records {
		if r.shown {
			f.Rows = append(f.Rows, r.row)
		}
	}
	slices.SortFunc(f.Rows, func(x, y row) int { return strings.Compare(x.name, y.name) })
	f.Restart = b.sim.place.own
	f.Limit = int(b.sim.o.limit() / time.Millisecond)
	f.Window = int(window / time.Millisecond)
	data, err := json.Marshal(f)
	if err != nil { // a frame can always be encoded
		return nil
	}
	b.snap = message("snapshot", data)
	return b.snap
}

// states returns the shown states by device.
func (b *board) states() map[string]presence.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]presence.State, len(b.records))
	for name, r := range b.records {
		if r.shown {
			all[name] = r.row.state
		}
	}
	return all
}

// counted returns the number of handled readings by device.
func (b *board) counted() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]uint64, len(b.records))
	for name, r := range b.records {
		all[name] = r.handled
	}
	return all
}

// details contains all data of one device.
type details struct {
	Name     string     `json:"name"`
	Reason   string     `json:"reason"`
	Version  string     `json:"version"`
	Boot     string     `json:"boot"`
	Interval float64    `json:"interval"` // seconds
	Seen     int64      `json:"seen"`     // Unix time in milliseconds; 0: never
	Report   selfReport `json:"report"`
	Reported int64      `json:"reported"` // like Seen
	Until    int64      `json:"until"`    // when the fault ends, Unix time in milliseconds; 0: there is no fault, or it does not end by itself
	Events   []event    `json:"events"`   // the newest first
}

func (b *board) details(name string) (details, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.records[name]
	if r == nil {
		return details{}, false
	}
	d := details{Name: name, Report: r.report, Reported: stamp(r.reported), Seen: stamp(r.device.Seen), Boot: r.device.Boot.String(),
		Reason: r.device.Status.Reason, Version: r.device.Status.Version, Interval: r.device.Status.Interval.Seconds(), Events: slices.Clone(r.events)}
	slices.Reverse(d.Events)
	if dev := b.sim.device(name); dev != nil {
		_, until := dev.condition()
		d.Until = stamp(until)
	}
	return d, true
}

// latest returns the last events of all devices, the newest first.
func (b *board) latest() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.Clone(b.feed)
	slices.Reverse(all)
	return all
}

func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
