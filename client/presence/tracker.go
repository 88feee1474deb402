package presence

import (
	"cmp"
	"strings"
	"sync"
	"time"
)

// Options configure a Tracker. Zero values select the defaults.
type Options struct {
	// MaxDevices limits the known devices. Statuses of further devices are refused, counted and
	// reported by a ViewFull. Default 100,000.
	MaxDevices int
	// MaxBytes limits the size of all topics in the same way. Default 64 MiB.
	MaxBytes int
	// StaleAfter is how long an Online, unconfirmed device stays Online, counted from the last
	// packet on the link. Then it is Stale. Default 0: when the link is down.
	StaleAfter time.Duration
	// Parse decodes payloads. Default: the Parse of this package. A State other than Online and
	// Offline counts as Unknown. Fields that exceed the limits of Status are truncated.
	Parse func(topic string, payload []byte) (Status, error)
}

// Message is one message on a status topic.
type Message struct {
	Topic    string
	Payload  []byte    // empty if the retained status was cleared; the device is then forgotten
	At       time.Time // when it was received
	Retained bool      // the server sent it because of the subscription
	// Past means that the message may be older than the subscription, for example from the queue of
	// a session. It counts for boots and flaps, but does not confirm the device.
	Past bool
}

// Tracker derives device states from status messages. It reads no clock: each call passes the time,
// which should not go back. It starts no goroutine and keeps no payload. It needs about 250 bytes
// for a device with a 32-byte topic and all fields of a status. Methods are safe for concurrent
// use.
//
// # Which messages count
//
// Messages count in the order of receipt, which is the server's order. Status.Time and boot IDs are
// not compared, because the clocks of devices may be set back.
//
// There is one exception. An offline status is ignored if its boot was seen before, a newer boot
// has been online since, and no message in between was missed. It is then the will of an older
// process, and counted as Superseded. The last four boots are remembered.
//
// These statuses always count: an online status; an offline status of an unknown boot, whose online
// status may have been lost; a retained offline status; and an offline status before which others
// may be missing. If the device is online, it corrects a wrong offline status. Nothing corrects a
// wrong online status.
//
// An invalid payload makes the device Unknown.
//
// # While the link is down
//
// Lost makes each device unconfirmed. No device becomes Offline. An Online device becomes Stale
// when StaleAfter has passed since the last packet on the link on which it was last confirmed. A
// message confirms a device unless it is Past. If it changes nothing, there is no Change, and Since
// is kept. Synced reports that all retained statuses were received. The Tracker then forgets
// unconfirmed devices.
//
// While the link is up, a device also becomes Stale after a silence of three of its Intervals.
type Tracker struct {
	mu      sync.Mutex
	opts    Options
	base    time.Time // times are stored relative to it
	devices map[string]*device
	bytes   int // size of their topics
	counts  Counts
	view    view
	silence silence
	full    bool // ViewFull was reported, and there was no space since
}

// NewTracker returns an empty Tracker.
func NewTracker(o Options) *Tracker {
	o.MaxDevices = cmp.Or(max(o.MaxDevices, 0), 100_000)
	o.MaxBytes = cmp.Or(max(o.MaxBytes, 0), 64<<20)
	if o.Parse == nil {
		o.Parse = func(_ string, payload []byte) (Status, error) { return Parse(payload) }
	}
	return &Tracker{opts: o, devices: map[string]*device{}, view: view{epoch: 1, first: 1}}
}

// Apply applies one message. It returns the Change and true, or false if nothing changed.
func (t *Tracker) Apply(w Message) (Change, bool) {
	s, err := Status{}, error(nil)
	if len(w.Payload) > 0 {
		s, err = t.opts.Parse(w.Topic, w.Payload)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.since(w.At)
	t.counts.Words++
	d := t.devices[w.Topic]
	switch {
	case len(w.Payload) == 0:
		if d == nil || w.Past { // the present retained status decides
			return Change{}, false
		}
		return t.removeLocked(d, w.At), true
	case err != nil:
		t.counts.Unreadable++
		s = Status{}
	case s.State > Offline:
		s.State = Unknown
	}
	if w.Past && (d == nil || d.epoch == t.view.epoch) {
		return Change{}, false // a newer retained status was or will be received
	}
	if d == nil {
		if len(t.devices) >= t.opts.MaxDevices || t.bytes+len(w.Topic) > t.opts.MaxBytes {
			t.counts.Refused++
			reported := t.full
			t.full = true
			return Change{Kind: ViewFull, At: w.At, Device: Device{Topic: w.Topic}}, !reported
		}
		d = &device{topic: strings.Clone(w.Topic), epoch: t.view.epoch}
		t.devices[d.topic] = d
		t.bytes += len(d.topic)
		t.view.add(d)
	}
	initial := d.statuses == 0 && w.Retained
	confirmed := d.epoch == t.view.epoch
	if d.supersedes(s) && confirmed && !w.Retained && !w.Past {
		t.counts.Superseded++
		return Change{}, false
	}
	news := d.update(s)
	if news || !w.Retained {
		d.seen = now
	}
	if w.Past {
		return Change{}, false
	}
	d.silent = d.silent && w.Retained && !news
	d.confirmedAt = now
	from, was, v := t.shown(d, now), d.shown, &t.view
	knownOnline := v.of(d).news && !v.of(d).reported // the device may have been reported as Online
	v.remove(d)
	d.epoch, d.shown = v.epoch, d.raw
	if d.raw == Online && d.silent {
		d.shown = Stale
	}
	v.add(d)
	t.silence.arm(d, len(t.devices))
	unchanged := d.shown == was && !(d.statuses == 1 && was == Unknown)
	v.now.news = v.now.news || d.shown == Online && (knownOnline || !unchanged)
	if unchanged {
		return Change{}, false
	}
	d.since = now
	return Change{At: w.At, Device: t.device(d, now), From: from, Initial: initial}, true
}

// Forget removes a device, like an empty payload.
func (t *Tracker) Forget(topic string, at time.Time) (Change, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.devices[topic]
	if d == nil {
		return Change{}, false
	}
	return t.removeLocked(d, at), true
}

func (t *Tracker) removeLocked(d *device, at time.Time) Change {
	from := t.shown(d, t.since(at))
	delete(t.devices, d.topic)
	t.bytes -= len(d.topic)
	t.view.remove(d)
	t.full, d.gone = false, true
	return Change{Kind: Forgotten, At: at, Device: Device{Topic: d.topic, Since: at}, From: from}
}

// since returns the time relative to base.
func (t *Tracker) since(at time.Time) time.Duration {
	if t.base.IsZero() {
		t.base = at.Add(-1) // so that no relative time is 0
	}
	return at.Sub(t.base)
}
