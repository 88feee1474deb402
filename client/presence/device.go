package presence

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
)

// device is what a Tracker keeps of one. There are many, so it is small.
type device struct {
	topic           string
	reason, version string // of the last word; shared
	boot            BootID
	past            [3]uint64 // boots before it, the latest first
	since, seen     time.Duration
	heard           time.Duration // when it was last confirmed
	due             time.Duration // when silence looks at it next; 0: not
	saidSec         int64         // Status.Time of the last word
	saidNano        int32
	interval        uint32 // seconds
	boots, flaps    uint32
	epoch           uint32 // the link on which it was last confirmed
	words           uint8  // that were heard; stays at 2
	raw             State  // by the last word
	shown           State  // but for what view makes stale
	online          bool   // was Online once
	booted          bool   // the last word named boot
	silent          bool   // for three intervals
	gone            bool   // not in the Tracker any more
}

// supersedes reports whether s is the end of a boot that a newer one has
// replaced.
func (d *device) supersedes(s Status) bool {
	return s.State == Offline && d.raw == Online && s.Boot != d.boot && d.heardOf(s.Boot)
}

func (d *device) heardOf(b BootID) bool {
	key := bootKey(b)
	return !b.IsZero() && (key == d.past[0] || key == d.past[1] || key == d.past[2])
}

// hear takes over what s says. It reports whether that is anything new.
func (d *device) hear(s Status, t texts) (news bool) {
	known := d.heardOf(s.Boot)
	if known && s.State != Online {
		s.Boot = BootID{} // an end of a boot before the present one does not make it that
	}
	s.Reason, s.Version = t.one(cut(s.Reason)), t.one(cut(s.Version))
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
	d.reason, d.version = s.Reason, s.Version
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
		kept := [3]uint64{last}
		n := 1
		for _, p := range d.past {
			if p != key && p != last && n < len(kept) {
				kept[n] = p
				n++
			}
		}
		d.past = kept
	}
	d.boot = b
}

// bootKey is enough of a boot to know it again among those of one device.
func bootKey(b BootID) uint64 {
	return max(binary.BigEndian.Uint64(b[:8])*31+binary.BigEndian.Uint64(b[8:]), 1) // 0 is none
}

// status is the last word.
func (d *device) status() Status {
	s := Status{State: d.raw, Reason: d.reason, Version: d.version, Interval: time.Duration(d.interval) * time.Second}
	if d.booted {
		s.Boot = d.boot
	}
	if d.saidSec != math.MinInt64 {
		s.Time = time.Unix(d.saidSec, int64(d.saidNano)).UTC()
	}
	return s
}

// texts keeps each text once, as many as it has room for.
type texts map[string]string

// maxTexts bounds the texts that are shared; further ones are kept with each
// device.
const maxTexts = 4096

func (t texts) one(text string) string {
	if text == "" {
		return ""
	}
	if have, ok := t[text]; ok {
		return have
	}
	text = strings.Clone(text) // it may be a piece of something large
	if len(t) < maxTexts {
		t[text] = text
	}
	return text
}
