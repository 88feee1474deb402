package outbox

import (
	"cmp"
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// This file defers messages and sends them again. All of it runs in the send loop.

// ending is a message and its End. Only path.go ends it.
type ending struct {
	seq uint64
	End
}

const (
	breakerAttempts = 6   // refusals of a deferred topic before it counts as a failure for the breaker; takes about ten seconds
	maxRetries      = 256 // maximum number of deferred messages sent together; they share one sync
)

// answerRefusals handles the refusals that the server has sent since the last call.
func (o *Outbox) answerRefusals(g *session.Generation) {
	list := o.deferred.Take()
	if len(list) > 0 {
		o.blame.look(o.cfg.Store.Now(), func() bool { return o.cfg.Breaker.State() == reliability.Closed })
	}
	for _, r := range list {
		ok, err := o.cfg.Store.Get(r.Seq, &o.entry)
		switch {
		case err != nil:
			o.deferred.Note(r)
			o.storeFailed(err)
		case !ok:
			o.deferred.Gone(r.Seq, time.Now())
		case o.entry.Released:
			o.deferred.Released(r.Seq, time.Now())
		case (r.Alone || r.Final) && o.deferred.Waits(r.Seq): // the server refused it before the connection ended
		case r.Final:
			o.giveUp(&o.entry, Poison, r.Code, r.Strikes)
		case r.Alone:
			o.isolate(r)
		default:
			o.refusedByServer(r, g)
		}
	}
}

// refusedByServer ends or defers a message that the server has refused.
func (o *Outbox) refusedByServer(r deferral.Refusal, g *session.Generation) {
	e, topic := &o.entry, string(wire.ImageTopic(o.entry.Packet))
	o.poison.answered(r.Seq)
	if qos(e) == 2 || r.Code == wire.ReasonQuotaExceeded {
		o.cursor.cure.Refused(o.cursor.g, r.Code)
	}
	rule, now := o.rules.Of(topic, r.Code), o.cfg.Store.Now()
	since := e.Deferral.Since
	if since.IsZero() {
		since = now
	}
	d := persistence.Deferral{Since: since, Attempts: e.Deferral.Attempts + 1, Code: r.Code, RefusedID: e.Deferral.RefusedID}
	if r.Code == wire.ReasonPacketIDInUse {
		d.RefusedID = identifierOf(e)
	}
	if rule.Action == deferral.LowerQoS && r.Code == wire.ReasonQoSNotSupported && o.open.sentAt(r.Seq) == 2 {
		o.cursor.maxQoS = 1 // although CONNACK had no Maximum QoS
	} else if rule.Action != deferral.Retry || rule.Final(d.Attempts, since, now) {
		end := o.refused(ByServer, r.Code)
		if rule.Action == deferral.DeadLetter {
			end.State = DeadLettered
		}
		end.ID, end.Topic, end.Text, end.excused = e.ID, topic, r.Text, !o.blame.counts(topic, since)
		o.over = append(o.over, ending{r.Seq, end})
		return
	}
	if r.Code == wire.ReasonQuotaExceeded && g != nil {
		o.window.Refused(g.InFlight())
	}
	until, attempts := o.deferred.Refuse(topic, e, identifierOf(e), r.Code, time.Now())
	if judge := o.open.refused(r.Seq, r.Code, false); judge != nil {
		err := errNotTried
		if attempts >= breakerAttempts && o.blame.counts(topic, since) {
			err = o.cfg.Describe(End{ID: e.ID, State: Refused, Reason: r.Code, Text: r.Text})
		}
		judge(err)
	}
	o.postpone(r, d, topic, time.Until(until))
}

// isolate defers a message that may have caused connections to end. The message keeps its packet
// identifier, because the server may hold it [MQTT-4.4.0-1].
func (o *Outbox) isolate(r deferral.Refusal) {
	e := &o.entry
	since := e.Deferral.Since
	if since.IsZero() {
		since = o.cfg.Store.Now()
	}
	id := identifierOf(e)
	if o.reset.Load() { // the session was lost meanwhile
		id = 0
	}
	topic := string(wire.ImageTopic(e.Packet))
	if rule, ok := o.rules.OfEnd(topic, r.Code); ok && (givesUp(rule) || rule.Final(e.Deferral.Attempts+1, since, o.cfg.Store.Now())) {
		o.giveUp(e, Poison, r.Code, max(r.Strikes, e.Deferral.Attempts+1))
		return
	}
	until, attempts := o.deferred.Isolate(topic, e, id, r, time.Now())
	d := persistence.Deferral{Since: since, Attempts: attempts, Code: r.Code, Alone: true, PacketID: id, RefusedID: e.Deferral.RefusedID}
	if judge := o.open.refused(r.Seq, r.Code, true); judge != nil {
		judge(errNotTried)
	}
	o.postpone(r, d, topic, time.Until(until))
}

// identifierOf returns the packet identifier of a message in flight.
func identifierOf(e *persistence.Entry) uint16 {
	if e.Deferral.PacketID != 0 {
		return e.Deferral.PacketID
	}
	return session.PacketID(uint8(e.Priority), e.Number)
}

// postpone records and reports a deferral. If the record fails, a restart sends the message again
// at once.
func (o *Outbox) postpone(r deferral.Refusal, d persistence.Deferral, topic string, left time.Duration) {
	d.Until = o.cfg.Store.Now().Add(left)
	if err := o.cfg.Store.Defer(r.Seq, d); err != nil {
		o.cfg.StoreFailed(err)
	}
	if o.cfg.Deferred != nil {
		o.cfg.Deferred(Delay{ID: o.entry.ID, Topic: topic, Code: r.Code, Text: r.Text, Attempts: d.Attempts, For: left, Alone: d.Alone})
	}
	o.ended.Notify()
}

// follow moves the current message to the queue of its topic if the topic is deferred, or if a
// deferred message uses its packet identifier. In the second case the message was not sent before,
// even if the watermark covers it (dup).
func (o *Outbox) follow(id uint16, dup bool) bool {
	if !o.deferred.Any() {
		return false
	}
	e := &o.cursor.entry
	if o.deferred.Waits(e.Seq) {
		return true // it is deferred, but the store could not record that
	}
	topic := wire.ImageTopic(e.Packet)
	if (dup || !o.deferred.Blocks(topic, e.Priority)) && !o.deferred.Holds(id, e.Seq) {
		return false
	}
	now := o.cfg.Store.Now()
	if err := o.cfg.Store.Defer(e.Seq, persistence.Deferral{Since: now, Until: now}); err != nil {
		o.cfg.StoreFailed(err)
	}
	o.deferred.Follow(string(topic), e, time.Now())
	o.cursor.joined = true
	return true
}

// keep defers the current message if all messages of its topic are sent alone. The message was sent
// on an earlier connection.
func (o *Outbox) keep(g *session.Generation, id uint16) bool {
	e := &o.cursor.entry
	topic := wire.ImageTopic(e.Packet)
	if _, all := o.deferred.Isolated(topic, e.Priority); !all {
		return false
	}
	d := e.Deferral // it may have been refused before
	d.Until, d.Alone, d.PacketID = o.cfg.Store.Now(), true, id
	if d.Since.IsZero() {
		d.Since = d.Until
	}
	if err := o.cfg.Store.Defer(e.Seq, d); err != nil {
		o.cfg.StoreFailed(err)
	}
	g.Forget(e.Seq)
	o.deferred.Keep(string(topic), e, id, time.Now())
	return true
}

// restoreDeferred reads the messages that an earlier process has deferred. If the store cannot read
// a message, the next call tries again. Until then no other message gets its packet identifier.
func (o *Outbox) restoreDeferred() {
	left := o.unread[:0]
	for _, d := range o.unread {
		e := &o.entry
		ok, err := o.cfg.Store.Get(d.Seq, e)
		switch {
		case err != nil:
			o.storeFailed(err)
			o.deferred.Reserve(d.PacketID, d.Seq)
			left = append(left, d)
		case ok:
			left := min(d.Until.Sub(o.cfg.Store.Now()), o.deferred.Longest())
			o.deferred.Restore(string(wire.ImageTopic(e.Packet)), e, left, time.Now())
			if e.Deferral.PacketID != 0 && !e.Released && !o.deferred.Waits(d.Seq) {
				o.cursor.resend, o.cursor.resending = append(o.cursor.resend, d.Seq), true // begin puts it in its place
			}
		default:
			o.deferred.Release(d.PacketID, d.Seq)
		}
	}
	o.unread = left
}

// unreadWait is how long other messages wait for deferred messages that the store cannot read.
const unreadWait = 30 * time.Second

// unreadable reports whether messages must wait because the store cannot read deferred messages of
// an earlier process. Without them, the deferred topics and the order of their messages are
// unknown.
func (o *Outbox) unreadable() bool {
	return len(o.unread) > 0 && time.Since(o.expiry.start) < unreadWait
}

// awaitDeferred schedules the next wake of the send loop for deferred messages. looked is the time
// of its last look.
func (o *Outbox) awaitDeferred(looked time.Time) {
	if o.deferred.Any() {
		o.lookAgain(o.deferred.Next(o.cfg.Store.Now(), time.Now(), looked))
	}
}

// expireDeferred ends the deferred messages that have expired.
func (o *Outbox) expireDeferred() {
	if !o.deferred.Any() {
		return
	}
	for _, seq := range o.deferred.Expired(o.cfg.Store.Now(), time.Now()) {
		ok, err := o.cfg.Store.Get(seq, &o.entry)
		if err != nil {
			o.cfg.StoreFailed(err)
			o.entry.ID = [16]byte{}
		}
		if ok || err != nil {
			o.over = append(o.over, ending{seq, expired(&o.entry)})
		}
	}
}

// If the window is large and at least half full, deferred messages are sent at most once per gather
// interval, because each batch costs a sync.
const (
	gather       = 20 * time.Millisecond
	gatherWindow = 32
)

// retry appends due deferred messages to the batch. idle means that nothing else can be sent. retry
// reports whether other messages have to wait because one message is sent alone.
func (o *Outbox) retry(g *session.Generation, idle bool) (alone bool) {
	if !o.deferred.Any() || len(o.cursor.resend) > 0 { // messages sent before come first [MQTT-4.6.0-1]
		return false
	}
	now := time.Now()
	o.first = 0
	x, ok, hold := o.deferred.PickAlone(now, idle || g.Acknowledged() > 0, g.InFlight() == 0)
	if ok {
		list := o.prepare(g, nil, x)
		o.sendDeferred(g, list)
		hold = len(list) == 0 || list[0].judge != nil // nil: it cannot be sent now
	}
	if hold {
		return true
	}
	room := min(o.room(g), maxRetries)
	if left := o.cursor.retried.Add(gather).Sub(now); left > 0 && room < g.InFlight() && g.InFlight()+room >= gatherWindow {
		o.lookAgain(left)
		return false
	}
	var list []picked
	size := len(o.batch)
	for len(list) < room && size < batchBytes {
		x, ok := o.deferred.Pick(now)
		if !ok {
			break
		}
		n := len(list)
		if list = o.prepare(g, list, x); len(list) == n {
			continue
		}
		size += len(list[n].image)
		if list[n].judge == nil {
			list = list[:n]
			break
		}
	}
	if len(list) > 0 {
		o.cursor.retried = now
	}
	o.sendDeferred(g, list)
	return false
}

// fullOfDeferred returns an error if d would be deferred and the limit of deferred messages is
// reached. The rest of the store is reserved for topics that the server accepts.
func (o *Outbox) fullOfDeferred(d *Draft) *DeferredFullError {
	most, bytes := cmp.Or(o.cfg.MaxDeferred, math.MaxInt), cmp.Or(o.cfg.MaxDeferredBytes, math.MaxInt64)
	full, code := o.deferred.Full(d.Topic, d.Priority, most, bytes)
	if !full {
		return nil
	}
	err := &DeferredFullError{Code: code, FullError: persistence.FullError{Limit: deferredLimit, Max: int64(o.cfg.MaxDeferred)}}
	if o.cfg.WhenFull == DropOldest {
		err.oldest = o.deferred.TakeOldest(d.Topic, d.Priority, time.Now())
	}
	return err
}
