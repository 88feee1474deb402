package client

import (
	"slices"

	"github.com/mooring-mqtt/mooring/ordering"
)

// inbound is a received message on its way to one handler.
type inbound struct {
	*Message
	from   origin
	to     *route // nil before it is routed
	stored bool   // a retained message that the server sent for a new subscription
	only   string // filter of the only handler, if the message was set aside for one; empty: all handlers
}

// position returns the stream, the sequence number and the ID of m. Number 0 means that m is not
// ordered. A server distributes the messages of a Shared Subscription over several clients, so
// their numbers have gaps. The client does not use these numbers.
func (m inbound) position() (stream string, epoch, seq uint64, id ordering.ID) {
	o := m.Origin
	if o.Seq == 0 || m.to.Shared {
		return "", 0, 0, id
	}
	return streamKey(o.Publisher, m.Topic, m.to.Filter), o.Epoch, o.Seq, ordering.ID(m.ID)
}

// streamKey names the messages of one publisher on one topic for one handler. Its parts cannot
// contain NUL.
func streamKey(publisher, topic, filter string) string {
	return publisher + "\x00" + topic + "\x00" + filter
}

// restorePoints returns a function that finds the restored Position for a message's publisher and
// topic. It returns each Position once per handler.
func restorePoints(list []Position) func(inbound) (p ordering.Position, ok bool) {
	if len(list) == 0 {
		return nil
	}
	type point struct {
		ordering.Position
		used []string // filters of the handlers that have used it
	}
	points := make(map[[2]string]*point, len(list)) // not locked, because a topic belongs to one worker
	for _, p := range list {
		at := &point{Position: ordering.Position{Epoch: p.Epoch, Last: p.Seq}}
		for _, id := range p.IDs {
			at.IDs = append(at.IDs, ordering.ID(id))
		}
		points[[2]string{p.Publisher, p.Topic}] = at
	}
	return func(m inbound) (ordering.Position, bool) {
		p := points[[2]string{m.Origin.Publisher, m.Topic}]
		if p == nil || slices.Contains(p.used, m.to.Filter) {
			return ordering.Position{}, false
		}
		p.used = append(p.used, m.to.Filter)
		return p.Position, true
	}
}
