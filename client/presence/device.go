package presence

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
	"unique"
)

// device is what a Tracker keeps of one. There are many, so it is small.
type device struct {
	topic           string
	reason, version unique.Handle[string] // of the last status
	boot            BootID
	past            [3]uint64 // boots before it, the latest first
	since, seen     time.Duration
	heard           time.Duration // when it was last confirmed
	due             time.Duration // when silence looks at it next; 0: not
	saidSec         int64         // Status.Time of the last status
	saidNano        int32
	interval        uint32 // seconds
	boots, flaps    uint32
	epoch           uint32 // the link on which it was last confirmed
	words           uint8  // statuses received; stays at 2
	raw             State  // by the last status
	shown           State  // but for what view makes stale
	online          bool   // was Online once
	booted          bool   // the last status named boot
	silent          bool   // for three intervals
	gone            bool   // not in the Tracker any more
}

// supersedes reports whether s is the end of a boot that a newer one replaced.
func (d *device) supersedes(s Status) bool {
	return s.State == Offline && d.raw == Online && s.Boot != d.boot && d.heardOf(s.Boot)
}

func (d *device) heardOf(b BootID) bool { return !b.IsZero() && slices.Contains(d.past[:], bootKey(b)) }

// hear applies a status and reports whether it says anything new.
func (d *device) hear(s Status) (news bool) {
	known := d.heardOf(s.Boot)
	if known && s.State != Online {
		s.Boot = BootID{} // an end of a boot before the present one does not make it that
	}
	s.Reason, s.Version = cut(s.Reason), cut(s.Version)
	s.Interval = (min(max(s.Interval, 0), MaxInterval) + time.Second - 1).Truncate(time.Second)
	s.Time = s.Time.UTC().Round(0)
	news = d.words == 0 || s != d.status()
	d.words = min(d.words+1, 2)
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
	d.saidSec, d.saidNano = s.Time.Unix(), int32(s.Time.Nanosecond())
	if s.Time.IsZero() {
		d.saidSec = math.MinInt64
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

// bootKey is enough of a boot to know it again among those of one device.
func bootKey(b BootID) uint64 {
	return max(binary.BigEndian.Uint64(b[:8])*31+binary.BigEndian.Uint64(b[8:]), 1) // 0 is none
}

// status returns the last status.
func (d *device) status() Status {
	s := Status{State: d.raw, Reason: d.reason.Value(), Version: d.version.Value(), Interval: time.Duration(d.interval) * time.Second}
	if d.booted {
		s.Boot = d.boot
	}
	if d.saidSec != math.MinInt64 {
		s.Time = time.Unix(d.saidSec, int64(d.saidNano)).UTC()
	}
	return s
}
