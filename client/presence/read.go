package presence

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// Get returns the state at the time now of the device with this status topic. For an unknown
// device, ok is false and the State is Unknown.
func (t *Tracker) Get(topic string, now time.Time) (_ Device, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.devices[topic]
	if d == nil {
		return Device{Topic: topic}, false
	}
	return t.device(d, t.since(now)), true
}

// All returns an iterator over all devices, in no particular order. Each device is read when the
// loop reaches it. The loop may call methods of the Tracker. The iterator does not visit devices
// that are added during the loop.
func (t *Tracker) All(now func() time.Time) iter.Seq[Device] {
	return func(yield func(Device) bool) {
		t.mu.Lock()
		list := slices.Collect(maps.Values(t.devices))
		t.mu.Unlock()
		for _, d := range list {
			t.mu.Lock()
			gone, is := d.gone, t.device(d, t.since(now()))
			t.mu.Unlock()
			if !gone && !yield(is) {
				return
			}
		}
	}
}

// Snapshot returns all devices at the time now, in no particular order.
func (t *Tracker) Snapshot(now time.Time) []Device {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Device, 0, len(t.devices))
	for _, d := range t.devices {
		list = append(list, t.device(d, t.since(now)))
	}
	return list
}

// Counts returns the counts at the time now. It is fast, because it does not iterate over the
// devices.
func (t *Tracker) Counts(now time.Time) Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, v, at := t.counts, &t.view, t.since(now)
	c.Devices, c.Synced = len(t.devices), v.synced || v.quiet
	c.Online, c.Offline, c.Stale, c.Unknown = v.states[Online], v.states[Offline], v.states[Stale], v.states[Unknown]
	for i := range v.ended {
		if t.isStale(&v.ended[i], at) {
			c.Online -= v.ended[i].online
			c.Stale += v.ended[i].online
		}
	}
	return c
}

func (t *Tracker) device(d *device, now time.Duration) Device {
	is := Device{Topic: d.topic, State: t.shown(d, now), Since: t.base.Add(d.since), Seen: t.base.Add(d.seen),
		Boot: d.boot, Boots: int(d.boots), Flaps: int(d.flaps), Status: d.status(), Details: Details{d.details}}
	if is.State == Stale && d.shown == Online {
		is.Since = t.base.Add(t.stale(t.view.of(d)))
	}
	return is
}
