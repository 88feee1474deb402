package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Publish accepts a message for delivery. m may be changed after it returns.
//
// At QoS 1 and 2, Publish returns when the message is in the store and as durable as the store's
// sync policy requires. Publish also accepts such messages while the client is offline. The client
// then delivers the message, across reconnects and restarts. The Delivery reports the outcome.
//
// Publish passes a QoS 0 message to the connection and does not store it. Without a connection, the
// error is ErrNotConnected. The connection writes the message at once. If another write is in
// progress, the connection writes the message after it, together with others. If the connection
// ends first, the message is lost, and QoS0Lost reports the loss. Publish blocks while 64 KiB wait
// to be written.
//
// Publish returns a *FieldError if the message is invalid in MQTT, has a reserved user property, or
// has an Origin (see Message.Forward). At a limit of the store, Publish returns persistence.ErrFull
// (see Config.Store.WhenFull). If the packet is too large, it returns
// persistence.ErrPacketTooLarge. At QoS 2, it returns a *RefusedError if the server is known to
// support at most QoS 1 (see PublishingConfig.Refusals). At QoS 0, it returns a
// *reliability.OpenError while the circuit breaker is open. Other errors are ErrClosed,
// ErrDraining, and an error that wraps the cause of ctx or of Start's context.
//
// After these errors, the message was not accepted. After an *OutcomeUnknownError, this is not
// certain. Publish returns an *OutcomeUnknownError if the store fails during the write. It also
// does so if the disk does not answer before ctx ends or within Store.Options.WriteTimeout (30 s),
// which also applies with context.Background(). The message may be stored later, and then counts as
// accepted. The Delivery in the error reports its outcome.
//
// Do not publish with a context that a signal ends: a signal during the write leads to an
// *OutcomeUnknownError. Use context.Background() or a context with a timeout.
func (c *Client) Publish(ctx context.Context, m Message) (*Delivery, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	if ctx.Err() != nil {
		return nil, publishError(context.Cause(ctx))
	}
	if err := c.outbox.Refused(); err != nil { // after Drain or Close
		return nil, publishError(err)
	}
	if m.QoS > AtMostOnce && m.ID.IsZero() {
		m.ID = NewMessageID()
	}
	p := m.packet()
	if err := m.check(&p); err != nil {
		return nil, err
	}
	if m.QoS == AtMostOnce {
		return c.publishNow(ctx, &m, &p)
	}
	if err := c.checkQoS(&m); err != nil {
		return nil, err
	}
	draft := drafts.Get().(*draft)
	defer draft.release()
	draft.fill(c, &m, &p)
	d := &Delivery{ID: m.ID, timeout: c.cfg.Publishing.WaitTimeout}
	err := c.outbox.Add(ctx, &draft.Draft, &d.waiter)
	if unknown := (*outbox.UnknownError)(nil); errors.As(err, &unknown) {
		return nil, &OutcomeUnknownError{Delivery: d, Err: unknown.Err}
	}
	if err != nil {
		if ctx.Err() != nil || c.life.ending.Err() != nil {
			err = publishError(err)
		}
		return nil, err
	}
	return d, nil
}

// publishError adds the failed operation to the cause of a context, which can have any text.
func publishError(err error) error {
	if strings.HasPrefix(fmt.Sprint(err), "client: ") { // Sprint recovers a panic of the cause
		return err
	}
	return fmt.Errorf("client: publish: %w", err)
}

// check returns a *FieldError if MQTT cannot carry m, or if a setting of m is invalid or reserved.
func (m *Message) check(p *wire.Publish) error {
	if err := p.Check(); err != nil {
		return fieldError(err)
	}
	switch {
	case m.Expiry < 0:
		return &FieldError{Field: "Expiry", Problem: "is negative; use 0 for no expiry, or a positive duration"}
	case m.Priority > Urgent:
		return &FieldError{Field: "Priority", Problem: "does not exist; use Normal, High or Urgent"}
	case m.OnSessionLost > FailInFlight:
		return &FieldError{Field: "OnSessionLost", Problem: "does not exist; use AsConfigured, Republish or FailInFlight"}
	}
	return m.checkReserved()
}

// checkQoS returns an error if the connected server does not support the QoS of m and no
// RefusalRule lowers it.
func (c *Client) checkQoS(m *Message) error {
	if m.QoS < ExactlyOnce {
		return nil
	}
	up := c.link.Current()
	if up == nil || byte(m.QoS) <= up.Gen.Limits.MaximumQoS || c.outbox.LowersQoS(m.Topic) {
		return nil
	}
	return limitError(wire.ReasonQoSNotSupported)
}

// publishNow hands a QoS 0 message to the connection.
func (c *Client) publishNow(ctx context.Context, m *Message, p *wire.Publish) (*Delivery, error) {
	up := c.link.Current()
	if up == nil {
		return nil, notConnected(c.life.phase.get().Err)
	}
	draft := drafts.Get().(*draft)
	defer draft.release()
	draft.identity = identity(draft.identity[:0], m.ID, Origin{})
	draft.packet = *p
	draft.packet.Extra = draft.identity
	if reason := up.Gen.Limits.Check(draft.packet.Size(), p.QoS, p.Retain); reason != 0 {
		return nil, limitError(reason)
	}
	// A successful write says nothing about the server, so it is not a trial of the breaker.
	if wait := c.breaker.RetryAfter(); wait > 0 {
		return nil, &reliability.OpenError{RetryAfter: wait}
	}
	switch err := up.Post(ctx, up.Gen.Encoder(draft.append)); {
	case err == nil:
	case ctx.Err() != nil:
		return nil, publishError(context.Cause(ctx))
	default:
		return nil, notConnected(c.life.phase.get().Err)
	}
	if m.ID.IsZero() {
		return qos0, nil
	}
	d := &Delivery{ID: m.ID}
	d.waiter.Resolve(outbox.Result{State: outbox.Acked})
	return d, nil
}

// qos0 is the Delivery of all QoS 0 messages without an ID.
var qos0 = func() *Delivery {
	d := new(Delivery)
	d.waiter.Resolve(outbox.Result{State: outbox.Acked})
	d.Done() // create the channel here, so that all bubbles of testing/synctest can use it
	return d
}()

// rules returns the rules for refused messages.
func (p *PublishingConfig) rules() (list []deferral.Rule) {
	for _, r := range p.Refusals {
		if r.Action == LowerQoS {
			r.Codes = []byte{wire.ReasonQoSNotSupported}
		}
		list = append(list, deferral.Rule{Filter: r.Filter, Codes: r.Codes, Action: deferral.Action(r.Action), Attempts: r.MaxAttempts, For: r.MaxTime})
	}
	return list
}

// draft is a message that Publish is adding to the outbox. Drafts are reused.
type draft struct {
	outbox.Draft
	packet   wire.Publish
	origin   Origin                  // without Seq
	identity []byte                  // encoded properties that identify the message
	append   func(dst []byte) []byte // appends the packet of a QoS 0 message
}

var drafts = sync.Pool{New: func() any {
	d := new(draft)
	d.Encode = d.encode
	d.append = func(dst []byte) []byte { return wire.AppendPublish(dst, &d.packet) }
	return d
}}

func (d *draft) fill(c *Client, m *Message, p *wire.Publish) {
	d.packet = *p
	d.Message = persistence.Message{ID: m.ID, Priority: m.Priority, OnSessionLost: m.OnSessionLost, Packet: d.Message.Packet}
	d.Topic, d.Expiry, d.StreamName, d.Block = m.Topic, m.Expiry, "", m.Block
	switch {
	case m.Conflate:
		d.Key = conflationKey(m.Topic)
	case c.cfg.Publishing.numbers(m.Topic):
		d.StreamName = streamName(m)
		d.origin = Origin{Publisher: c.cfg.Publishing.Publisher + streamSuffixes[m.Priority], Epoch: c.store.Epoch()}
	}
}

// encode appends the PUBLISH. number is the message's sequence number in its stream.
func (d *draft) encode(dst []byte, number uint64) []byte {
	d.origin.Seq = number
	d.identity = identity(d.identity[:0], d.ID, d.origin)
	d.packet.Extra = d.identity
	return wire.AppendPublish(dst, &d.packet)
}

// release returns d to the pool, without references to the application's memory.
func (d *draft) release() {
	d.packet, d.Topic = wire.Publish{}, ""
	drafts.Put(d)
}

// numbers reports whether messages on a topic are numbered.
func (p *PublishingConfig) numbers(topic string) bool {
	return p.Sequenced && !slices.ContainsFunc(p.Unsequenced, func(filter string) bool { return wire.Match(filter, topic) })
}

// maxKey is the longest key, and the longest name of a stream, in a store.
const maxKey = 1024

// conflationKey returns the topic, or its hash if it is longer than a key in the store can be.
func conflationKey(topic string) string {
	if len(topic) <= maxKey {
		return topic
	}
	sum := sha256.Sum256([]byte(topic))
	return string(sum[:])
}

// streamName returns the name of a message's stream in the store. It is the topic. For priorities
// above normal, U+0000 and a suffix follow. If the name is too long, streamName returns U+0000 and
// a hash instead. No topic contains U+0000.
func streamName(m *Message) string {
	name := m.Topic
	if m.Priority != Normal {
		name += "\x00" + streamSuffixes[m.Priority]
	}
	if len(name) > maxKey {
		sum := sha256.Sum256([]byte(name))
		name = "\x00" + string(sum[:])
	}
	return name
}
