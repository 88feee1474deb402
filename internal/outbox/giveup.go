package outbox

import (
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file ends messages that are given up after they may have been sent. At QoS 2 the server may
// still hold the packet identifier of such a message. If another message used the identifier, the
// server would treat it as a duplicate. So the message keeps the identifier until the server has
// answered PUBREL for it, across connections and restarts. All of it runs in the send loop.

const (
	purgeTime = 5 * time.Second // how long the server has to answer PUBREL
	mostCuts  = 3               // connections in a row that may end during a purge; some servers end the connection on such a PUBREL
)

// purges holds the packet identifiers that are being purged on a connection.
type purges struct {
	since map[uint16]time.Time // when PUBREL was sent
	cut   int                  // consecutive connections that ended with unanswered PUBRELs
}

// begin prepares for a new connection.
func (p *purges) begin() {
	if p.cut++; len(p.since) == 0 {
		p.cut = 0
	}
	p.since = map[uint16]time.Time{}
}

// giveUp ends a message that may have been sent. A QoS 2 message ends when its packet identifier is
// purged, other messages at once.
func (o *Outbox) giveUp(e *persistence.Entry, cause Cause, code byte, attempts int) {
	now, id := o.cfg.Store.Now(), identifierOf(e)
	e.Deferral = persistence.Deferral{Since: now, Until: now, Attempts: attempts, Code: code, Alone: cause == Poison, GivenUp: true, PacketID: id}
	if qos(e) != 2 || o.reset.Load() { // there is nothing to purge, or the session is lost
		o.over = append(o.over, ending{e.Seq, o.givenUp(e)})
		return
	}
	if err := o.cfg.Store.Defer(e.Seq, e.Deferral); err != nil {
		o.cfg.StoreFailed(err) // at worst it is sent again after a restart
	}
	if judge := o.open.refused(e.Seq, code, false); judge != nil {
		judge(errNotTried)
	}
	o.deferred.GiveUp(e, id, code, time.Now())
	o.Wake()
}

// givenUpByLimit gives up a message that may have been sent before the server announced that it
// does not accept such a packet. It returns false if the message ends for another reason.
func (o *Outbox) givenUpByLimit(e *persistence.Entry, end End) bool {
	if end.Cause != ByLimit {
		return false
	}
	o.giveUp(e, ByLimit, end.Reason, 0)
	return true
}

// givenUp returns the End of a message that was given up.
func (o *Outbox) givenUp(e *persistence.Entry) End {
	cause := ByLimit
	if e.Deferral.Alone {
		cause = Poison
	}
	end := o.refused(cause, e.Deferral.Code)
	end.ID, end.Topic = e.ID, string(wire.ImageTopic(e.Packet))
	if cause == Poison {
		end.Attempts = e.Deferral.Attempts
	}
	return end
}

// endGivenUp purges the packet identifiers of the messages that were given up, and then ends the
// messages. It reports whether other messages must wait for the server's answer. If they wait, no
// message is blamed when the server ends the connection because of a PUBREL.
func (o *Outbox) endGivenUp(g *session.Generation) (wait bool) {
	p := &o.cursor.purges
	for _, x := range o.deferred.GivenUp() {
		since, sent := p.since[x.ID]
		switch {
		case x.ID == 0 || g.Limits.MaximumQoS < 2:
		case p.cut >= mostCuts:
			o.purgeFailed(1)
		case sent && !g.IsPurging(x.ID):
			p.cut = 0
		case sent && time.Since(since) >= purgeTime:
			g.EndPurge(x.ID)
			o.purgeFailed(1)
		default:
			if !sent && g.Purge([]uint16{x.ID}) > 0 {
				since, sent = time.Now(), true
				p.since[x.ID] = since
			}
			if sent {
				o.lookAgain(time.Until(since.Add(purgeTime)))
			}
			wait = true
			continue
		}
		delete(p.since, x.ID)
		ok, err := o.cfg.Store.Get(x.Seq, &o.entry)
		switch {
		case err != nil:
			o.storeFailed(err)
		case ok:
			o.over = append(o.over, ending{x.Seq, o.givenUp(&o.entry)})
		default:
			o.deferred.Gone(x.Seq, time.Now())
		}
	}
	return wait
}

// AdoptSession is like ResetSession, for a session that the server has and the store does not know.
// The server may hold exchanges under any packet identifier, so all identifiers are purged before a
// message is sent.
func (o *Outbox) AdoptSession(owner string, sent []uint64) error {
	err := o.ResetSession(owner, sent)
	o.adopted.Store(err == nil)
	return err
}

// nothingSent reports whether no message was sent in the session in the store.
func nothingSent(store Store) bool {
	for p := range persistence.Priority(persistence.Priorities) {
		if store.Sent(p) > 0 {
			return false
		}
	}
	return true
}

// NewSession begins a new session after ResetSession. It returns the counts of the messages that
// were in flight in the last session.
func (o *Outbox) NewSession() Lost {
	report := o.lost.report
	o.lost.report, o.lost.earlier = Lost{}, [persistence.Priorities]uint64{}
	return report
}

// endAll ends the messages in o.over.
func (o *Outbox) endAll() {
	for _, x := range o.over {
		o.end(x.seq, x.End)
		o.Wake() // the next message of the topic may be sent
	}
	o.over = o.over[:0]
}

// endDropped ends the messages that the store has dropped for d.
func (o *Outbox) endDropped(t *persistence.Ticket, d *Draft) {
	for _, drop := range t.Drops {
		o.end(drop.Seq, dropped(drop, t.Limit, d))
	}
}

// tooFull returns the End of a message because the store has no room for d. The message is d, or an
// older one with its topic and priority.
func tooFull(id [16]byte, d *Draft, err error) End {
	e := End{ID: id, Topic: d.Topic, Priority: d.Priority, State: Dropped, Cause: StoreFull, Err: err}
	if full := (*persistence.FullError)(nil); errors.As(err, &full) {
		e.Limit = full.Limit
	}
	return e
}
