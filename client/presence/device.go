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
	boot            BootID                // the newest boot
	said            BootID                // boot of the last status that counted; zero if it had none
	details         string                // text of Device.Details
	past            [maxBoots - 1]uint64  // hashes of the previous boots, the latest first
	since, seen     time.Duration
	confirmedAt     time.Duration // time of the last confirmation
	due             time.Duration // time of the next check for silence; 0 means that no check is planned
	timeSec         int64         // Status.Time of the last status
	timeNano        int32
	interval        uint32 // in seconds
	boots, flaps    uint32
	epoch           uint32          // epoch of the link in which the device was last confirmed
	facts           [maxBoots]facts // of boot, then of past
	statuses        uint8           // number of received statuses; it stops at 2
	raw             State           // state according to the last status
	shown           State           // raw or Stale, without the effect of view
	detailed        bool            // the last status had details
	online          bool            // the device was Online before
	whole           bool            // no message was missed since the last online status of boot
	silent          bool            // no status was received for three intervals
	doubted         bool            // the server's retained status is older than the last status that counted
	gone            bool            // the device was removed from the Tracker
}

// maxBoots is the number of boots of a device that the Tracker remembers.
const maxBoots = 4

// facts are what the Tracker knows about a boot.
type facts uint8

const (
	wasOnline facts = 1 << iota // the boot published online, or close, which it publishes while it is online
	hasClosed                   // the boot published close, and no online was received since
)

// rank returns the number of known boots that are newer than b, and -1 if b is unknown.
func (d *device) rank(b BootID) int {
	switch {
	case b.IsZero():
		return -1
	case b == d.boot:
		return 0
	}
	if i := slices.Index(d.past[:], bootKey(b)); i >= 0 {
		return i + 1
	}
	return -1
}

// replaced reports whether a boot that is newer than the boot with this rank has been online.
func (d *device) replaced(rank int) bool {
	return rank > 0 && slices.ContainsFunc(d.facts[:rank], func(f facts) bool { return f&wasOnline != 0 })
}

// supersedes reports whether the device's status supersedes s: s is an offline status of a boot that
// has closed, or that a newer boot has replaced. complete means that the Tracker can have missed no
// message before s since the last message.
func (d *device) supersedes(s Status, complete bool) bool {
	r := d.rank(s.Boot)
	switch {
	case s.State != Offline || r < 0:
		return false
	case d.raw != Offline:
		return complete && d.whole && d.replaced(r)
	case s.Reason == ReasonClose && complete:
		return false // a process that closes was online until now
	case s.Reason != ReasonClose && d.facts[r]&hasClosed != 0:
		return true
	}
	return d.replaced(r) && r > d.rank(d.said) // the State does not depend on s
}

// outdated reports whether s is an online status of a boot that has closed. A client that has
// closed does not publish again, so a retained status of this kind comes from an older state of the
// server. Other devices may reuse a boot ID after the close. If the close is the last status, s
// therefore counts unless its time shows that it is older.
func (d *device) outdated(s Status) bool {
	r := d.rank(s.Boot)
	if s.State != Online || r < 0 || d.facts[r]&hasClosed == 0 {
		return false
	}
	return d.raw != Offline || d.said != s.Boot || !s.Time.IsZero() && !s.Time.After(d.status().Time)
}

// state returns the state that is shown while the link is up.
func (d *device) state() State {
	if d.raw == Online && (d.silent || d.doubted) {
		return Stale
	}
	return d.raw
}

// note stores what s shows about its boot.
func (d *device) note(s Status) {
	r := d.rank(s.Boot)
	switch {
	case r < 0:
	case s.State == Online:
		d.facts[r] = wasOnline
	case s.State == Offline && s.Reason == ReasonClose:
		d.facts[r] = wasOnline | hasClosed
	}
}

// update applies a status and reports whether it changes anything. retained means that the server
// sent it because of a subscription.
func (d *device) update(s Status, retained bool) (news bool) {
	s.Reason, s.Version = cut(s.Reason), cut(s.Version)
	s.Interval = (min(max(s.Interval, 0), MaxInterval) + time.Second - 1).Truncate(time.Second)
	s.Time = s.Time.UTC().Round(0)
	news = d.statuses == 0 || s != d.status()
	d.statuses = min(d.statuses+1, 2)
	r := d.rank(s.Boot)
	if s.State == Online {
		if d.raw == Offline && d.online {
			d.flaps++
		}
		d.online = true
		// A retained online status of an earlier boot may come from an older state of the server.
		d.whole = !retained || r <= 0
	}
	d.raw, d.said = s.State, s.Boot
	// An offline status of a replaced boot does not make it the newest boot.
	if !s.Boot.IsZero() && r != 0 && (s.State == Online || !d.replaced(r)) {
		d.begin(s.Boot, r)
	}
	d.note(s)
	if d.detailed = s.Details != (Details{}); d.detailed || s.State != Offline {
		d.details = s.Details.text
	}
	d.reason, d.version = unique.Make(s.Reason), unique.Make(s.Version)
	d.interval = uint32(s.Interval / time.Second)
	d.timeSec, d.timeNano = s.Time.Unix(), int32(s.Time.Nanosecond())
	if s.Time.IsZero() {
		d.timeSec = math.MinInt64
	}
	return news
}

// begin makes b, which has this rank, the newest boot.
func (d *device) begin(b BootID, rank int) {
	var known facts
	if rank > 0 {
		known = d.facts[rank]
	} else {
		d.boots++
		rank = maxBoots - 1 // forget the oldest boot
	}
	if !d.boot.IsZero() {
		copy(d.past[1:rank], d.past[:rank-1])
		d.past[0] = bootKey(d.boot)
		copy(d.facts[1:rank+1], d.facts[:rank])
	}
	d.boot, d.facts[0] = b, known
}

// bootKey returns a hash that identifies a boot of a device.
func bootKey(b BootID) uint64 {
	return max(binary.BigEndian.Uint64(b[:8])*31+binary.BigEndian.Uint64(b[8:]), 1) // 0 means none
}

// status returns the last status.
func (d *device) status() Status {
	s := Status{State: d.raw, Boot: d.said, Reason: d.reason.Value(), Version: d.version.Value(), Interval: time.Duration(d.interval) * time.Second}
	if d.detailed {
		s.Details = Details{d.details}
	}
	if d.timeSec != math.MinInt64 {
		s.Time = time.Unix(d.timeSec, int64(d.timeNano)).UTC()
	}
	return s
}
