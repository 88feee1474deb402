package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/cure"
	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

const batchBytes = 32 << 10 // maximum size of a batch for the connection, in bytes

// This file has the checks that the send loop makes before it sends a message.

// begin prepares for a new connection. It offers PUBRELs at once.
func (o *Outbox) begin(g *session.Generation) {
	o.open.connectionEnded()
	if lost := o.reset.Swap(false); lost || !g.Present { // messages sent in the lost session can expire now
		o.deferred.SessionLost(time.Now())
		if o.cursor.cure.Lost() { // messages refused because of stale identifiers may succeed now
			o.window.Open()
			o.deferred.Due(time.Now(), cure.Helps, true)
		}
		o.unpurged = false
		o.expiry.by(0)
		o.Wake()
	}
	if o.adopted.Swap(false) && g.Present {
		o.cursor.cure.Unknown()
	}
	o.cursor.begin(g, o.cfg.Store, o.deferred)
	o.sent.begin(o.cfg.Store, g.Present)
	if len(o.cursor.offered) > 0 && o.cursor.first() {
		o.poison.sendingFirst(g) // only a PUBREL was sent
	}
}

// lookAtRefusals handles the server's refusals and purges packet identifiers if the refusals
// require it. It reports whether messages must wait until the server has answered the purge.
func (o *Outbox) lookAtRefusals(g *session.Generation) (wait bool) {
	if o.damaged.Swap(false) {
		o.cursor.cure.All(o.cfg.Store.LastSeq())
	}
	if o.unpurged && o.cfg.Store.Stats().Pending > 0 { // a client that only receives does not need to purge at each start
		o.unpurged = false
		o.cursor.cure.Unknown()
	}
	cured := o.cursor.cure.Answered(g)
	o.answerRefusals(g)
	wait = o.endGivenUp(g)
	held := func(id uint16) bool { return o.deferred.Holds(id, 0) }
	left, err := o.cursor.cure.Step(g, o.cfg.Store, held, cured)
	if err != nil {
		o.storeFailed(err)
	}
	o.lookAgain(left)
	o.purgeFailed(o.cursor.cure.GivenUp())
	if cured {
		o.window.Open()
		o.deferred.Due(time.Now(), cure.Helps, !o.cursor.cure.Useless())
	}
	if o.cursor.cure.Stuck() && o.cfg.Stuck != nil {
		o.cfg.Stuck()
	}
	wait = o.cursor.cure.Open() || wait
	if !wait && g.Held() {
		_ = g.Unhold() // the error has already ended the connection
	}
	return wait
}

// purgeFailed reports that the server did not answer the purge of n packet identifiers.
func (o *Outbox) purgeFailed(n int) {
	if n > 0 && o.cfg.PurgeFailed != nil {
		o.cfg.PurgeFailed(n)
	}
}

// timeLeft returns the time until e expires, or 0 if it never expires.
func (o *Outbox) timeLeft(e *persistence.Entry) time.Duration {
	if e.Expires.IsZero() {
		return 0
	}
	return e.Expires.Sub(o.cfg.Store.Now())
}

// unsendable returns the End of a message that must not be sent, and true. That applies if the
// message has expired, if a newer message has replaced it, or if the server does not accept such a
// packet.
func (o *Outbox) unsendable(g *session.Generation, e *persistence.Entry, dup bool, left time.Duration, canExpire bool) (end End, over bool) {
	reason := g.Limits.Check(len(e.Packet), o.qosFor(g, e), e.Packet[0]&1 != 0)
	switch {
	case left <= 0 && canExpire && !e.Expires.IsZero():
		return expired(e), true
	case !dup && o.open.isReplaced(e.Seq):
		return End{ID: e.ID, State: Dropped, Cause: Replaced}, true
	case reason != 0:
		end = o.refused(ByLimit, reason)
		end.ID = e.ID
		return end, true
	}
	return end, false
}

// allow requests a trial from the breaker. It returns nil if the breaker allows none now.
func (o *Outbox) allow() (judge func(error)) {
	judge, err := o.cfg.Breaker.Allow()
	if err == nil {
		return judge
	}
	var open *reliability.OpenError // nil if all trials are in use: their acknowledgements wake the send loop
	if errors.As(err, &open) && open.RetryAfter > 0 {
		o.lookAgain(open.RetryAfter)
	}
	return nil
}

// qosFor returns the QoS at which e is sent. A rule can make it lower than the QoS of e.
func (o *Outbox) qosFor(g *session.Generation, e *persistence.Entry) byte {
	own, most := qos(e), min(g.Limits.MaximumQoS, o.cursor.maxQoS)
	if own <= most || len(o.rules) == 0 || !o.rules.LowersQoS(string(wire.ImageTopic(e.Packet))) {
		return own
	}
	return max(most, 1)
}

// image appends the PUBLISH of e to dst. A message that has expired and must be resent gets an
// expiry of 1 s, because some servers never expire a message with 0.
func (o *Outbox) image(g *session.Generation, dst []byte, e *persistence.Entry, id uint16, dup bool, left time.Duration) []byte {
	start := len(dst)
	dst = wire.AppendImage(dst, e.Packet, id, dup, wire.Seconds(max(left, 1)))
	dst[start] = dst[start]&^(3<<1) | o.qosFor(g, e)<<1
	return dst
}

// persist makes the sent watermark cover the current message, durably.
func (o *Outbox) persist(g *session.Generation, w *watermark) verdict {
	e := &o.cursor.entry
	// During an outage of the store, a QoS 1 message is sent although the watermark is not durable.
	// If the process is killed as well, the message is sent twice, which QoS 1 allows.
	mayRepeat := o.qosFor(g, e) == 1
	if e.Number <= w.persisted && (!w.volatile || mayRepeat) {
		return passed
	}
	free := g.Free()
	if free == 0 {
		return stopped
	}
	if err := w.raise(o.cfg.Store, e, free, o.replaces.Load()); err != nil && !(w.volatile && mayRepeat) {
		return o.storeFailed(err)
	}
	// The store could drop the message until the watermark covered it, so read it again.
	ok, err := o.cfg.Store.Get(e.Seq, e)
	switch {
	case err != nil:
		return o.storeFailed(err)
	case !ok:
		return gone
	}
	return passed
}

// Deferred describes the deferred messages.
func (o *Outbox) Deferred() deferral.State { return o.deferred.Describe() }

// Window returns the limit of messages in flight that the server's quota requires, or 0 for no
// limit.
func (o *Outbox) Window() int { return o.window.Limit() }

// LowersQoS reports whether a rule lowers the QoS of messages of this topic if the server does not
// support QoS 2.
func (o *Outbox) LowersQoS(topic string) bool { return o.rules.LowersQoS(topic) }

// deferredFull reports whether err is a *DeferredFullError.
func deferredFull(err error) bool {
	full := (*DeferredFullError)(nil)
	return errors.As(err, &full)
}

// freeIdentifier returns a packet identifier that no message uses, or 0 if there is none. It picks
// an identifier of a number before the first message in the log, because the messages with these
// numbers have ended. It does not reuse an identifier for some time, because the server may have
// refused a message on account of the identifier. It never returns refused.
func (o *Outbox) freeIdentifier(g *session.Generation, refused uint16) uint16 {
	if o.first == 0 { // cached: First walks over the deferred messages, and its result only grows
		if o.first = o.cfg.Store.First(persistence.Normal); o.first == 0 {
			o.first = o.cfg.Store.LastSeq() + 1
		}
	}
	first, lap := o.first, session.Lap(uint8(persistence.Normal))
	last := max(o.sent[persistence.Normal].persisted, first) // the last message that may have been sent
	if last-first+1 >= lap {
		return 0
	}
	span := min(lap-(last-first+1), session.Recent+uint64(o.deferred.Identifiers()))
	for range span {
		o.rotation++
		number := first + lap - span + o.rotation%span // has the same identifier as number - lap
		id := session.PacketID(uint8(persistence.Normal), number)
		if id != refused && !o.deferred.Holds(id, 0) && !g.InUse(id) && !g.IsPurging(id) {
			return id
		}
	}
	return 0
}

// StoreRecovered reports the end of a store outage.
func (o *Outbox) StoreRecovered() {
	o.ended.Notify()
	o.Wake()
}

// cancels holds the messages that Cancel wants to end. The send loop ends them, because it knows
// which messages it has sent.
type cancels struct {
	mu   sync.Mutex
	list []cancel
}

type cancel struct {
	seq  uint64
	done chan<- bool // buffered, so that the send loop does not block
}

// Cancel ends a pending message that was certainly not sent, and reports whether it did. It waits
// for the send loop. If ctx ends or Stop is called first, it returns the cause, and the message may
// still end later.
func (o *Outbox) Cancel(ctx context.Context, seq uint64) (ended bool, err error) {
	done := make(chan bool, 1)
	o.cancels.mu.Lock()
	o.cancels.list = append(o.cancels.list, cancel{seq, done})
	o.cancels.mu.Unlock()
	o.Wake()
	select {
	case ended = <-done:
		return ended, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-o.closing.Done():
		return false, context.Cause(o.closing)
	}
}

// endCancelled answers the calls of Cancel.
func (o *Outbox) endCancelled() {
	c := &o.cancels
	c.mu.Lock()
	list := c.list
	c.list = nil
	c.mu.Unlock()
	for _, x := range list {
		ok, err := o.cfg.Store.Get(x.seq, &o.entry)
		if err != nil {
			o.cfg.StoreFailed(err)
		}
		e := &o.entry
		if ok = ok && err == nil && o.unsent(e); ok {
			o.over = append(o.over, ending{x.seq, End{ID: e.ID, Topic: string(wire.ImageTopic(e.Packet)), State: Dropped, Cause: Cancelled}})
		}
		x.done <- ok
	}
}

// unsent reports whether e was certainly not sent in this session.
func (o *Outbox) unsent(e *persistence.Entry) bool {
	return !e.Released && e.Deferral.PacketID == 0 && !o.sent.maybeSent(e)
}

// storeLater waits until a message is stored whose call of Add has already returned. The store
// bounds the number of such messages: while the disk does not answer, it accepts only what fits in
// its buffer.
func (o *Outbox) storeLater(m added) {
	defer o.added()
	_ = o.stored(&m, o.cfg.Store.Wait(context.Background(), m.ticket)) // the Waiter gets the error
}

// stalledAgain is the interval between attempts while the disk does not answer. No message ends
// during that time, so nothing else would trigger an attempt.
const stalledAgain = 250 * time.Millisecond

// waitRoom waits until the store may accept a message that it has refused with the given error. If
// ctx ends or Stop is called first, waitRoom returns the cause.
func (o *Outbox) waitRoom(ctx context.Context, changed <-chan struct{}, refused error) error {
	if !stalled(refused) {
		return o.wait(ctx, changed)
	}
	wait, stop := context.WithTimeout(ctx, stalledAgain)
	defer stop()
	err := o.wait(wait, changed)
	if ctx.Err() == nil && o.closing.Err() == nil {
		return nil
	}
	return err
}
