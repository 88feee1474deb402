package outbox

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/session"
)

// This file prepares deferred messages for sending. All of it runs in the send loop.

// picked is a deferred message that is about to be sent.
type picked struct {
	deferral.Item
	id    uint16
	qos   byte
	judge func(error)
	image []byte
	entry [16]byte // the message ID
}

// room returns how many more messages may be sent now.
func (o *Outbox) room(g *session.Generation) int {
	if limit := o.window.Limit(); limit > 0 {
		return min(g.Free(), limit-g.InFlight())
	}
	return g.Free()
}

// prepare appends a picked message to list and records its packet identifier in the store. It omits
// a message that has ended. If the message cannot be sent now, its judge is nil.
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
		if !dup || !o.givenUpByLimit(e, end) {
			o.over = append(o.over, ending{x.Seq, end})
		}
		return list
	}
	judge := o.allow()
	if judge == nil {
		return append(list, o.notPicked(x, nil))
	}
	id := x.ID
	if id == 0 {
		id = o.freeIdentifier(g, x.Refused)
	}
	if id != 0 && (x.ID == 0 || e.Deferral.Alone != x.Alone) {
		d := e.Deferral
		d.Until, d.PacketID, d.Alone = o.cfg.Store.Now(), id, x.Alone
		if d.Since.IsZero() { // the store failed to record it before
			d.Since = d.Until
		}
		err = o.cfg.Store.Defer(x.Seq, d)
	}
	if id == 0 || err != nil {
		judge(errNotTried)
		return append(list, o.notPicked(x, err))
	}
	o.deferred.Under(x.Seq, id)
	if ok, err = o.cfg.Store.Get(x.Seq, e); !ok { // until the store had the identifier, it could drop the message
		judge(errNotTried)
		if err != nil {
			return append(list, o.notPicked(x, err))
		}
		o.deferred.Gone(x.Seq, time.Now())
		return list
	}
	return append(list, picked{Item: x, id: id, qos: o.qosFor(g, e), judge: judge, image: o.image(g, nil, e, id, dup, left), entry: e.ID})
}

// notPicked returns a message to its queue because it cannot be sent now.
func (o *Outbox) notPicked(x deferral.Item, err error) picked {
	if err != nil {
		o.storeFailed(err)
	}
	o.deferred.Unpick(x, time.Now())
	return picked{Item: x}
}

// sendDeferred makes the packet identifiers durable and appends the messages to the batch.
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
		o.unrecord(p.Item)
		o.deferred.Unpick(p.Item, time.Now())
	}
}

// unrecord removes the packet identifier of a message from the store if the message was not sent
// under it. Another message may get that identifier.
func (o *Outbox) unrecord(x deferral.Item) {
	if x.ID != 0 {
		return
	}
	ok, err := o.cfg.Store.Get(x.Seq, &o.entry)
	if ok {
		d := o.entry.Deferral
		d.PacketID = 0
		err = o.cfg.Store.Defer(x.Seq, d)
	}
	if err != nil {
		o.cfg.StoreFailed(err)
	}
}
