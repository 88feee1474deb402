package presence

import (
	"strings"
	"sync"
	"time"
)

// Options of a Tracker. The zero value is useful.
type Options struct {
	// MaxDevices is how many devices are known at a time; words of others are
	// refused, counted and told with a ViewFull. Default 100,000.
	MaxDevices int
	// MaxBytes is what the topics of all devices may take; words of others are
	// refused in the same way. Default 64 MiB.
	MaxBytes int
	// StaleAfter is how long after the last sign of life on our own link a device
	// that was Online is shown as Stale, unless it was confirmed since. Default
	// 0: at once when the link is known to be gone.
	StaleAfter time.Duration
	// Parse reads payloads. Default: the Parse of this package. A State other than
	// Online and Offline counts as Unknown, and what is beyond the limits of Status is
	// cut.
	Parse func(topic string, payload []byte) (Status, error)
}

// Word is one message on a status topic.
type Message struct {
	Topic   string
	Payload []byte    // empty: the retained status was cleared, and the device is forgotten
	At      time.Time // when it came
	// Retained: it answers our subscription, out of the server's retained messages.
	Retained bool
	// Past: it may be of a time before our subscription was made (again), as what a
	// session kept for us. What it says counts towards boots and flaps, and shows
	// when the device is confirmed; behind that it says nothing.
	Past bool
}

// Tracker makes states of words. It takes about 250 bytes for a device whose
// status has all fields and whose topic has 32 bytes, and keeps no payload; texts
// that repeat are kept once. It starts no goroutine and asks no clock: each call
// says what time it is, and times should not run backwards. Methods are safe for
// concurrent use.
//
// # Which words count
//
// Words count in the order in which they come, which is the order in which the
// server had them. Clocks are not asked, neither in Status.Time nor in a boot ID:
// that of a device may step.
//
// There is one exception. A word that says offline does not count if its boot was
// heard of before, a newer boot has said online since, and all words between came
// to us (it is counted as Superseded): it is the will of an older process. An
// offline of a boot that was never heard of counts, since it may be the last word
// of one whose birth was lost; and so does one that is a retained status or may
// have others missing before it. Better a moment too early than online for ever:
// a device that is there corrects it. The boots that are remembered are the last
// four. An online always counts.
//
// A payload that cannot be read makes the device Unknown: it has said something,
// and what it said before need not hold.
//
// # What is shown while our own link is down
//
// Lost says that our link is gone. No device becomes Offline by that; each one is
// now unconfirmed. One that was Online is shown as Stale when StaleAfter has gone
// by since the last sign of life on the link on which it was last confirmed. A
// word that is not Past confirms a device; if it says what was known there is no
// Change, and Since stays. Synced says that all that the server has retained came:
// what is not confirmed by then is forgotten.
//
// A device that says in its status at which interval it speaks is Stale too when
// it was silent for three of them while our link stood.
type Tracker struct {
	mu      sync.Mutex
	opts    Options
	base    time.Time // times are kept as the distance from it
	devices map[string]*device
	bytes   int // of their topics
	texts   texts
	counts  Counts
	view    view
	silence silence
	full    bool // told since there was room
}

// NewTracker returns an empty Tracker.
func NewTracker(o Options) *Tracker {
	if o.MaxDevices <= 0 {
		o.MaxDevices = 100_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.Parse == nil {
		o.Parse = func(_ string, payload []byte) (Status, error) { return Parse(payload) }
	}
	return &Tracker{opts: o, devices: map[string]*device{}, texts: texts{}, view: newView()}
}

// Apply takes one word and returns what changed by it, if anything did.
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
		if d == nil || w.Past { // what is retained now says whether it is there
			return Change{}, false
		}
		return t.removeLocked(d, w.At), true
	case err != nil:
		t.counts.Unreadable++
		s = Status{}
	case s.State > Offline:
		s.State = Unknown // a Parse of the program's says something that no device can
	}
	if w.Past && (d == nil || d.epoch == t.view.epoch) {
		return Change{}, false // what is retained of it is still to come, or newer
	}
	if d == nil {
		if len(t.devices) >= t.opts.MaxDevices || t.bytes+len(w.Topic) > t.opts.MaxBytes {
			t.counts.Refused++
			told := t.full
			t.full = true
			return Change{Kind: ViewFull, At: w.At, Device: Device{Topic: w.Topic}}, !told
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
	news := d.hear(s, t.texts)
	if news || !w.Retained {
		d.seen = now
	}
	if w.Past {
		return Change{}, false
	}
	d.silent = d.silent && w.Retained && !news
	d.heard = now
	from := t.shown(d, now)
	was := d.shown
	v := &t.view
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

// Forget takes a device out, as an empty payload does.
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

// since is a time as it is kept.
func (t *Tracker) since(at time.Time) time.Duration {
	if t.base.IsZero() {
		t.base = at.Add(-1) // so that no time is 0
	}
	return at.Sub(t.base)
}
