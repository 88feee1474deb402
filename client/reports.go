package client

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/summary"
	"github.com/mooring-mqtt/mooring/persistence"
)

// reports holds the counters, log and events of the client.
type reports struct {
	findings   []Finding // of Config.Lint
	shared     sync.Once // sharedUnordered was reported
	undeclared sync.Once // a subscription of an earlier process was reported
	notices    notices

	losses *summary.Summary[lossDetail] // by lossKind; it counts them too

	connections, abandoned, viewRefused, changesMissed, loggerPanics, lostQoS0, deadLettersDropped atomic.Uint64
}

func (r *reports) init(c *Client) {
	r.losses = summary.New(len(lossKinds), c.logLoss)
	call := func(x notice) { c.panicked(x.function, c.guard.Call(x.call)) }
	r.notices.init(c.cfg.OnEvent, call, func(n int) { r.losses.Add(int(lossEvents), about(MessageID{}, nil, slog.Int("missed", n))) })
}

// count returns how often losses of these kinds were reported.
func (r *reports) count(kinds ...lossKind) (n uint64) {
	for _, k := range kinds {
		n += r.losses.Total(int(k))
	}
	return n
}

// event reports e to OnEvent, without waiting for it.
func (c *Client) event(e Event) {
	if c.cfg.OnEvent != nil {
		c.reports.notices.add(c.reports.notices.of(owned(e)))
	}
}

// corrupted reports damage of the log and ends the message that was lost.
func (c *Client) corrupted(x persistence.Corruption) {
	report(c, lossDamage, about(MessageID{}, x.Err, slog.String("file", x.File), slog.Int64("offset", x.Offset)), StoreDamaged{x})
	if x.Seq != 0 {
		c.outbox.Damaged(x.Seq, &DamagedError{x})
	}
}

// asideCorrupted reports damage of the list of set-aside messages.
func (c *Client) asideCorrupted(x persistence.Corruption) {
	x.Seq = 0 // a sequence number of another log
	c.corrupted(x)
}

// storeRenewed reports the epoch that began when the store was opened. A custom store may implement
// Renewal.
func (c *Client) storeRenewed() {
	s, ok := optional[interface{ Renewal() persistence.Renewal }](c.store)
	if !ok || s.Renewal() == persistence.Continued {
		return
	}
	e, kind := StoreRenewed{Cause: s.Renewal(), Epoch: c.store.Epoch()}, lossRenewed
	if e.Cause.Copied() {
		kind = lossCopied
	}
	report(c, kind, about(MessageID{}, nil, slog.String("cause", e.Cause.String()), slog.Uint64("epoch", e.Epoch), slog.Uint64("pending", c.store.Stats().Pending)), e)
}

// sentLost reports whether the store has lost sent messages. A custom store may implement SentLost.
func sentLost(store persistence.Store) bool {
	s, ok := optional[interface{ SentLost() bool }](store)
	return ok && s.SentLost()
}

// adopted reports whether another client began the session in the store.
func adopted(store persistence.Store) bool {
	owner, _ := store.Session()
	_, adopted := link.Owner(owner)
	return adopted
}

// storeOutages holds the report of a store outage that begins while New runs.
type storeOutages struct {
	mu    sync.Mutex
	ready bool
	lasts *persistence.DegradedError
}

func (o *storeOutages) report(c *Client, err *persistence.DegradedError) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lasts = err; o.ready {
		storeDegraded(c, err)
	}
}

func (o *storeOutages) composed(c *Client) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ready = true; o.lasts != nil {
		storeDegraded(c, o.lasts)
	}
}

// storeDegraded reports the beginning of a store outage, or its end if err is nil.
func storeDegraded(c *Client, err *persistence.DegradedError) {
	if err != nil {
		c.life.phase.store(err)
		report(c, lossDegraded, about(MessageID{}, err, slog.Uint64("pending", c.store.Stats().Pending)), StoreDegraded{Err: err})
		return
	}
	took := c.life.phase.store(nil)
	c.outbox.StoreRecovered()
	c.log(slog.LevelInfo, "store accepts messages again", slog.Duration("after", took))
	c.event(StoreRecovered{After: took})
}

// storeFailed reports an error of the store. Those of an outage were reported when it began.
func (c *Client) storeFailed(err error) {
	if !errors.Is(err, persistence.ErrDegraded) {
		receivingFailed(c, err)
	}
}

// receivingFailed reports an error of the dedupe cache or of the list of set-aside messages.
func receivingFailed(c *Client, err error) {
	report(c, lossStore, about(MessageID{}, err), StoreFailed{Err: err})
}

// statusFailed reports a failed status message or a failed subscription to the status topic.
func (c *Client) statusFailed(err error) {
	var deferred *session.DeferredError
	if errors.As(err, &deferred) {
		err = &StatusDeferredError{Connections: deferred.Connections}
	}
	report(c, lossStatus, about(MessageID{}, err, slog.String("topic", c.cfg.Presence.Status.Topic)), StatusFailed{Err: err})
}

// statusContested reports another process that publishes on the status topic.
func (c *Client) statusContested(b presence.BootID) {
	report(c, lossContested, about(MessageID{}, nil, slog.String("topic", c.cfg.Presence.Status.Topic), slog.String("boot", b.String())), StatusContested{Boot: b})
}

// subscriptionResult processes the result of a subscription.
func (c *Client) subscriptionResult(r subs.Result) {
	if asked, granted := QoS(r.Asked), QoS(r.Granted); granted < asked && r.Owner != subs.Marker {
		filter := r.Want.Filter
		report(c, lossDowngraded, about(MessageID{}, nil, slog.String("filter", filter), slog.Int("asked", int(asked)), slog.Int("granted", int(granted))),
			SubscriptionDowngraded{Filter: filter, Asked: asked, Granted: granted})
	}
	if r.Overlaps != "" {
		c.log(slog.LevelWarn, "server has no Subscription Identifiers: handlers of filters that match the same message may get it once for each",
			slog.String("filter", r.Want.Filter), slog.String("overlaps", r.Overlaps))
		return
	}
	switch r.Owner {
	case subs.Application:
		c.subscriptionFailed(r.Want.Filter, r.Err)
		if r.Recovered {
			c.log(slog.LevelInfo, "subscription granted after a refusal", slog.String("filter", r.Want.Filter), slog.Int("granted", int(r.Granted)))
			c.event(SubscriptionGranted{Filter: r.Want.Filter, Granted: QoS(r.Granted)})
		}
	case subs.Status:
		// If an UNSUBSCRIBE is refused, the only effect is that messages arrive twice.
		if !r.Ended && c.status.Subscribed(r.Err == nil) {
			c.statusFailed(&StatusSubscriptionError{Err: refusedError(r.Err)})
		}
	default:
		switch {
		case r.Ended:
			c.subscriptionFailed(r.Want.Filter, r.Err)
		case r.Owner == subs.Marker && r.Err != nil:
			viewObserver{c}.markerFailed(r.Want.Filter, refusedError(r.Err))
		}
		c.views.result(r)
	}
}

// subscriptionFailed reports a subscription that the server has refused. It does nothing if err is
// nil.
func (c *Client) subscriptionFailed(filter string, err error) {
	if err = refusedError(err); err != nil {
		report(c, lossSubscription, about(MessageID{}, err, slog.String("filter", filter)), SubscriptionFailed{Filter: filter, Err: err})
	}
}

// viewObserver reports the losses of watches and mirrors.
type viewObserver struct{ *Client }

func (o viewObserver) markerFailed(topic string, err error) {
	report(o.Client, lossMarker, about(MessageID{}, err, slog.String("topic", topic)), MarkerFailed{Topic: topic, Err: err})
}

func (o viewObserver) viewFull(filter, topic string, n int) {
	o.reports.viewRefused.Add(uint64(n))
	report(o.Client, lossViewFull, about(MessageID{}, nil, slog.String("filter", filter), slog.String("topic", topic), slog.Int("refused", n)),
		ViewFull{Filter: filter, Topic: topic, Refused: n})
}

func (o viewObserver) changesMissed(filter string, n int) {
	o.reports.changesMissed.Add(uint64(n))
	report(o.Client, lossChanges, about(MessageID{}, nil, slog.String("filter", filter), slog.Int("missed", n)), ChangesMissed{Filter: filter, Missed: n})
}

// logFindings logs what Lint found.
func (c *Client) logFindings() {
	for _, f := range c.reports.findings {
		c.logFinding(f)
	}
}

func (c *Client) logFinding(f Finding) {
	level := slog.LevelWarn
	if f.Severity == Note {
		level = slog.LevelInfo
	}
	c.log(level, "configuration: "+f.Problem, slog.String("finding", f.Name), slog.String("severity", f.Severity.String()),
		slog.String("fields", strings.Join(f.Fields, ",")), slog.String("fix", f.Fix))
}

// checkShared reports, once, that Ordering does not apply to a filter.
func (c *Client) checkShared(filter string) {
	if c.cfg.Receiving.Ordering != nil && isShared(filter) {
		c.reports.shared.Do(func() { c.logFinding(sharedUnordered) })
	}
}

// messageEnded counts and reports the end of a stored message.
func (c *Client) messageEnded(e outbox.End) {
	id := MessageID(e.ID)
	d := about(id, e.Err)
	if e.Topic != "" {
		d.attrs[0] = slog.String("topic", e.Topic)
	}
	switch {
	case e.State == outbox.Expired:
		report(c, lossExpired, d, MessageExpired{ID: id, Topic: e.Topic})
	case e.Cause == outbox.StoreFull:
		d.attrs[1] = slog.String("priority", e.Priority.String())
		if e.Limit != "" {
			d.attrs[2] = slog.String("limit", e.Limit)
		}
		report(c, fullKind(e.Priority), d, MessageDropped{ID: id, Topic: e.Topic, Priority: e.Priority, Limit: e.Limit, Cause: errors.Unwrap(e.Err)})
	case e.Cause == outbox.Replaced:
		report(c, lossConflated, d, MessageDropped{ID: id, Topic: e.Topic, Priority: e.Priority, Cause: errors.Unwrap(e.Err)})
	case e.Cause == outbox.SessionLost:
		report(c, lossWithSession, d, MessageRefused{ID: id, Topic: e.Topic, Err: e.Err})
	case e.State == outbox.DeadLettered:
		report(c, lossDeadLetter, d, MessageRefused{ID: id, Topic: e.Topic, Err: e.Err, DeadLetter: true})
		c.deadLettersDropped()
	case e.State == outbox.Refused:
		report(c, lossRefused, d, MessageRefused{ID: id, Topic: e.Topic, Err: e.Err})
	}
}

// deadLettersDropped reports dead letters that the store has discarded for newer ones.
func (c *Client) deadLettersDropped() {
	dropped := c.store.Stats().DeadLettersDropped
	if n := int64(dropped) - int64(c.reports.deadLettersDropped.Swap(dropped)); n > 0 { // else another call has reported them
		report(c, lossDeadLetterDropped, about(MessageID{}, nil, slog.Int64("dropped", n)), DeadLetterDropped{Dropped: int(n)})
	}
}

// messageDeferred reports a message that the server refused for now.
func (c *Client) messageDeferred(e MessageDeferred) {
	report(c, lossDeferred, about(e.ID, e.Err, slog.String("topic", e.Topic),
		slog.Int("attempts", e.Attempts), slog.Time("until", e.Until)), e)
}

// abandoned reports messages that end with the client: pending ones of a store in memory, and
// unhandled received ones if the session ends.
func (c *Client) abandoned(unhandled int) {
	e := MessagesAbandoned{}
	if c.cfg.Dir == "" && c.cfg.Store.Custom == nil {
		e.Pending = int(c.store.Stats().Pending)
	}
	if c.identity.Temporary() || c.cfg.Session.Expiry == NoSession || c.life.disconnect.SessionExpiry == NoSession {
		e.Received = unhandled
	}
	if e != (MessagesAbandoned{}) {
		c.reports.abandoned.Add(uint64(e.Pending + e.Received))
		report(c, lossAbandoned, about(MessageID{}, nil, slog.Int("pending", e.Pending), slog.Int("received", e.Received)), e)
	}
}

// unnumbered returns the function that reports a message without a number, or nil if Publish
// refuses it.
func unnumbered(c *Client) func(id [16]byte, topic string) {
	if c.cfg.Publishing.RejectUnnumbered {
		return nil
	}
	return func(id [16]byte, topic string) {
		report(c, lossUnnumbered, about(id, nil, slog.String("topic", topic)), MessageUnnumbered{ID: id, Topic: topic})
	}
}

// refusedForNow reports a message that the server refuses for now.
func (c *Client) refusedForNow(d outbox.Delay) {
	e := MessageDeferred{ID: MessageID(d.ID), Topic: d.Topic, Code: d.Code, Attempts: d.Attempts, Until: time.Now().Add(d.For)}
	e.Err = &RefusedError{Code: d.Code, Reason: d.Text}
	if d.Alone {
		e.Err = &PoisonError{ID: e.ID, Attempts: d.Attempts, Code: d.Code, Deferred: true}
	}
	c.messageDeferred(e)
}
