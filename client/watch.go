package client

import (
	"cmp"
	"context"
	"iter"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/retained"
)

// WatchOptions configure a StatusWatch. Zero values select the defaults.
type WatchOptions struct {
	// MaxDevices limits the known devices, and MaxBytes limits the memory of their topics, see
	// presence.Options. Default 100,000 and 64 MiB.
	MaxDevices, MaxBytes int
	// StaleAfter is how long the client may be disconnected before devices that are Online become
	// Stale. The time begins with the server's last packet. Default 0: devices become Stale when
	// the client detects the loss of the connection.
	StaleAfter time.Duration
	// Parse decodes payloads. Default: presence.Parse, which decodes plain online and offline, and
	// the JSON of Status.Structured. Parse must not block and must not call the client. A panic
	// counts as an invalid payload.
	Parse func(topic string, payload []byte) (presence.Status, error)
	// OnChange receives the changes, one after the other. OnChange may call the client's Close,
	// which then returns at once. OnChange must not call Drain. A panic is logged.
	OnChange func(presence.Change)
	// Queue limits the changes that wait for OnChange or for a reader of Changes. If there are
	// more, the client drops all of them and inserts a presence.Missed instead. Default 1,024.
	Queue int
	// Silence has the same meaning as RetainedOptions.Silence.
	Silence time.Duration
}

// StatusWatch watches the status topics that match a filter, see WatchStatus. All methods are safe
// for concurrent use.
type StatusWatch struct {
	view
	tracker *presence.Tracker
	changes changes[presence.Change]

	order sync.Mutex // held while changes are made and pushed, to keep their order
	alarm alarm      // set to the tracker's next expiry

	refusals uint64 // refusals of the tracker at the last sync
}

// WatchStatus watches all devices whose retained status topics match filter, for example
// "devices/+/status". The watch ends when ctx ends, when the client ends, or when Close is called.
// WatchStatus returns at once. To wait until all retained statuses are known, call Synced. See
// presence.Tracker for the states of a device.
//
// While the client is disconnected, no device becomes Offline, and Online devices become Stale
// after StaleAfter. On each connection, even in a resumed session, the client fetches the retained
// statuses again and reports changes. The client forgets devices that no longer have a retained
// status. The fetch uses QoS 0 and ends as in FetchRetained. Afterwards, the client changes the
// subscription to QoS 1.
//
// If a device ends without a message, it stays Online until the server publishes its will. The
// server publishes the will after at most 1.5 times the device's Keep Alive plus its Will Delay
// Interval. If the watching client loses its connection meanwhile, add StaleAfter to this time. If
// this client detects its loss late, also add up to 1.5 times its own Keep Alive.
//
// If the server keeps the session (Config.Session.Expiry), it also queues messages for the watch
// while the client is disconnected. The server may then have no space for the application's
// messages. If the application has durable subscriptions, use a separate client with NoSession for
// the watch. That client loses no status, because it fetches the statuses again on each connection.
//
// Errors: *FieldError, ErrTooManyFilters, ErrClosed, and the cause of ctx. If the server refuses
// the subscription, Synced returns the error, SubscriptionFailed is reported, and the client tries
// again on the next connection.
func (c *Client) WatchStatus(ctx context.Context, filter string, o WatchOptions) (*StatusWatch, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	o.Queue = cmp.Or(o.Queue, 1024)
	w := &StatusWatch{tracker: presence.NewTracker(presence.Options{MaxDevices: o.MaxDevices, MaxBytes: o.MaxBytes, StaleAfter: o.StaleAfter, Parse: c.recovered(o.Parse)})}
	w.changes.limit, w.changes.missed = o.Queue, func(n int) presence.Change {
		return presence.Change{Kind: presence.Missed, At: time.Now(), Missed: n}
	}
	w.changes.lost = func(n int) { c.views.losses.changes(filter, n) }
	w.changes.bytes, w.changes.size = cmp.Or(max(o.MaxBytes, 0), 64<<20), func(c presence.Change) int {
		return len(c.Device.Topic) + len(c.Device.Status.Reason) + len(c.Device.Status.Version) + c.Device.Details.Size()
	}
	var read iter.Seq[presence.Change]
	if o.OnChange != nil {
		read = w.changes.read()
	}
	use := retained.View{Filter: filter, QoS: byte(AtLeastOnce), Silence: o.Silence, User: w}
	if err := w.begin(ctx, c.life.ending, &c.views, use); err != nil {
		return nil, err
	}
	if read != nil {
		c.views.call(func() {
			for change := range read {
				c.panicked("OnChange", c.guard.Call(func() { o.OnChange(change) }))
			}
		})
	}
	return w, nil
}

// recovered returns parse with panics converted to errors.
func (c *Client) recovered(parse func(string, []byte) (presence.Status, error)) func(string, []byte) (presence.Status, error) {
	if parse == nil {
		return nil
	}
	return func(topic string, payload []byte) (s presence.Status, err error) {
		if p := c.guard.Call(func() { s, err = parse(topic, payload); _ = callback.Probe(err) }); p != nil {
			c.views.losses.panic("Parse", p)
			err = p
		}
		return s, err
	}
}

// Synced waits until the client has received all retained statuses on the present connection.
// Synced returns how the client detected their end. Errors: the cause of ctx, *RefusedError,
// ErrClosed.
func (w *StatusWatch) Synced(ctx context.Context) (SyncEnd, error) { return w.synced(ctx) }

// Get returns the device with this status topic. For an unknown device, ok is false and the State
// is Unknown.
func (w *StatusWatch) Get(topic string) (_ presence.Device, ok bool) {
	return w.tracker.Get(topic, time.Now())
}

// All returns an iterator over all devices, in no particular order. All reads each device when the
// loop reaches it.
func (w *StatusWatch) All() iter.Seq[presence.Device] { return w.tracker.All(time.Now) }

// Snapshot returns all devices at one point in time, in no particular order.
func (w *StatusWatch) Snapshot() []presence.Device { return w.tracker.Snapshot(time.Now()) }

// Counts returns the number of devices per state. Counts does not iterate over the devices.
func (w *StatusWatch) Counts() presence.Counts { return w.tracker.Counts(time.Now()) }

// Changes returns the changes that happen after this call, for use in one loop. The loop ends when
// the watch ends. At most WatchOptions.Queue changes wait for the loop. A loop that is too slow
// receives a presence.Missed and should then call Snapshot.
func (w *StatusWatch) Changes() iter.Seq[presence.Change] { return w.changes.read() }

// Close ends the watch, the loops over Changes, and the subscription at the server. The known
// devices can still be read. Close may be called more than once, and from OnChange.
func (w *StatusWatch) Close() { w.close() }

func (w *StatusWatch) finish() {
	w.order.Lock()
	defer w.order.Unlock()
	w.alarm.stop()
	w.changes.close()
}

func (w *StatusWatch) take(m *Message, from retained.Origin) {
	w.order.Lock()
	defer w.order.Unlock()
	change, changed := w.tracker.Apply(presence.Message{Topic: m.Topic, Payload: m.Payload, At: time.Now(), Retained: m.Retain && from == retained.Fill, Past: from == retained.Past})
	if change.Kind == presence.ViewFull {
		w.full(m.Topic)
	}
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
	before, now := w.refusals, w.tracker.Counts(time.Now()).Refused
	if w.refusals = now; room && now > before {
		w.tracker.Resync() // a device that is removed before the next SUBSCRIBE is not sent again
		return true        // refused devices fit now
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
	w.lost(time.Now()) // the subscription may have existed until now
	w.set(NotSynced, err)
}

// While a change is scheduled, the alarm fires at least once per watchTick. If it is later than
// watchLate, the process was suspended or did not read. Devices are then not judged for as long as
// the alarm was late, at most maxHold: their messages may be waiting in the socket or at the server.
const (
	watchTick = time.Second
	watchLate = time.Second
	maxHold   = 30 * time.Second
)

// expireLocked reports due changes and sets the alarm to the next one.
func (w *StatusWatch) expireLocked() {
	now := time.Now()
	if late := w.alarm.late(now); late > watchLate {
		w.tracker.Hold(now.Add(min(late, maxHold)))
	}
	next := w.tracker.Expire(now, w.changes.push)
	if tick := now.Add(watchTick); next.After(tick) {
		next = tick
	}
	w.alarm.set(next, w.expire)
}

func (w *StatusWatch) expire() {
	w.order.Lock()
	defer w.order.Unlock()
	w.expireLocked()
}
