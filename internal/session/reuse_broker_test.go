package session

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// exchange is a message under a packet identifier of the server.
type exchange struct {
	n, tag   int // the message; no two exchanges have the same tag
	id       uint16
	qos      byte
	sent     bool
	released bool
}

// reuseBroker is the state of a server that sends messages. The server saves it and restarts from
// the saved state.
type reuseBroker struct {
	queue  []int
	flight []exchange
	last   uint16 // identifier
}

func (b reuseBroker) clone() reuseBroker {
	return reuseBroker{slices.Clone(b.queue), slices.Clone(b.flight), b.last}
}

// reuseIDs is the number of packet identifiers of the server. It is small, so that the server often
// reuses them.
const reuseIDs = 5

// take returns a free identifier: the lowest one, or the next one in rotation.
func (b *reuseBroker) take(lowest bool) (uint16, bool) {
	if lowest {
		b.last = 0
	}
	for range reuseIDs {
		b.last = b.last%reuseIDs + 1
		if !slices.ContainsFunc(b.flight, func(e exchange) bool { return e.id == b.last }) {
			return b.last, true
		}
	}
	return 0, false
}

// reuseWorld is everything that survives the client's process, except its store.
type reuseWorld struct {
	broker, saved reuseBroker
	since         []int // messages published since the server last saved its state
	published     int
	tags          int
	handled       map[int]bool // by a handler with a dedupe cache in the same transaction
	// acked holds the exchanges for which the client has sent PUBREC, with their identifiers. The
	// client must know them until it receives PUBREL or another message under the identifier.
	acked map[int]uint16
}

func (w *reuseWorld) clone() *reuseWorld {
	c := *w
	c.broker, c.saved, c.since = w.broker.clone(), w.saved.clone(), slices.Clone(w.since)
	c.handled, c.acked = maps.Clone(w.handled), maps.Clone(w.acked)
	return &c
}

// free removes the exchanges under an identifier, except one.
func (w *reuseWorld) free(id uint16, except int) {
	maps.DeleteFunc(w.acked, func(tag int, other uint16) bool { return other == id && tag != except })
}

func (w *reuseWorld) publish() {
	w.published++
	w.broker.queue = append(w.broker.queue, w.published)
	w.since = append(w.since, w.published)
}

func (w *reuseWorld) save() { w.saved, w.since = w.broker.clone(), nil }

// restore simulates a kill of the server: it continues from its saved state. Publishers resend most
// of the messages that they have sent since.
func (w *reuseWorld) restore(again func() bool) {
	w.broker = w.saved.clone()
	w.since = slices.DeleteFunc(w.since, func(int) bool { return !again() })
	w.broker.queue = append(w.broker.queue, w.since...)
}

// sending is a packet on its way to the client.
type sending struct {
	raw []byte
	tag int // of a PUBLISH
	id  uint16
}

// send sends the packet for the present state of an exchange.
func (x *reuseRun) send(e *exchange, again bool) {
	if e.released {
		x.toClient = append(x.toClient, sending{wire.AppendAck(nil, wire.Ack{Type: wire.PUBREL, PacketID: e.id}), 0, e.id})
		return
	}
	dup := again && e.sent
	if e.qos == 2 && x.sloppy {
		dup = x.rnd.IntN(2) == 0
	}
	e.sent = true
	p := wire.Publish{Topic: "t", QoS: e.qos, PacketID: e.id, Dup: dup, ContentType: fmt.Sprint(e.n)}
	if !x.broken.sameContent {
		p.Payload = fmt.Append(nil, e.n)
	}
	x.toClient = append(x.toClient, sending{wire.AppendPublish(nil, &p), e.tag, e.id})
}

// next sends the next message of the queue.
func (x *reuseRun) next() {
	b := &x.world.broker
	if len(b.queue) == 0 {
		return
	}
	id, ok := b.take(x.lowest)
	if !ok {
		return
	}
	x.world.tags++
	e := exchange{n: b.queue[0], tag: x.world.tags, id: id, qos: 2}
	if x.rnd.IntN(8) == 0 {
		e.qos = 1
	}
	b.queue = b.queue[1:]
	x.send(&e, false)
	b.flight = append(b.flight, e)
}

// answer handles an acknowledgement of the client. It detects messages that the client acknowledged
// without handling them.
func (x *reuseRun) answer(a wire.Ack) {
	b := &x.world.broker
	i := slices.IndexFunc(b.flight, func(e exchange) bool { return e.id == a.PacketID })
	if i < 0 {
		return
	}
	e := &b.flight[i]
	switch {
	case a.Type == wire.PUBREC && e.released:
		x.send(e, true)
	case a.Type == wire.PUBREC && e.qos == 2, a.Type == wire.PUBACK && e.qos == 1:
		if a.Reason < 0x80 && !x.world.handled[e.n] {
			x.fail("message %d (exchange %d, identifier %d) was acknowledged and not handled", e.n, e.tag, e.id)
		}
		if e.qos == 2 && a.Reason < 0x80 {
			e.released = true
			x.send(e, true)
			return
		}
		b.flight = slices.Delete(b.flight, i, i+1)
	case a.Type == wire.PUBCOMP && e.released:
		b.flight = slices.Delete(b.flight, i, i+1)
	}
}
