package client

import (
	"context"
	"iter"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/retained"
)

// WatchOptions describe a StatusWatch. The zero value is useful.
type WatchOptions struct {
	// MaxDevices is how many devices are known at a time; see presence.Options.
	// Default 100,000.
	MaxDevices int
	// MaxBytes is what their topics may take; see presence.Options. Default 64 MiB.
	MaxBytes int
	// StaleAfter is how long our own link may be gone until devices that were Online
	// are shown as Stale, counted from when the server's last packet came. Default
	// 0: at once when the link is known to be gone. With 15 s a board does not
	// flicker over short cuts, and may be 15 s late.
	StaleAfter time.Duration
	// Parse reads payloads. Default: presence.Parse, which knows plain online and
	// offline and the JSON of Status.Structured. It is called by the goroutine that
	// reads the connection: it must not block, nor call the client. A panic counts as
	// a payload that cannot be read.
	Parse func(topic string, payload []byte) (presence.Status, error)
	// OnChange is told each change, one after the other, on a goroutine of its own.
	// It may call the client's Close, which returns at once then, and must not call
	// Drain. A panic in it is logged.
	OnChange func(presence.Change)
	// Queue is how many changes OnChange, or a reader of Changes, may be behind.
	// Beyond, what waits is dropped, and a presence.Missed takes its place. Default
	// 1,024.
	Queue int
	// Silence is as in RetainedOptions.
	Silence time.Duration
}

// StatusWatch follows the status topics that match a filter; see WatchStatus. All
// methods are safe for concurrent use.
type StatusWatch struct {
	view
	tracker *presence.Tracker
	changes changes[presence.Change]

	order sync.Mutex // so that changes are told in the order in which they are made
	timer *time.Timer
	next  time.Time // when timer comes; zero: not
	over  bool

	beyond uint64 // words of devices beyond the limits, when it was filled last
}

// WatchStatus follows any number of devices by the retained status topics that
// match filter, such as "devices/+/status", until ctx ends, the client does, or
// Close is called. It returns at once; Synced waits until all that the server has
// retained is known. Which words count is said at presence.Tracker.
//
// Our own link is no device's: while it is down no device becomes Offline, and one
// that was Online becomes Stale when StaleAfter has gone by. On each connection the
// retained statuses are fetched again, whether the session was kept or not: what
// changed meanwhile is told then, what did not is not, and a device without a
// retained status is forgotten. The fetch is at QoS 0 and ends as FetchRetained
// does; then the subscription is raised to QoS 1.
//
// How long a device may be shown as Online after it has ended: the server says so
// after at most 1.5 times the device's Keep Alive and its Will Delay Interval, and
// the watch shows it when it hears it. If the device ends while our link is going
// down, or is down, it is shown as Online until at most StaleAfter behind the last
// packet that the server sent us, or until we notice that the link is gone if that
// is later: at most 1.5 times our own Keep Alive behind that packet. So the sum that
// the server keeps holds for the watch too, through all loss of our link that is
// noticed at once; it may be exceeded by StaleAfter where that is set, and by 1.5
// times our Keep Alive where a link dies without a word.
//
// A session that is kept (Config.Session.Expiry) keeps the words of its subscriptions
// for us too while our link is down, and they take room in the server's queue that
// the program's own messages then may not have; after Close of the client as well,
// unless the watch was closed while there was a connection. What is watched is fetched
// anyway, so a client for watching alone, with NoSession, is better beside durable
// subscriptions.
//
// Errors: *FieldError, ErrTooManyFilters, ErrClosed, ctx's cause. That the server refuses the
// subscription is told by Synced and by a SubscriptionFailed event; the next
// connection tries again.
func (c *Client) WatchStatus(ctx context.Context, filter string, o WatchOptions) (*StatusWatch, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	def(&o.Queue, 1024)
	w := &StatusWatch{tracker: presence.NewTracker(presence.Options{MaxDevices: o.MaxDevices, MaxBytes: o.MaxBytes, StaleAfter: o.StaleAfter, Parse: recovered(o.Parse)})}
	w.changes = changes[presence.Change]{limit: o.Queue, missed: func(n int) presence.Change {
		return presence.Change{Kind: presence.Missed, At: time.Now(), Missed: n}
	}}
	var read iter.Seq[presence.Change]
	if o.OnChange != nil {
		read = w.changes.read()
	}
	use := retained.View{Filter: filter, QoS: byte(AtLeastOnce), Silence: o.Silence, User: w}
	if err := w.open(ctx, c, use, w.finish); err != nil {
		return nil, err
	}
	if read != nil {
		c.views.call(func() { w.reportChanges(read, o.OnChange) })
	}
	return w, nil
}

// reportChanges calls OnChange.
func (w *StatusWatch) reportChanges(read iter.Seq[presence.Change], onChange func(presence.Change)) {
	defer w.c.guard.Enter()()
	for change := range read {
		if p := callback.Try(func() { onChange(change) }); p != nil {
			w.c.cfg.Logger.Error("function of the application panicked", "function", "OnChange", "panic", p.Value, "stack", string(p.Stack))
		}
	}
}

// recovered has a panic of the program's function end as an error.
func recovered(parse func(string, []byte) (presence.Status, error)) func(string, []byte) (presence.Status, error) {
	if parse == nil {
		return nil
	}
	return func(topic string, payload []byte) (s presence.Status, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		return parse(topic, payload)
	}
}

// Synced waits until all that the server has retained is known on the present
// connection, and says how that was known. Errors: ctx's cause, *RefusedError,
// ErrClosed.
func (w *StatusWatch) Synced(ctx context.Context) (SyncEnd, error) { return w.synced(ctx) }

// Get returns what is known of the device with this status topic; ok is false, and
// its State Unknown, if nothing is.
func (w *StatusWatch) Get(topic string) (_ presence.Device, ok bool) {
	return w.tracker.Get(topic, time.Now())
}

// All yields every device, in no order, each as it is when its turn comes.
func (w *StatusWatch) All() iter.Seq[presence.Device] { return w.tracker.All(time.Now) }

// Snapshot returns every device as it is at one moment, in no order.
func (w *StatusWatch) Snapshot() []presence.Device { return w.tracker.Snapshot(time.Now()) }

// Counts sums them up, without going through them.
func (w *StatusWatch) Counts() presence.Counts { return w.tracker.Counts(time.Now()) }

// Changes returns what changes from this call on, for one loop. The loop ends when
// the watch does. One that is too slow gets a presence.Missed and should take a
// Snapshot. Up to WatchOptions.Queue changes wait for the loop from this call on.
func (w *StatusWatch) Changes() iter.Seq[presence.Change] { return w.changes.read() }

// Close ends the watch: the server is told when there is a connection, and the
// loops over Changes end. What was known can still be asked. It is safe in each
// state, and from OnChange.
func (w *StatusWatch) Close() { w.close() }

func (w *StatusWatch) finish() {
	w.order.Lock()
	defer w.order.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.changes.close()
}

func (w *StatusWatch) take(m *Message, from retained.Origin) {
	w.order.Lock()
	defer w.order.Unlock()
	change, changed := w.tracker.Apply(presence.Message{Topic: m.Topic, Payload: m.Payload, At: time.Now(), Retained: m.Retain && from == retained.Fill, Past: from == retained.Past})
	if changed {
		w.changes.push(change)
	}
	w.expireLocked()
}

func (w *StatusWatch) filled(end SyncEnd) (again bool) {
	w.order.Lock()
	defer w.order.Unlock()
	room := false
	w.tracker.Synced(time.Now(), func(c presence.Change) {
		room = room || c.Kind == presence.Forgotten
		w.changes.push(c)
	})
	w.expireLocked()
	before, now := w.beyond, w.tracker.Counts(time.Now()).Refused
	if w.beyond = now; room && now > before {
		w.tracker.Resync() // what goes until the server has our SUBSCRIBE is not among what comes
		return true        // for those there was none for
	}
	w.set(end, nil)
	return false
}

func (w *StatusWatch) lost(alive time.Time) {
	w.order.Lock()
	defer w.order.Unlock()
	w.set(NotSynced, nil)
	w.tracker.Lost(alive)
	w.expireLocked()
}

func (w *StatusWatch) refill(bool) {
	w.order.Lock()
	defer w.order.Unlock()
	w.tracker.Resync()
}

func (w *StatusWatch) refused(err error) {
	w.lost(time.Now()) // there may have been a subscription until now
	w.set(NotSynced, err)
}

// expireLocked tells what is due, and comes again when something will be.
func (w *StatusWatch) expireLocked() {
	now := time.Now()
	next := w.tracker.Expire(now, w.changes.push)
	switch {
	case w.over || next.IsZero() || !w.next.IsZero() && !next.Before(w.next) && w.next.After(now):
		return // it is soon enough
	case w.timer == nil:
		w.timer = time.AfterFunc(next.Sub(now), w.expire)
	default:
		w.timer.Reset(next.Sub(now))
	}
	w.next = next
}

func (w *StatusWatch) expire() {
	w.order.Lock()
	defer w.order.Unlock()
	w.next = time.Time{}
	w.expireLocked()
}
