package client

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
)

// The receive path: the session calls receive with each message; package inbox takes it
// through deduplication and order, calls handle, and acknowledges it.

// receive takes over a message that the session has received. It runs on the goroutine
// that reads the connection. in is nil at QoS 0; v is valid only during the call.
func (c *Client) receive(in *session.Inbound, topic string, v wire.PublishView) {
	p := v.Decode(topic)
	internal, byStatus := c.views.observe(&p)
	if c.statusReceived(&p, byStatus) || internal {
		c.inbox.Consume(in)
		return
	}
	m := received(&p)
	c.inbox.Push(inbox.Item[*Message]{In: in, Message: m, OrderKey: c.orderingKey(m), Size: inbox.Size(topic, v)})
}

// handle calls the handlers of a message, in the order in which they were declared.
// When it is called again after an error, it goes on with the handler that failed.
func (c *Client) handle(ctx context.Context, d *inbox.Delivery[*Message]) error {
	m := d.Message
	if d.Claim.Token != 0 {
		m.Claim = d.Claim
	}
	var room [4]*route
	routes, again := d.Rest.([]*route)
	if !again {
		routes = c.router.match(m.Topic, room[:0])
	}
	if len(routes) == 0 {
		return inbox.ErrUnhandled
	}
	done := 0
	defer func() { // also after a panic
		if done < len(routes) {
			d.Rest = slices.Clone(routes[done:])
		}
	}()
	for ; done < len(routes); done++ {
		if err := routes[done].Value.Handle(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// refusal returns the reason code and reason string with which an error of a handler
// refuses the message.
func refusal(err error) (code byte, reason string, refused bool) {
	var r *Refusal
	if !errors.As(err, &r) {
		return 0, "", false
	}
	return r.Code, r.Reason, true
}

// newInbox returns the inbox of a client whose session exists.
func (c *Client) newInbox() *inbox.Inbox[*Message] {
	r := &c.cfg.Receiving
	maxBytes := max(int64(r.MaxBufferedBytes), int64(c.cfg.Connection.MaximumPacketSize))
	cfg := inbox.Config[*Message]{
		Session: c.session, Observer: inboxObserver{c}, Guard: &c.guard,
		Handle: c.handle, Refusal: refusal, Workers: r.Concurrency, Attempts: r.HandlerAttempts, Backoff: r.HandlerBackoff.Delay,
		QoS0Queue: r.QoS0QueueSize, StallTimeout: c.cfg.Connection.AckTimeout,
		MaxBytes: maxBytes, Full: &InboundFullError{Limit: maxBytes},
		Dedupe: r.Dedupe, DedupeKey: c.dedupeKey, Owner: c.cfg.ClientID,
	}
	if r.Ordering == nil {
		return inbox.New(cfg)
	}
	cfg.Ordering, cfg.Position = &r.Ordering.Options, c.position
	b := inbox.New(cfg)
	for _, p := range r.Ordering.Restore {
		b.Restore(p.Topic, streamKey(p.Publisher, p.Topic), p.Epoch, p.Seq)
	}
	return b
}

// orderingKey returns the key of the messages that m is handled in order with.
func (c *Client) orderingKey(m *Message) string {
	if c.cfg.Receiving.OrderingKey == nil {
		return m.Topic
	}
	return c.keyOf(c.cfg.Receiving.OrderingKey, m, m.Topic)
}

// dedupeKey returns what makes m the same message as another; empty: nothing.
func (c *Client) dedupeKey(m *Message) string {
	switch {
	case c.stored(m):
		return ""
	case c.cfg.Receiving.DedupeKey != nil:
		return c.keyOf(c.cfg.Receiving.DedupeKey, m, "")
	case m.ID.IsZero():
		return ""
	}
	return string(m.ID[:])
}

// position returns the stream and number of m; number 0: m is not sequenced.
func (c *Client) position(m *Message) (stream string, epoch, seq uint64) {
	o := m.Origin
	if o.Seq == 0 || c.stored(m) {
		return "", 0, 0
	}
	return streamKey(o.Publisher, m.Topic), o.Epoch, o.Seq
}

// stored reports whether the server sent m, out of its retained messages, for a new
// subscription. Such a message is the state of its topic: it is neither a duplicate nor
// late. With RetainAsPublished the flag does not tell.
func (c *Client) stored(m *Message) bool { return m.Retain && !c.subs.RetainAsPublished() }

// keyOf calls a function of the application that returns a key. A panic is reported, and
// the key is then instead.
func (c *Client) keyOf(f func(*Message) string, m *Message, instead string) (key string) {
	if p := callback.Try(func() { key = f(m) }); p != nil {
		err := (*PanicError)(p)
		report(c, lossPanic, aboutMessage(m, err), HandlerFailed{Message: m, Err: err})
		return instead
	}
	return key
}

// streamKey names the messages of one publisher on one topic. Neither contains NUL.
func streamKey(publisher, topic string) string { return publisher + "\x00" + topic }

// inboxObserver turns what the inbox reports into events and log messages.
type inboxObserver struct{ *Client }

func (o inboxObserver) HandlerFailed(m *Message, err error, refused bool) {
	err = panicError(err)
	kind, d := lossHandler, aboutMessage(m, err)
	if p := (*PanicError)(nil); errors.As(err, &p) {
		if kind = lossPanic; refused { // two lines
			o.reports.losses.Add(int(lossPanic), d)
		}
	}
	if refused {
		kind = lossReceived
	}
	report(o.Client, kind, d, HandlerFailed{Message: m, Err: err, Refused: refused})
}

func (o inboxObserver) Unhandled(m *Message) {
	report(o.Client, lossUnhandled, aboutMessage(m, nil), Unhandled{Message: m})
}

func (o inboxObserver) LateDropped(m *Message) {
	report(o.Client, lossLate, aboutMessage(m, nil), LateDropped{Message: m})
}

func (o inboxObserver) QoS0Dropped(m *Message) {
	report(o.Client, lossQoS0, aboutMessage(m, nil), QoS0Dropped{Message: m})
}

func (o inboxObserver) Duplicate(m *Message) {
	o.reports.losses.Add(int(lossDuplicate), aboutMessage(m, nil))
}

func (o inboxObserver) StoreFailed(err error) { o.storeFailed(panicError(err)) }

func (o inboxObserver) Gap(g ordering.Gap) {
	publisher, topic, _ := strings.Cut(g.Key, "\x00")
	report(o.Client, lossGap, about(MessageID{}, nil, slog.String("topic", topic), slog.String("publisher", publisher), slog.Uint64("from", g.From), slog.Uint64("to", g.To)),
		Gap{Publisher: publisher, Topic: topic, Epoch: g.Epoch, From: g.From, To: g.To})
}

func (o inboxObserver) CallbackFailed(err error) {
	if p := (*callback.Panic)(nil); errors.As(err, &p) {
		o.panicked("Ordering", p)
	}
}

func (o inboxObserver) Stalled(bytes int64, leaving bool) {
	kind := lossStalled
	if leaving {
		kind = lossLeft
	}
	report(o.Client, kind, about(MessageID{}, nil, slog.Int64("bytes", bytes)), ReadStalled{Bytes: bytes, Leaving: leaving})
}
