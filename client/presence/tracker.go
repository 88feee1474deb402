package presence

import (
	"cmp"
	"strings"
	"sync"
	"time"
)

// Options of a Tracker. The zero value is useful.
type Options struct {
	// MaxDevices limits the known devices. Statuses of others are refused, counted, and
	// reported by a ViewFull. Default 100,000.
	MaxDevices int
	// MaxBytes limits the topics of all devices in the same way. Default 64 MiB.
	MaxBytes int
	// StaleAfter is the time from the last sign of life on the own link until an
	// Online, unconfirmed device is Stale. Default 0: when the link is down.
	StaleAfter time.Duration
	// Parse reads payloads. Default: the Parse of this package. A State other than
	// Online and Offline counts as Unknown; fields beyond the limits of Status are cut.
	Parse func(topic string, payload []byte) (Status, error)
}

// Message is one message on a status topic.
type Message struct {
	Topic    string
	Payload  []byte    // empty: the retained status was cleared, and the device is forgotten
	At       time.Time // when it was received
	Retained bool      // the server sent it in answer to the subscription
	// Past: it may be older than the subscription, for example from the queue of a
	// session. It counts towards boots and flaps, but does not confirm the device.
	Past bool
}

// Tracker derives device states from status messages. It takes about 250 bytes for
// a device whose status has all fields and whose topic has 32 bytes, and keeps no
// payload. It starts no goroutine and reads no clock: each call passes the time,
// which should not go back. Methods are safe for concurrent use.
//
// # Which messages count
//
// Messages count in the order of receipt, which is the order of the server. The
// clocks of devices may step, so Status.Time and boot IDs are not compared.
//
// There is one exception. A status offline does not count if its boot was seen before,
// a newer boot has been online since, and no message in between was missed: it is the
// will of an older process, counted as Superseded. An offline of an unknown boot
// counts, because its birth may have been lost. So does a retained one, and one before
// which others may be missing: a device that is online corrects it, and nothing
// corrects a wrong online. The last four boots are remembered. An online always counts.
//
// A payload that cannot be read makes the device Unknown.
//
// # While the own link is down
//
// Lost makes each device unconfirmed, and none Offline. One that was Online is Stale
// when StaleAfter has passed since the last sign of life on the link on which it
// was last confirmed. A message that is not Past confirms a device; if it says
// nothing new there is no Change, and Since stays. Synced reports that all retained
// statuses were received: unconfirmed devices are forgotten then.
//
// A device is also Stale after three of its Intervals of silence on a link that is up.
type Tracker struct {
	mu      sync.Mutex
	opts    Options
	base    time.Time // times are kept as the distance from it
	devices map[string]*device
	bytes   int // of their topics
	counts  Counts
	view    view
	silence silence
	full    bool // ViewFull was reported since there was room
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

// Apply applies one message and returns the Change, if there is one.
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
		return Change{}, false // its retained status is still to come, or newer
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
	initial := d.words == 0 && w.Retained
	confirmed := d.epoch == t.view.epoch
	if d.supersedes(s) && confirmed && !w.Retained && !w.Past {
		t.counts.Superseded++
		return Change{}, false
	}
	news := d.hear(s)
	if news || !w.Retained {
		d.seen = now
	}
	if w.Past {
		return Change{}, false
	}
	d.silent = d.silent && w.Retained && !news
	d.heard = now
	from, was, v := t.shown(d, now), d.shown, &t.view
	told := v.of(d).news && !v.of(d).told // that it is Online, perhaps
	v.remove(d)
	d.epoch, d.shown = v.epoch, d.raw
	if d.raw == Online && d.silent {
		d.shown = Stale
	}
	v.add(d)
	t.silence.arm(d, len(t.devices))
	unchanged := d.shown == was && !(d.words == 1 && was == Unknown)
	v.now.news = v.now.news || d.shown == Online && (told || !unchanged)
	if unchanged {
		return Change{}, false
	}
	d.since = now
	return Change{At: w.At, Device: t.device(d, now), From: from, Initial: initial}, true
}

// Forget removes a device, as an empty payload does.
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

// since converts a time to the distance from base.
func (t *Tracker) since(at time.Time) time.Duration {
	if t.base.IsZero() {
		t.base = at.Add(-1) // so that no time is 0
	}
	return at.Sub(t.base)
}
