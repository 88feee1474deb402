package outbox

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file defers messages, and sends them again. All of it runs in the send loop.

// ending is a message that ends: path.go does that.
type ending struct {
	seq uint64
	End
}

// maxRetries bounds the deferred messages that are sent at a time: they share one sync.
const maxRetries = 256

// answerRefusals looks at what the server has refused since the last call.
func (o *Outbox) answerRefusals(g *session.Generation) {
	for _, r := range o.deferred.Take() {
		ok, err := o.cfg.Store.Get(r.Seq, &o.entry)
		switch {
		case err != nil:
			o.deferred.Note(r)
			o.storeFailed(err)
		case !ok:
			o.deferred.Gone(r.Seq, time.Now())
		case o.entry.Released:
			o.deferred.Released(r.Seq)
		case r.Alone:
			o.isolate(r)
		default:
			o.refusedByServer(r, g)
		}
	}
}

// refusedByServer ends a message that the server has refused, or defers it.
func (o *Outbox) refusedByServer(r deferral.Refusal, g *session.Generation) {
	e, topic := &o.entry, string(wire.ImageTopic(o.entry.Packet))
	o.poison.answered(r.Seq)
	if qos(e) == 2 && g == o.cursor.g {
		o.cursor.cure.Refused(g, r.Code)
	}
	rule, now := o.rules.Of(topic, r.Code), o.cfg.Store.Now()
	since := e.Deferral.Since
	if since.IsZero() {
		since = now
	}
	d := persistence.Deferral{Since: since, Attempts: e.Deferral.Attempts + 1, Code: r.Code}
	final := rule.Attempts > 0 && d.Attempts >= rule.Attempts || rule.For > 0 && now.Sub(since) >= rule.For
	if rule.Action == deferral.LowerQoS && r.Code == wire.ReasonQoSNotSupported && o.open.sentAt(r.Seq) == 2 {
		o.cursor.maxQoS = 1 // the server has not said so in CONNACK
	} else if rule.Action != deferral.Retry || final {
		end := o.refused(ByServer, r.Code)
		if rule.Action == deferral.DeadLetter {
			end.State = DeadLettered
		}
		end.ID, end.Topic, end.Text = e.ID, topic, r.Text
		o.over = append(o.over, ending{r.Seq, end})
		return
	}
	if r.Code == wire.ReasonQuotaExceeded && g != nil {
		o.window.Refused(g.InFlight())
	}
	first := !o.deferred.Blocks([]byte(topic), e.Priority)
	until, _ := o.deferred.Refuse(topic, e, identifierOf(e), r.Code, time.Now())
	if judge := o.open.refused(r.Seq, r.Code); judge != nil {
		// A topic that is refused counts once, or it would stop the others.
		err := errNotTried
		if first {
			err = o.cfg.Describe(End{ID: e.ID, State: Refused, Reason: r.Code, Text: r.Text})
		}
		judge(err)
	}
	o.postpone(r, d, topic, time.Until(until))
}

// isolate defers a message over which connections ended. It keeps its packet identifier, since the
// server may have it [MQTT-4.4.0-1].
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
	until, attempts := o.deferred.Isolate(e, id, r.Code, time.Now())
	d := persistence.Deferral{Since: since, Attempts: attempts, Code: r.Code, Alone: true, PacketID: id}
	o.open.refused(r.Seq, r.Code)
	o.postpone(r, d, string(wire.ImageTopic(e.Packet)), time.Until(until))
}

// identifierOf returns the packet identifier that a message in flight has.
func identifierOf(e *persistence.Entry) uint16 {
	if e.Deferral.PacketID != 0 {
		return e.Deferral.PacketID
	}
	return session.PacketID(uint8(e.Priority), e.Number)
}

// postpone records a deferral and reports it. Without the record, the message is sent again after a
// restart.
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

// follow puts the current message into the lane of its topic if it has to wait there, or if its
// packet identifier belongs to a deferred message.
func (o *Outbox) follow(id uint16) bool {
	e := &o.cursor.entry
	topic := wire.ImageTopic(e.Packet)
	if !o.deferred.Blocks(topic, e.Priority) && !o.deferred.Holds(id, e.Seq) {
		return false
	}
	now := o.cfg.Store.Now()
	if err := o.cfg.Store.Defer(e.Seq, persistence.Deferral{Since: now, Until: now}); err != nil {
		o.cfg.StoreFailed(err)
	}
	o.deferred.Follow(string(topic), e, time.Now())
	return true
}

// restoreDeferred reads what an earlier process has deferred.
func (o *Outbox) restoreDeferred() {
	for _, d := range o.cfg.Store.Deferred() {
		ok, err := o.cfg.Store.Get(d.Seq, &o.entry)
		if err != nil {
			o.cfg.StoreFailed(err)
		}
		if ok {
			left := d.Until.Sub(o.cfg.Store.Now())
			o.deferred.Restore(string(wire.ImageTopic(o.entry.Packet)), &o.entry, min(left, o.deferred.Longest()), time.Now())
		}
	}
}

// expireDeferred ends the deferred messages whose time has passed.
func (o *Outbox) expireDeferred() {
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

// picked is a deferred message that is about to be sent.
type picked struct {
	deferral.Item
	id    uint16
	qos   byte
	judge func(error)
	image []byte
	entry [16]byte // its message ID
}

// retry puts deferred messages whose time has come into the batch; idle: nothing else can be sent.
// It reports whether other messages have to wait, because one is sent alone.
func (o *Outbox) retry(g *session.Generation, idle bool) (alone bool) {
	if !o.deferred.Any() {
		return false
	}
	now := time.Now()
	x, ok, hold := o.deferred.PickAlone(now, idle || g.Acknowledged() > 0, g.InFlight() == 0)
	if ok {
		o.sendDeferred(g, o.prepare(g, nil, x))
	}
	if hold {
		return true
	}
	var list []picked
	size := len(o.batch)
	for room := min(o.room(g), maxRetries); len(list) < room && size < batchBytes; {
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
	o.sendDeferred(g, list)
	return false
}

// room returns how many more messages may be sent.
func (o *Outbox) room(g *session.Generation) int {
	if limit := o.window.Limit(); limit > 0 {
		return min(g.Free(), limit-g.InFlight())
	}
	return g.Free()
}

// prepare appends a message that was picked to list, unless it has ended, with its packet identifier
// in the store. If it cannot be sent now, its judge is nil.
func (o *Outbox) prepare(g *session.Generation, list []picked, x deferral.Item) []picked {
	e := &o.entry
	ok, err := o.cfg.Store.Get(x.Seq, e)
	if err != nil {
		return append(list, o.notPicked(x, err))
	}
	if !ok {
		o.deferred.Gone(x.Seq, time.Now())
		return list
	}
	left, dup := o.timeLeft(e), x.ID != 0
	if end, over := o.unsendable(g, e, dup, left, !dup); over {
		o.over = append(o.over, ending{x.Seq, end})
		return list
	}
	judge := o.allow()
	if judge == nil {
		return append(list, o.notPicked(x, nil))
	}
	id := x.ID
	if id == 0 {
		if id = o.freeIdentifier(g, x.Refused); id == 0 {
			judge(errNotTried)
			return append(list, o.notPicked(x, nil))
		}
		d := e.Deferral
		d.Until, d.PacketID = o.cfg.Store.Now(), id
		if err := o.cfg.Store.Defer(x.Seq, d); err != nil {
			judge(errNotTried)
			return append(list, o.notPicked(x, err))
		}
		o.deferred.Under(x.Seq, id)
		if ok, err = o.cfg.Store.Get(x.Seq, e); !ok && err == nil { // until then the store could drop it
			judge(errNotTried)
			o.deferred.Gone(x.Seq, time.Now())
			return list
		}
	}
	return append(list, picked{Item: x, id: id, qos: o.qosFor(g, e), judge: judge, image: o.image(g, nil, e, id, dup, left), entry: e.ID})
}

// notPicked takes back a message that cannot be sent now.
func (o *Outbox) notPicked(x deferral.Item, err error) picked {
	if err != nil {
		o.storeFailed(err)
	}
	o.deferred.Unpick(x, time.Now())
	return picked{Item: x}
}

// sendDeferred puts messages into the batch when their packet identifiers are durable.
func (o *Outbox) sendDeferred(g *session.Generation, list []picked) {
	if len(list) == 0 {
		return
	}
	err := o.cfg.Store.Sync()
	for _, p := range list {
		switch {
		case p.judge == nil:
			continue
		case err != nil:
			o.storeFailed(err)
		case g.Offer(p.Seq, p.id, p.qos) == session.Admitted:
			o.open.sent(p.Seq, p.entry, p.qos, p.judge)
			if o.cursor.first() {
				o.poison.sendingFirst(g)
			}
			o.batch = append(o.batch, p.image...)
			continue
		}
		p.judge(errNotTried)
		o.deferred.Unpick(p.Item, time.Now())
	}
}
