package presence

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
	"unique"
)

// device is the Tracker's state of a device. It is small, because there may be many devices.
type device struct {
	topic           string
	reason, version unique.Handle[string] // texts of the last status
	boot            BootID
	past            [3]uint64 // hashes of the three previous boots, the latest first
	since, seen     time.Duration
	confirmedAt     time.Duration // time of the last confirmation
	due             time.Duration // time of the next check for silence; 0 means that no check is planned
	timeSec         int64         // Status.Time of the last status
	timeNano        int32
	interval        uint32 // in seconds
	boots, flaps    uint32
	epoch           uint32 // epoch of the link in which the device was last confirmed
	statuses        uint8  // number of received statuses; it stops at 2
	raw             State  // state according to the last status
	shown           State  // raw or Stale, without the effect of view
	online          bool   // the device was Online before
	booted          bool   // the last status contained a boot ID
	silent          bool   // no status was received for three intervals
	gone            bool   // the device was removed from the Tracker
}

// supersedes reports whether s is the offline status of an old boot that a newer boot has replaced.
func (d *device) supersedes(s Status) bool {
	return s.State == Offline && d.raw == Online && s.Boot != d.boot && d.heardOf(s.Boot)
}

func (d *device) heardOf(b BootID) bool { return !b.IsZero() && slices.Contains(d.past[:], bootKey(b)) }

// update applies a status and reports whether it changes anything.
func (d *device) update(s Status) (news bool) {
	known := d.heardOf(s.Boot)
	if known && s.State != Online {
		s.Boot = BootID{} // an offline status of an earlier boot does not make it the present boot
	}
	s.Reason, s.Version = cut(s.Reason), cut(s.Version)
	s.Interval = (min(max(s.Interval, 0), MaxInterval) + time.Second - 1).Truncate(time.Second)
	s.Time = s.Time.UTC().Round(0)
	news = d.statuses == 0 || s != d.status()
	d.statuses = min(d.statuses+1, 2)
	if s.State == Online {
		if d.raw == Offline && d.online {
			d.flaps++
		}
		d.online = true
	}
	d.raw = s.State
	if d.booted = !s.Boot.IsZero(); d.booted && s.Boot != d.boot {
		d.begin(s.Boot, known)
	}
	d.reason, d.version = unique.Make(s.Reason), unique.Make(s.Version)
	d.interval = uint32(s.Interval / time.Second)
	d.timeSec, d.timeNano = s.Time.Unix(), int32(s.Time.Nanosecond())
	if s.Time.IsZero() {
		d.timeSec = math.MinInt64
	}
	return news
}

// begin makes b the present boot.
func (d *device) begin(b BootID, known bool) {
	if !known {
		d.boots++
	}
	if !d.boot.IsZero() {
		key, last := bootKey(b), bootKey(d.boot)
		kept := slices.DeleteFunc(slices.Clone(d.past[:]), func(p uint64) bool { return p == key || p == last })
		d.past = [3]uint64{last}
		copy(d.past[1:], kept)
	}
	d.boot = b
}

// bootKey returns a hash that identifies a boot of a device.
func bootKey(b BootID) uint64 {
	return max(binary.BigEndian.Uint64(b[:8])*31+binary.BigEndian.Uint64(b[8:]), 1) // 0 means none
}

// status returns the last status.
func (d *device) status() Status {
	s := Status{State: d.raw, Reason: d.reason.Value(), Version: d.version.Value(), Interval: time.Duration(d.interval) * time.Second}
	if d.booted {
		s.Boot = d.boot
	}
	if d.timeSec != math.MinInt64 {
		s.Time = time.Unix(d.timeSec, int64(d.timeNano)).UTC()
	}
	return s
}
