package client

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/slow"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
)

// receiver is the receive path of a client. The session calls receive with each message. Package
// inbox then routes, deduplicates and orders the message, calls handle, and acknowledges it.
type receiver struct{ *Client }

// receive takes a message from the session. It runs on the goroutine that reads the connection. The
// parameter in is nil at QoS 0. The parameter v is valid only during the call.
func (c receiver) receive(in *session.Inbound, topic string, v wire.PublishView) {
	var room [8]uint32
	ids := retained.SplitIDs(v.SubscriptionIDs(room[:0]))
	p := v.DecodeRest(topic)
	m := received(&p)
	from, only, seen := c.views.observe(m, ids)
	only = c.statusReceived(m, from) || only
	if seen && !only {
		var room [4]*route
		routes, _ := c.router.match(topic, from, room[:0])
		only = len(routes) == 0
	}
	if only {
		c.inbox.Consume(in, wire.ReasonSuccess, "")
		return
	}
	m.SubscriptionIDs, m.ReceivedAt = from.visible(), time.Now()
	if in != nil {
		m.ReceivedAt = in.Received
	}
	if m.PayloadIsUTF8 && !utf8.Valid(m.Payload) {
		c.inbox.Consume(in, wire.ReasonPayloadFormatInvalid, "payload is not valid UTF-8")
		report(c.Client, lossPayload, aboutMessage(m, nil), PayloadInvalid{Message: m})
		return
	}
	c.inbox.Push(inbox.Item[inbound]{In: in, Message: inbound{Message: m, from: from}, OrderKey: c.orderingKey(m), Size: inbox.Size(topic, v)})
}

// route returns one inbound for each handler of a message. The handlers get the RETAIN flag that
// their subscriptions request, so the copies of the Message can differ.
//
// later is true if the server sent the message for a subscription of an earlier process, and this
// subscription has no handler yet. The message then waits for the handler, unless final is set.
func (c receiver) route(m inbound, final bool, targets []inbound) (list []inbound, later bool) {
	var room [4]*route
	routes, named := c.router.match(m.Topic, m.from, room[:0])
	switch {
	case m.only != "":
		routes = append(room[:0], c.router.get(m.only))
	case len(routes) == 0:
		routes = append(routes, c.router.fallback())
	case !named && c.router.undeclared(m.from):
		c.undeclared(m.Topic)
		if !final {
			return targets, true
		}
	}
	if routes[0] == nil {
		return targets, false
	}
	any := m.Retain && slices.ContainsFunc(routes, func(to *route) bool { return to.Value.asPublished() })
	for i, to := range routes {
		one := m
		one.to = to
		retain := m.Retain
		if retain {
			published := any
			if named && to.Value.want != nil {
				published = to.Value.asPublished()
			}
			retain = published || !named || !m.from.raised
			one.stored = retain && !published
		}
		if i > 0 || retain != m.Retain {
			twin := *m.Message
			twin.Retain = retain
			one.Message = &twin
		}
		targets = append(targets, one)
	}
	return targets, false
}

// handle calls the handler of a message. On a retry, it calls the handler that is declared now.
func (c receiver) handle(ctx context.Context, d *inbox.Delivery[inbound]) error {
	m := d.Message
	m.OutOfOrder = d.OutOfOrder
	if m.Claim = d.Claim; d.Attempt > 1 {
		if now := c.router.get(m.to.Filter); now != nil {
			m.to = now
		}
	}
	return m.to.Value.Handle(ctx, m.Message)
}

// expired reports whether a message has expired and must therefore not be handled.
func (c receiver) expired(m inbound) bool {
	return m.Expiry > 0 && !c.cfg.Receiving.HandleExpired && time.Now().After(m.ExpiresAt())
}

// maxPanics is the number of consecutive panics after which a message is set aside.
const maxPanics = 10

// newInbox returns the inbox of a client whose session exists.
func (c receiver) newInbox() *inbox.Inbox[inbound] {
	r := &c.cfg.Receiving
	maxBytes := max(int64(r.MaxBufferedBytes), int64(c.cfg.Connection.MaximumPacketSize))
	cfg := inbox.Config[inbound]{
		Session: c.session, Observer: inboxObserver(c), Guard: &c.guard, Workers: r.Concurrency,
		Route: c.route, Declared: c.router.declared.Load, Handle: c.handle, Expired: c.expired,
		Verdict: verdict, Attempts: r.HandlerAttempts, Panics: maxPanics, Backoff: r.HandlerBackoff.Delay, SlowAfter: r.SlowHandlerAfter,
		Grace: max(r.UnhandledGrace, 0), MaxWaiting: max(int(r.ReceiveMaximum)/2, 1),
		QoS0Queue: r.QoS0QueueSize, StallTimeout: c.cfg.Connection.AckTimeout,
		MaxBytes: maxBytes, Full: &InboundFullError{Limit: maxBytes},
		Dedupe: r.Dedupe, DedupeKey: c.dedupeKey, Owner: c.cfg.ClientID,
	}
	if c.aside != nil {
		cfg.Aside = c.aside
	}
	if r.Ordering == nil {
		return c.connectAside(inbox.New(cfg))
	}
	o := r.Ordering.Options
	o.MaxIDs = cmp.Or(o.MaxIDs, max(1024, int(r.ReceiveMaximum))) // the number of messages that can be redelivered at once
	cfg.Ordering, cfg.Position, cfg.Restored = &o, c.position, restorePoints(r.Ordering.Restore)
	return c.connectAside(inbox.New(cfg))
}

// connectAside connects the list of set-aside messages to the inbox and the client.
func (c receiver) connectAside(b *inbox.Inbox[inbound]) *inbox.Inbox[inbound] {
	if a := c.aside; a != nil {
		a.inbox, a.ending, a.orderingKey, a.failed = b, c.life.ending, c.orderingKey, c.storeFailed
	}
	return b
}

// orderingKey returns the ordering key of a message.
func (c receiver) orderingKey(m *Message) string {
	if c.cfg.Receiving.OrderingKey == nil {
		return m.Topic
	}
	return short(c.keyOf(c.cfg.Receiving.OrderingKey, m, m.Topic, c.guard.Call)) // runs on the goroutine that reads the connection
}

// dedupeKey returns the key under which m is claimed in the cache: the key of the application, NUL,
// and the filter of the handler. The filter is needed because several handlers may receive copies
// of a message. Filters contain no NUL. The key is empty if m is not deduplicated.
func (c receiver) dedupeKey(m inbound) (string, error) {
	var key string
	var err error
	if f := c.cfg.Receiving.DedupeKey; f == nil {
		key, err = KeyByID(m.Message)
	} else {
		key = c.keyOf(func(m *Message) string { k, e := f(m); err = callback.Probe(e); return k }, m.Message, "", callback.Try)
	}
	retained := m.stored && (m.to.Value.want == nil || !m.to.Value.want.DedupeRetained) // the state of its topic, not a duplicate
	switch {
	case errors.As(err, new(*Refusal)):
		return "", err
	case err != nil:
		return "", Permanent(err)
	case key == NoDedupe:
		return "", nil
	case retained, key == "":
		if m.QoS > 0 {
			report(c.Client, lossNoKey, about(m.ID, nil, slog.String("topic", m.Topic), slog.Bool("retained", retained)), NotDeduplicated{Message: m.Message, Retained: retained})
		}
		return "", nil
	}
	return short(key + "\x00" + m.to.Filter), nil
}

// short returns a key, or its hash if it is longer than 1,024 bytes.
func short(key string) string {
	if len(key) <= maxKey {
		return key
	}
	return dedupe.Hash([]byte(key))
}

// position returns the stream and the sequence number of m. If seq is 0, m is not ordered.
func (c receiver) position(m inbound) (stream string, epoch, seq uint64, id ordering.ID) {
	if m.stored {
		return "", 0, 0, id
	}
	return m.position()
}

// keyOf calls f, a function of the application that returns a key. If f panics, keyOf reports the
// panic and returns the value of instead.
func (c receiver) keyOf(f func(*Message) string, m *Message, instead string, try func(func()) *callback.Panic) (key string) {
	if p := try(func() { key = f(m) }); p != nil {
		err := (*PanicError)(p)
		report(c.Client, lossPanic, aboutMessage(m, err), HandlerFailed{Message: m, Err: err})
		return instead
	}
	return key
}

// inboxObserver converts reports of the inbox into events and log lines.
type inboxObserver struct{ *Client }

func (o inboxObserver) HandlerFailed(m inbound, f inbox.Failure) {
	err := panicError(f.Err)
	kind, d := lossHandler, about(m.ID, err, slog.String("topic", m.Topic), slog.Int("attempt", f.Attempt), slog.Time("since", f.Since), slog.Int("waiting", f.Behind))
	final := f.Result != inbox.Retried
	if p := (*PanicError)(nil); errors.As(err, &p) {
		if kind = lossPanic; final { // report the last attempt both as a panic and as a failure
			o.reports.losses.Add(int(lossPanic), d)
		}
	}
	e := HandlerFailed{Message: m.Message, Err: err, Attempt: f.Attempt, Since: f.Since, Waiting: f.Behind}
	switch f.Result {
	case inbox.SetAside:
		report(o.Client, lossSetAside, d, MessageSetAside{Message: m.Message, Filter: m.to.Filter, Err: err, Attempts: f.Attempt})
		return
	case inbox.Refused, inbox.Dropped:
		kind, e.Refused = lossReceived, true
	}
	report(o.Client, kind, d, e)
}

func (o inboxObserver) Unhandled(m inbound, r inbox.Result, err error) {
	d := aboutMessage(m.Message, err)
	switch r {
	case inbox.Waiting:
		report(o.Client, lossWaiting, d, Unhandled{Message: m.Message, Waiting: true})
	case inbox.SetAside:
		report(o.Client, lossSetAside, d, MessageSetAside{Message: m.Message})
	default:
		report(o.Client, lossUnhandled, d, Unhandled{Message: m.Message})
	}
}

func (o inboxObserver) Expired(m inbound) {
	report(o.Client, lossReceivedExpired, aboutMessage(m.Message, nil), ReceivedExpired{Message: m.Message})
}

func (o inboxObserver) HeldUp(h inbox.HeldUp) {
	report(o.Client, lossBlocked, about(MessageID{}, nil, slog.String("topic", h.Topic), slog.Time("since", h.Since), slog.Int("attempts", h.Attempts), slog.Int("waiting", h.Behind)),
		ReceiveBlocked{Topic: h.Topic, Since: h.Since, Attempts: h.Attempts, Waiting: h.Behind})
}

func (o inboxObserver) Slow(s slow.Call[inbound]) {
	m := s.Message
	report(o.Client, lossSlow, about(m.ID, nil, slog.String("topic", m.Topic), slog.Duration("duration", s.For.Round(time.Millisecond)), slog.Int("waiting", s.Waiting)),
		HandlerSlow{Topic: m.Topic, Duration: s.For, Waiting: s.Waiting})
}

// aboutNumber returns the log details for a message with a sequence number.
func aboutNumber(m *Message) lossDetail {
	return about(m.ID, nil, slog.String("topic", m.Topic), slog.String("publisher", m.Origin.Publisher),
		slog.Uint64("epoch", m.Origin.Epoch), slog.Uint64("number", m.Origin.Seq))
}

func (o inboxObserver) LateDropped(m inbound) {
	report(o.Client, lossLate, aboutNumber(m.Message), LateDropped{Message: m.Message})
}

func (o inboxObserver) NumberReused(m inbound) {
	m.OutOfOrder = true // set here, because the event precedes the handler
	report(o.Client, lossReused, aboutNumber(m.Message), NumberReused{Message: m.Message})
}

func (o inboxObserver) NumberRepeated(m inbound) {
	report(o.Client, lossRepeated, aboutNumber(m.Message), NumberRepeated{Message: m.Message})
}

func (o inboxObserver) Gap(g ordering.Gap) {
	key := strings.Split(g.Key, "\x00")
	publisher, topic := key[0], key[1]
	report(o.Client, lossGap, about(MessageID{}, nil, slog.String("topic", topic), slog.String("publisher", publisher), slog.Uint64("from", g.From), slog.Uint64("to", g.To)),
		Gap{Publisher: publisher, Topic: topic, Epoch: g.Epoch, From: g.From, To: g.To})
}

func (o inboxObserver) CallbackFailed(err error) {
	if p := (*callback.Panic)(nil); errors.As(err, &p) {
		o.panicked("Ordering", p)
	}
}

func (o inboxObserver) QoS0Dropped(m inbound) {
	report(o.Client, lossQoS0, aboutMessage(m.Message, nil), QoS0Dropped{Message: m.Message})
}

func (o inboxObserver) Duplicate(m inbound) {
	o.reports.losses.Add(int(lossDuplicate), aboutMessage(m.Message, nil))
}

func (o inboxObserver) StoreFailed(err error) { receivingFailed(o.Client, panicError(err)) }

func (o inboxObserver) Stalled(bytes int64, leaving bool) {
	kind := lossStalled
	if leaving {
		kind = lossLeft
	}
	report(o.Client, kind, about(MessageID{}, nil, slog.Int64("bytes", bytes)), ReadStalled{Bytes: bytes, Leaving: leaving})
}
