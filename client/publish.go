package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Publish accepts a message. For QoS 1 and 2 it returns when the message is in
// the store, durable under its sync policy, connected or not; from there on it
// is delivered through everything that a store survives, and the Delivery
// tells what became of it. A QoS 0 message is written to the connection or
// fails with ErrNotConnected.
//
// What m refers to is copied. Errors: *FieldError for what MQTT cannot
// carry, persistence.ErrFull when the store's limits are reached (Config.Store.WhenFull
// has other ways), persistence.ErrPacketTooLarge,
// *reliability.OpenError at QoS 0 while the breaker is open, ErrClosed,
// ErrDraining. On an error nothing was accepted, unless the store failed while
// writing: then the message may turn up after the store is opened again.
func (c *Client) Publish(ctx context.Context, m Message) (*Delivery, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	if err := c.accepts(ctx); err != nil {
		return nil, err
	}
	defer c.published()
	if m.QoS > AtMostOnce && m.ID.IsZero() {
		m.ID = NewMessageID()
	}
	p := m.packet(nil)
	if err := p.Check(); err != nil {
		return nil, err
	}
	if m.Expiry < 0 {
		return nil, &FieldError{Field: "Expiry", Problem: "is negative; use 0 for ever or a positive duration"}
	}
	if m.Priority > Urgent {
		return nil, &FieldError{Field: "Priority", Problem: "is none of the three; use Normal, High or Urgent"}
	}
	if m.OnSessionLost > FailInFlight {
		return nil, &FieldError{Field: "OnSessionLost", Problem: "is none of the policies; use AsConfigured, Republish or FailInFlight"}
	}
	if m.QoS == AtMostOnce {
		return c.publishNow(&m, &p)
	}
	ticket, d, err := c.admit(ctx, &m, &p)
	if d != nil {
		return d, nil
	}
	if err == nil {
		var dropped error
		d, dropped = c.pending.add(ticket.Seq, &m)
		if err = c.store.Wait(ticket); err != nil {
			c.pending.forget(ticket.Seq)
		} else if dropped != nil {
			c.drop(d, m.ID, dropped)
		}
	}
	switch {
	case errors.Is(err, persistence.ErrFailed):
		c.storeFailed(err)
	case errors.Is(err, persistence.ErrClosed) && c.ending.Err() != nil: // by us, meanwhile
		err = context.Cause(c.ending)
	}
	if err != nil {
		return nil, err
	}
	c.expires(&m)
	c.wakeDrainer()
	return d, nil
}

func (c *Client) accepts(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state >= closing && c.err != nil:
		return c.err
	case c.state >= closing:
		return ErrClosed
	case c.state == draining:
		return ErrDraining
	}
	c.publishing.Add(1)
	return nil
}

// published ends what accepts began.
func (c *Client) published() {
	if c.publishing.Add(-1) == 0 {
		c.drained()
	}
}

// enqueue stamps, encodes and stores p. The number of a sequenced message is
// taken and stored in one step, so that the order of the numbers is the order
// of the log, and a number is only used up by a message that is in it.
func (c *Client) enqueue(m *Message, p *wire.Publish) (ticket persistence.Ticket, err error) {
	stored := persistence.Message{ID: m.ID, Priority: m.Priority, OnSessionLost: m.OnSessionLost}
	if m.Expiry > 0 {
		stored.Accepted = c.store.Now()
		stored.Expires = stored.Accepted.Add(m.Expiry)
	}
	if m.Conflate {
		c.droppable.Store(true)
		stored.Key = conflationKey(m.Topic)
	}
	b := encodeBuffers.Get().(*encodeBuffer)
	defer encodeBuffers.Put(b)
	put := func(o Origin) error {
		b.stamps = stamps(b.stamps[:0], m.ID, o)
		p.Extra = b.stamps
		b.image = wire.AppendPublish(b.image[:0], p)
		stored.Packet = b.image
		ticket, err = c.store.Enqueue(&stored)
		return err
	}
	if !c.cfg.Publishing.Sequenced || m.Conflate {
		err = put(Origin{})
		return ticket, err
	}
	stream := streamName(m)
	if stored.Stream, err = c.streams.id(c.store, c.seq, stream); err != nil {
		return ticket, err
	}
	err = c.seq.Next(stream, func(seq uint64) error {
		stored.StreamSeq = seq
		return put(Origin{Publisher: c.publishers[m.Priority], Epoch: c.store.Epoch(), Seq: seq})
	})
	return ticket, err
}

// conflationKey is the topic, or what stands for one that is too long for a key.
func conflationKey(topic string) string {
	if len(topic) <= maxKey {
		return topic
	}
	sum := sha256.Sum256([]byte(topic))
	return string(sum[:])
}

// maxKey is the longest key of a store, in bytes.
const maxKey = 1024

// streamSuffixes tell the sequences of one topic apart, by priority. On the wire
// they follow the publisher's name, so that receivers see several publishers.
var streamSuffixes = [persistence.Priorities]string{"", "+high", "+urgent"}

// streamName is under which name the store keeps a sequence. No topic has U+0000
// in it.
func streamName(m *Message) string {
	if m.Priority == Normal {
		return m.Topic
	}
	return m.Topic + "\x00" + streamSuffixes[m.Priority]
}

// encodeBuffer is what encoding a message needs and gives back.
type encodeBuffer struct{ stamps, image []byte }

var encodeBuffers = sync.Pool{New: func() any { return new(encodeBuffer) }}

// publishNow writes a QoS 0 message to the connection.
func (c *Client) publishNow(m *Message, p *wire.Publish) (*Delivery, error) {
	up := c.current()
	if up == nil {
		return nil, ErrNotConnected
	}
	p.Extra = stamps(nil, m.ID, Origin{})
	if err := fits(p.Size(), p.QoS, p.Retain, up.Gen.Limits); err != nil {
		return nil, err
	}
	// That a write succeeds says nothing about the server, so it is no trial.
	if wait := c.breaker.RetryAfter(); wait > 0 {
		return nil, &reliability.OpenError{RetryAfter: wait}
	}
	if err := up.Gen.Publish(func(dst []byte) []byte { return wire.AppendPublish(dst, p) }); err != nil {
		return nil, ErrNotConnected
	}
	d := &Delivery{ID: m.ID}
	d.resolve(Outcome{State: Acked})
	return d, nil
}

// streamIDs remembers the store's number of each sequence.
type streamIDs struct {
	mu  sync.Mutex
	ids map[string]uint32
}

// id returns the store's number of a sequence, and restores its counter on first
// use.
func (s *streamIDs) id(store persistence.Store, seq *ordering.Sequencer, topic string) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.ids[topic]
	if ok {
		return id, nil
	}
	id, last, err := store.Stream(topic)
	if err != nil {
		return 0, err
	}
	seq.Restore(topic, last)
	s.ids[topic] = id
	return id, nil
}

// pendingMessages are the messages whose outcome is open: all that this process
// accepted, and those of an earlier one that were sent.
type pendingMessages struct {
	mu      sync.Mutex
	timeout time.Duration
	before  uint64 // the last sequence of an earlier process
	open    map[uint64]pendingMessage
	newest  map[string]uint64 // of each topic, among those with Conflate
	swept   int               // how many the last sweep of newest left
	stale   atomic.Bool       // some message was stale
	ended   error             // set when the client ends: what is added later is abandoned at once
}

type pendingMessage struct {
	id       MessageID // zero: not known
	delivery *Delivery
	report   func(error) // to the breaker, once it was sent
	// early: it was committed, sent and perhaps settled by others before the
	// goroutine that publishes it came to add it.
	early, settled bool
	dropped        error // early: why a policy has dropped it
	stale          bool  // a newer one has taken its place
}

func (p *pendingMessages) init(timeout time.Duration, before uint64) {
	p.timeout, p.before, p.open, p.newest = timeout, before, map[uint64]pendingMessage{}, map[string]uint64{}
}

// add returns the Delivery of a message that was accepted, and why it was dropped
// if nobody could be told yet.
func (p *pendingMessages) add(seq uint64, accepted *Message) (d *Delivery, dropped error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.open[seq]
	if accepted.Conflate {
		m.stale = p.replace(accepted.Topic, seq)
	}
	if m.delivery == nil {
		m.delivery = &Delivery{timeout: p.timeout}
	}
	m.id, m.delivery.ID = accepted.ID, accepted.ID
	switch m.early = false; {
	case m.settled:
		delete(p.open, seq)
	case p.ended != nil:
		m.delivery.resolve(Outcome{State: Abandoned, Err: p.ended})
	default:
		p.open[seq] = m
	}
	return m.delivery, m.dropped
}

// replace notes the newest message of a topic. The one before is stale, unless the
// store has dropped it: it drops nothing that is marked as sent, and marks go ahead
// of what was. It reports whether seq itself is stale: two were added the other way
// round.
func (p *pendingMessages) replace(topic string, seq uint64) bool {
	before := p.newest[topic]
	if before > seq {
		p.stale.Store(true)
		return true
	}
	p.newest[topic] = seq
	if m, ok := p.open[before]; ok {
		m.stale = true
		p.open[before] = m
		p.stale.Store(true)
	}
	if len(p.newest) >= 2*max(p.swept, 512) {
		for topic, s := range p.newest {
			if _, ok := p.open[s]; !ok && s != seq {
				delete(p.newest, topic)
			}
		}
		p.swept = len(p.newest)
	}
	return false
}

// isStale says whether the place of a message was taken.
func (p *pendingMessages) isStale(seq uint64) bool {
	if !p.stale.Load() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[seq].stale
}

// sent notes that the message is on its way.
func (p *pendingMessages) sent(seq uint64, id MessageID, report func(error)) {
	p.mu.Lock()
	m, ok := p.open[seq]
	if !ok {
		m = pendingMessage{id: id, delivery: &Delivery{ID: id, timeout: p.timeout}, early: seq > p.before}
	}
	m.report = report
	p.open[seq] = m
	p.mu.Unlock()
}

// unsent takes back all that was sent on a connection that is gone: the
// breaker's trials would otherwise wait for answers that cannot come.
func (p *pendingMessages) unsent() {
	p.mu.Lock()
	var reports []func(error)
	for seq, m := range p.open {
		if m.report != nil {
			reports = append(reports, m.report)
			m.report = nil
			p.open[seq] = m
		}
	}
	p.mu.Unlock()
	for _, report := range reports {
		report(errNotTried)
	}
}

// settle takes a message whose outcome is known.
func (p *pendingMessages) settle(seq uint64) pendingMessage {
	m, _ := p.end(seq, nil)
	return m
}

// end takes a message whose outcome is known; dropped is the cause if a policy
// dropped it. It returns false if add will tell of that.
func (p *pendingMessages) end(seq uint64, dropped error) (m pendingMessage, tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.open[seq]
	if !ok { // it was never sent
		m = pendingMessage{delivery: &Delivery{timeout: p.timeout}, early: seq > p.before}
	}
	if !m.early {
		delete(p.open, seq)
		return m, true
	}
	m.settled, m.dropped = true, dropped
	p.open[seq] = m
	return m, dropped == nil
}

// forget drops a message that was not accepted after all.
func (p *pendingMessages) forget(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, seq)
}

// abandon resolves all that is left when the client ends.
func (p *pendingMessages) abandon(err error) {
	p.mu.Lock()
	open := p.open
	p.open = map[uint64]pendingMessage{}
	p.ended = err
	for seq, m := range open {
		if m.settled { // its outcome waits for add
			p.open[seq] = m
		}
	}
	p.mu.Unlock()
	for _, m := range open { // those that are settled keep their outcome
		m.delivery.resolve(Outcome{State: Abandoned, Err: err})
	}
}
