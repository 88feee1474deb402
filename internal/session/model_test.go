package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// server is a correct MQTT 5 server, as simple as possible. It is the model against which a Session
// is tested. Its state survives broken connections.
type server struct {
	t *testing.T

	// State as a receiver.
	received []uint64        // messages, in the order in which their PUBLISH was first accepted
	holding  map[uint16]bool // QoS 2 identifiers between PUBREC and PUBREL
	inFlight map[uint16]bool // against the client's Receive Maximum, on this connection
	max      int

	// State as a sender: messages 1 to count. The first sent messages were sent.
	count, sent uint64
	unacked     []*outgoing
	clientMax   int
	ackOrder    []uint16 // identifiers in the order in which PUBACK or PUBREC is expected
}

type outgoing struct {
	n        uint64
	id       uint16
	released bool // PUBREC was received
}

// Odd messages have QoS 1, even ones QoS 2, in both directions.
func qosOf(n uint64) byte { return 1 + byte(n+1)%2 }

func number(payload []byte) (n uint64) {
	_, _ = fmt.Sscan(string(payload), &n)
	return n
}

// connected starts a connection and resends the unacknowledged messages.
func (v *server) connected() (out []byte) {
	v.ackOrder = nil
	clear(v.inFlight)
	for _, o := range v.unacked {
		out = v.send(out, o, true)
	}
	return out
}

func (v *server) send(out []byte, o *outgoing, dup bool) []byte {
	if o.released {
		return wire.AppendAck(out, wire.Ack{Type: wire.PUBREL, PacketID: o.id})
	}
	v.ackOrder = append(v.ackOrder, o.id)
	return wire.AppendPublish(out, &wire.Publish{Topic: "in", QoS: qosOf(o.n), PacketID: o.id, Dup: dup, Payload: fmt.Append(nil, o.n)})
}

// next sends one more message if the client's Receive Maximum allows it.
func (v *server) next(out []byte) []byte {
	if v.sent == v.count || len(v.unacked) >= v.clientMax {
		return out
	}
	id := uint16(1)
	for slices.ContainsFunc(v.unacked, func(o *outgoing) bool { return o.id == id }) {
		id++
	}
	v.sent++
	o := &outgoing{n: v.sent, id: id}
	v.unacked = append(v.unacked, o)
	return v.send(out, o, false)
}

// take handles one packet of the client.
func (v *server) take(p packet, out []byte) []byte {
	switch p.Type {
	case wire.PUBLISH:
		v.inFlight[p.PacketID] = true
		if len(v.inFlight) > v.max {
			v.t.Fatalf("%d messages in flight, Receive Maximum is %d", len(v.inFlight), v.max)
		}
		n := number(p.pub.Payload)
		if p.pub.QoS == 1 {
			v.received = append(v.received, n)
			delete(v.inFlight, p.PacketID)
			return wire.AppendAck(out, wire.Ack{Type: wire.PUBACK, PacketID: p.PacketID})
		}
		if !v.holding[p.PacketID] {
			v.holding[p.PacketID] = true
			v.received = append(v.received, n)
		}
		return wire.AppendAck(out, wire.Ack{Type: wire.PUBREC, PacketID: p.PacketID})
	case wire.PUBREL:
		comp := wire.Ack{Type: wire.PUBCOMP, PacketID: p.PacketID}
		if !v.holding[p.PacketID] {
			comp.Reason = wire.ReasonPacketIDNotFound
		}
		delete(v.holding, p.PacketID)
		delete(v.inFlight, p.PacketID)
		return wire.AppendAck(out, comp)
	}
	i := slices.IndexFunc(v.unacked, func(o *outgoing) bool { return o.id == p.PacketID })
	if i < 0 || p.Reason != 0 && p.Type != wire.PUBCOMP { // 0x92 after a broken connection: the previous answer was lost
		v.t.Fatalf("%v came for nothing", p)
	}
	o := v.unacked[i]
	if p.Type != wire.PUBCOMP {
		if len(v.ackOrder) == 0 || v.ackOrder[0] != p.PacketID {
			v.t.Fatalf("%v, but the acknowledgements due are %v", p, v.ackOrder)
		}
		v.ackOrder = v.ackOrder[1:]
	}
	switch {
	case p.Type == wire.PUBREC && qosOf(o.n) == 2:
		o.released = true
		return wire.AppendAck(out, wire.Ack{Type: wire.PUBREL, PacketID: o.id})
	case p.Type == wire.PUBACK && qosOf(o.n) == 1, p.Type == wire.PUBCOMP && o.released:
		v.unacked = slices.Delete(v.unacked, i, i+1)
		return out
	}
	v.t.Fatalf("%v does not answer message %d", p, o.n)
	return nil
}

// world connects a Session and the server by a link that breaks at random, and a process that is
// killed at random.
type world struct {
	*rig
	rnd    *rand.Rand
	cfg    Config
	limits Limits
	server *server

	toServer, toClient []byte

	count   uint64 // number of messages to publish
	done    map[uint64]bool
	tried   map[uint64]bool // sent at least once; decides DUP
	after   uint64          // offered on this connection up to here
	working []*Inbound      // running handlers
	handled []uint64        // messages in the order in which their handlers began
	began   int             // number of delivered messages whose handlers began
	effects map[uint64]int  // number of finished handlers
}

func newWorld(t *testing.T, seed uint64) *world {
	rnd := rand.New(rand.NewPCG(seed, 99))
	w := &world{rnd: rnd, count: 30, done: map[uint64]bool{}, tried: map[uint64]bool{}, effects: map[uint64]int{}}
	w.cfg = Config{ReceiveMaximum: uint16(1 + rnd.IntN(8))}
	w.limits = Limits{ReceiveMaximum: uint16(1 + rnd.IntN(8))}
	w.server = &server{t: t, holding: map[uint16]bool{}, inFlight: map[uint16]bool{}, count: 30,
		max: int(w.limits.ReceiveMaximum), clientMax: int(w.cfg.ReceiveMaximum)}
	w.rig = newRig(t, w.cfg)
	w.reconnect(false)
	return w
}

func (w *world) reconnect(present bool) {
	w.toServer, w.toClient, w.after = nil, nil, 0
	w.connect(present, w.limits)
	w.toClient = w.server.connected()
}

// kill ends the process. Running handlers have no effect. The store stays.
func (w *world) kill() {
	w.working, w.delivered, w.payloads, w.began, w.g = nil, nil, nil, 0, nil
	w.start(w.cfg)
	w.reconnect(true)
}

// lose simulates a server that restarts without the session.
func (w *world) lose() {
	clear(w.server.holding)
	w.server.unacked = nil
	w.reconnect(false)
}

// drain offers one message, as the outbox does.
func (w *world) drain() {
	seq := w.after + 1
	for w.done[seq] {
		seq++
	}
	if seq > w.count {
		return
	}
	if _, released := w.store.released[seq]; released {
		w.seqs[PacketID(0, seq)] = seq
		if w.g.OfferReleased(seq, PacketID(0, seq)) == Admitted {
			w.after = seq
		}
		return
	}
	id := PacketID(0, seq)
	if w.g.Offer(seq, id, qosOf(seq)) != Admitted {
		return
	}
	w.seqs[id] = seq
	p := wire.Publish{Topic: "out", QoS: qosOf(seq), PacketID: id, Dup: w.tried[seq], Payload: fmt.Append(nil, seq)}
	w.must(w.w.Send(func(dst []byte) []byte { return wire.AppendPublish(dst, &p) }))
	w.tried[seq], w.after = true, seq
}

// step does one random action.
func (w *world) step(faults bool) {
	switch k := w.rnd.IntN(100); {
	case k < 20:
		w.drain()
	case k < 40: // a packet reaches the server
		w.flushSome()
		w.toServer = append(w.toServer, w.w.out...)
		w.w.out = nil
		if n := len(firstFrame(w.toServer).Raw); n > 0 {
			w.toClient = w.server.take(w.cut(w.toServer[:n])[0], w.toClient)
			w.toServer = w.toServer[n:]
		}
	case k < 55:
		w.toClient = w.server.next(w.toClient)
	case k < 80: // a packet reaches the client
		if f := firstFrame(w.toClient); len(f.Raw) > 0 {
			w.receive(f)
			w.toClient = w.toClient[len(f.Raw):]
		}
	case k < 95: // any handler ends
		if len(w.working) > 0 {
			i := w.rnd.IntN(len(w.working))
			in := w.working[i]
			w.working = slices.Delete(w.working, i, i+1)
			w.effects[number([]byte(w.payloads[slices.Index(w.delivered, in)]))]++
			w.must(w.s.Complete(in, 0, ""))
		}
	case !faults:
	case k < 98:
		w.reconnect(true)
	default:
		w.kill()
	}
}

// flushSome sends the queued acknowledgements, usually.
func (w *world) flushSome() {
	if w.rnd.IntN(4) > 0 {
		w.flush()
	}
}

func (w *world) receive(f wire.Frame) {
	if f.Type() == wire.PUBLISH {
		v, err := wire.ParsePublish(f)
		w.must(err)
		w.must(w.g.HandlePublish(v))
	} else {
		a, err := wire.ParseAck(f)
		w.must(err)
		w.must(w.g.HandleAck(a))
	}
	for ; w.began < len(w.delivered); w.began++ {
		w.working = append(w.working, w.delivered[w.began])
		w.handled = append(w.handled, number([]byte(w.payloads[w.began])))
	}
	for _, s := range w.settled {
		var seq uint64
		_, _ = fmt.Sscan(s, &seq)
		if w.done[seq] {
			w.t.Fatalf("message %d settled twice", seq)
		}
		w.done[seq] = true
	}
	w.settled = nil
}

func (w *world) finished() bool {
	return len(w.done) == int(w.count) && w.server.sent == w.server.count && len(w.server.unacked) == 0 && len(w.working) == 0
}

// inOrder checks that the first arrivals have the order of sending. It returns how often each
// message arrived.
func inOrder(t *testing.T, what string, arrived []uint64) map[uint64]int {
	t.Helper()
	times, last := map[uint64]int{}, uint64(0)
	for _, n := range arrived {
		if times[n]++; times[n] > 1 {
			continue
		}
		if n != last+1 {
			t.Fatalf("%s: message %d after %d: %v", what, n, last, arrived)
		}
		last = n
	}
	return times
}

// exactly checks that each QoS 2 message arrived exactly once, and each QoS 1 message at least
// once.
func exactly(t *testing.T, what string, times map[uint64]int, count uint64) {
	t.Helper()
	for n := uint64(1); n <= count; n++ {
		if times[n] == 0 || times[n] > 1 && qosOf(n) == 2 {
			t.Fatalf("%s: message %d (QoS %d): %d times", what, n, qosOf(n), times[n])
		}
	}
}

func TestModel_BrokenConnectionsAndKills(t *testing.T) {
	worlds := uint64(200)
	if testing.Short() {
		worlds = 50
	}
	for seed := range worlds {
		w := newWorld(t, seed)
		steps := 0
		for ; !w.finished(); steps++ {
			if steps > 50_000 {
				t.Fatalf("seed %d: no end: %d of %d settled, server sent %d, %d unacknowledged, %d handlers",
					seed, len(w.done), w.count, w.server.sent, len(w.server.unacked), len(w.working))
			}
			w.step(steps < 5000)
		}
		where := fmt.Sprintf("seed %d, at the server", seed)
		exactly(t, where, inOrder(t, where, w.server.received), w.count)
		where = fmt.Sprintf("seed %d, at the handlers", seed)
		inOrder(t, where, w.handled)
		exactly(t, where, w.effects, w.server.count)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// A server that loses sessions loses undelivered messages, but no published ones: each message is
// settled once and has reached the server at least once.
func TestModel_LostSessions(t *testing.T) {
	for seed := range uint64(100) {
		w := newWorld(t, 1000+seed)
		for steps := 0; len(w.done) < int(w.count); steps++ {
			if steps > 50_000 {
				t.Fatalf("seed %d: no end: %d of %d settled", seed, len(w.done), w.count)
			}
			if steps < 5000 && w.rnd.IntN(60) == 0 {
				w.lose()
			}
			w.step(steps < 5000)
		}
		times := inOrder(t, fmt.Sprintf("seed %d, at the server", seed), w.server.received)
		for n := uint64(1); n <= w.count; n++ {
			if times[n] == 0 {
				t.Fatalf("seed %d: message %d (QoS %d) counts as delivered and never came", seed, n, qosOf(n))
			}
		}
	}
}

// RunAcks runs in its own goroutine under concurrent load. It loses and reorders nothing, and ends
// with its context.
func TestRunAcks_UnderLoad(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.s.RunAcks(ctx) }()
	const count = 2000
	work := make(chan *Inbound, count)
	handlers := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { handlers <- struct{}{} }()
			for in := range work {
				if err := r.s.Complete(in, 0, ""); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for i := range count {
		r.must(r.publish(g, byte(1+i%2), uint16(i+1), "x"))
		work <- r.delivered[i]
	}
	close(work)
	for range 4 {
		<-handlers
	}
	cancel()
	<-ended
	got := r.cut(r.w.out)
	for i, p := range got {
		if p.PacketID != uint16(i+1) {
			t.Fatalf("acknowledgement %d is %v", i, p)
		}
	}
	if len(got) != count {
		t.Errorf("%d acknowledgements, want %d", len(got), count)
	}
}
