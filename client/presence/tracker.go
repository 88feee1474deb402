package presence

import (
	"cmp"
	"math"
	"strings"
	"sync"
	"time"
)

// Options configure a Tracker. Zero values select the defaults.
type Options struct {
	// MaxDevices limits the number of known devices. The Tracker refuses and counts the statuses of
	// further devices, and reports ViewFull. Default: 100,000.
	MaxDevices int
	// MaxBytes limits the total size of the status topics in the same way as MaxDevices. Default:
	// 64 MiB.
	MaxBytes int
	// StaleAfter is how long a device stays Online after the link was lost. The time counts from
	// the last packet on the link. After it, a device that was not confirmed is Stale. Default: 0,
	// so devices are Stale as soon as the link is down.
	StaleAfter time.Duration
	// Parse decodes payloads. If it returns a State other than Online and Offline, the Tracker uses
	// Unknown. The Tracker truncates fields that exceed the limits of Status. Default: the function
	// Parse of this package.
	Parse func(topic string, payload []byte) (Status, error)
}

// Message is one message on a status topic.
type Message struct {
	Topic    string
	Payload  []byte    // empty if the retained status was cleared; the Tracker then forgets the device
	At       time.Time // the time at which the message was received
	Retained bool      // the server sent the message because of a subscription (RETAIN flag)
	// Past means that the message may be older than the subscription. An example is a message from
	// the queue of a session. Such a message counts for Boots and Flaps, but it does not confirm
	// the device.
	Past bool
}

// Tracker derives device states from status messages. It reads no clock. The caller passes the time
// to each call, and this time should not go back. A Tracker starts no goroutine and keeps no
// payload. It needs about 280 bytes for a device with a 32-byte topic and all fields of a status,
// except Details. All methods are safe for concurrent use.
//
// # Which messages count
//
// Messages count in the order in which they are received, which is the server's order. The Tracker
// does not compare Status.Time, or the times inside boot IDs, because the clock of a device may be
// set back.
//
// There are two exceptions. The Tracker ignores these statuses and counts them as Superseded:
//
// An offline status of a boot that was seen before, if a newer boot has been online since. Such a
// status is the will of an older process of the device. It is ignored if the device is already
// Offline according to a newer boot, because the State does not depend on it. While the device is
// not Offline, a retained status of this kind still counts, and so does one if the Tracker may have
// missed a message after the last online status of the newer boot. The will of a boot that has
// closed is ignored too.
//
// A retained online status of a boot whose close the Tracker has received. If the close is still the
// last status, this requires that both have a Time, and that of the online status is not later. A
// client does not publish after its close. The server has therefore returned to an older state, for example because
// it has restored an old database. An Offline device stays Offline. A device that is Online with
// another boot becomes Stale until its next status.
//
// The Tracker remembers the last four boots of each device. All other statuses count. For example:
//
//   - An online status that is not retained.
//   - An offline status of an unknown boot, because the online status of that boot may have been
//     lost.
//
// A device that is online corrects a wrong offline status. Nothing corrects a wrong online status.
//
// An invalid payload makes the device Unknown.
//
// # While the link is down
//
// The method Lost makes every device unconfirmed. It makes no device Offline. An Online device
// becomes Stale when StaleAfter has passed since the last packet on the link on which the device
// was last confirmed.
//
// A later message confirms its device, unless the message is Past. If the State stays the same,
// there is no Changed, and Device.Since stays the same. The method Synced means that all retained
// statuses were received. The Tracker then forgets the devices that are still unconfirmed.
//
// While the link is up, a device also becomes Stale after it has been silent for three of its
// Intervals.
type Tracker struct {
	mu      sync.Mutex
	opts    Options
	base    time.Time // times are stored relative to it
	devices map[string]*device
	bytes   int // size of their topics
	counts  Counts
	view    view
	silence silence
	hold    time.Duration // silence is not judged before this time
	full    bool          // ViewFull was reported, and no device was removed since
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

// Apply applies one message to the state of its device. It returns the Change and true. If neither
// the State nor the boot of an Online device changed, it returns false.
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
		if d == nil || w.Past { // only the present retained status decides
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
		return Change{}, false // a newer retained status was received already, or will be received
	}
	if d == nil {
		if len(t.devices) >= t.opts.MaxDevices || t.bytes+len(w.Topic) > t.opts.MaxBytes {
			t.counts.Refused++
			reported := t.full
			t.full = true
			return Change{Kind: ViewFull, At: w.At, Device: Device{Topic: w.Topic}}, !reported
		}
		d = t.addLocked(w.Topic)
	}
	initial := d.statuses == 0 && w.Retained
	d.whole = d.whole && d.epoch == t.view.epoch
	if old := w.Retained && d.outdated(s); old || d.supersedes(s, !w.Retained && !w.Past) {
		t.counts.Superseded++
		if !old {
			d.note(s)
		}
		if w.Past {
			return Change{}, false
		}
		return t.confirmLocked(d, old, w.At)
	}
	boots := d.boots
	news := d.update(s, w.Retained)
	if news || !w.Retained {
		d.seen = now
	}
	if w.Past {
		return Change{}, false
	}
	d.silent, d.doubted = d.silent && w.Retained && !news, false
	earlier := cmp.Or(d.confirmedAt, math.MinInt64) // zero if this is the first status
	d.confirmedAt = now
	from, was, v := t.shown(d, now), d.shown, &t.view
	knownOnline := v.of(d).news && !v.of(d).reported // the device may have been reported as Online
	v.remove(d)
	d.epoch, d.shown = v.epoch, d.state()
	v.add(d)
	t.silence.arm(d, len(t.devices))
	unchanged := d.shown == was && !(d.statuses == 1 && was == Unknown)
	restarted := unchanged && d.shown == Online && d.boots > boots
	v.now.news = v.now.news || d.shown == Online && (knownOnline || !unchanged || restarted)
	kind := Restarted
	switch {
	case unchanged && !restarted:
		return Change{}, false
	case !unchanged:
		kind, d.since = Changed, now
		if w.Retained && d.raw != Unknown && !s.Time.IsZero() { // the status is older than its reception
			d.since = max(min(t.since(s.Time), now), earlier)
		}
	}
	return Change{Kind: kind, At: w.At, Device: t.device(d, now), From: from, Initial: initial}, true
}

func (t *Tracker) addLocked(topic string) *device {
	d := &device{topic: strings.Clone(topic), epoch: t.view.epoch}
	t.devices[d.topic] = d
	t.bytes += len(d.topic)
	t.view.add(d)
	return d
}

// confirmLocked records that the server has a status of the device, although that status does not
// count. old means that the server's status is older than the last one that counted. The device is
// then Stale if it was Online.
func (t *Tracker) confirmLocked(d *device, old bool, at time.Time) (Change, bool) {
	now, v := t.since(at), &t.view
	from, was := t.shown(d, now), d.shown
	v.remove(d)
	d.doubted = d.doubted || old
	d.epoch, d.shown = v.epoch, d.state()
	v.add(d)
	if d.shown == was {
		return Change{}, false
	}
	d.since = now
	return Change{At: at, Device: t.device(d, now), From: from}, true
}

// Forget removes a device, like a message with an empty payload does.
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
