package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fakeStore keeps records, and which of them a Sync has made durable.
type fakeStore struct {
	mu                                    sync.Mutex
	released                              map[uint64]bool // true: durable
	seen                                  map[uint16]bool // true: durable
	prints                                map[uint16]uint64
	clearing                              map[uint16]bool // cleared, not yet durable
	syncs, resets                         int
	failRelease, failSeen, failClear, err error // err: of Sync
}

func newStore() *fakeStore {
	return &fakeStore{released: map[uint64]bool{}, seen: map[uint16]bool{}, prints: map[uint16]uint64{}, clearing: map[uint16]bool{}}
}

func (f *fakeStore) Release(seq uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failRelease == nil && !f.released[seq] {
		f.released[seq] = false
	}
	return f.failRelease
}

func (f *fakeStore) Seen(id uint16, fingerprint uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failSeen == nil {
		f.seen[id], f.prints[id] = false, fingerprint
		delete(f.clearing, id)
	}
	return f.failSeen
}

func (f *fakeStore) Cleared(id uint16) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failClear == nil {
		delete(f.seen, id)
		delete(f.prints, id)
		f.clearing[id] = true
	}
	return f.failClear
}

func (f *fakeStore) SeenIDs() map[uint16]uint64 {
	ids := map[uint16]uint64{}
	for id := range f.seen {
		ids[id] = f.prints[id]
	}
	return ids
}

func (f *fakeStore) FingerprintKey() [16]byte { return [16]byte{1} }

// reset voids the session, as the caller of Begin does.
func (f *fakeStore) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.released)
	clear(f.seen)
	clear(f.prints)
	clear(f.clearing)
	f.resets++
}

func (f *fakeStore) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.syncs++
	for seq := range f.released {
		f.released[seq] = true
	}
	for id := range f.seen {
		f.seen[id] = true
	}
	clear(f.clearing)
	return nil
}

// unsynced returns the record that must be synced before a may be sent, or "".
func (f *fakeStore) unsynced(a wire.Ack, seqOf func(id uint16) uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case a.Type == wire.PUBREL && a.Reason == 0 && !f.released[seqOf(a.PacketID)]:
		return "the released record"
	case a.Type == wire.PUBREC && a.Reason == 0 && !f.seen[a.PacketID]:
		return "the seen record"
	case a.Type == wire.PUBCOMP && f.clearing[a.PacketID]:
		return "the cleared record"
	}
	return ""
}

// fakeWriter is one connection. It checks that nothing is sent before the required sync.
type fakeWriter struct {
	r      *rig
	out    []byte // sent, not yet read
	sends  int
	failed error
}

func (w *fakeWriter) Send(encode func([]byte) []byte) error {
	if w.failed != nil {
		return w.failed
	}
	w.sends++
	before := len(w.out)
	w.out = encode(w.out)
	for _, p := range w.r.cut(w.out[before:]) {
		if p.Type == wire.PUBLISH {
			continue
		}
		if what := w.r.store.unsynced(p.Ack, w.r.seqOf); what != "" {
			w.r.t.Errorf("%v of %d left before %s was durable", p.Type, p.PacketID, what)
		}
	}
	return nil
}

func (w *fakeWriter) Fail(err error) {
	if w.failed == nil {
		w.failed = err
	}
}

// packet is a packet that the session has sent.
type packet struct {
	wire.Ack              // if it is not a PUBLISH
	pub      wire.Publish // if it is a PUBLISH
}

func (p packet) String() string {
	if p.Type == wire.PUBLISH {
		return fmt.Sprintf("PUBLISH %d dup=%v %s", p.PacketID, p.pub.Dup, p.pub.Payload)
	}
	if p.Reason != 0 {
		return fmt.Sprintf("%v %d 0x%02X", p.Type, p.PacketID, p.Reason)
	}
	return fmt.Sprintf("%v %d", p.Type, p.PacketID)
}

// rig is a Session with a fake store, and records all output.
type rig struct {
	t         testing.TB
	store     *fakeStore
	s         *Session
	w         *fakeWriter
	g         *Generation
	seqs      map[uint16]uint64
	delivered []*Inbound // nil at QoS 0
	topics    []string
	payloads  []string
	settled   []string
	lost      [][]uint64
	rooms     int
}

func newRig(t testing.TB, cfg Config) *rig {
	r := &rig{t: t, store: newStore(), seqs: map[uint16]uint64{}}
	r.start(cfg)
	return r
}

func (r *rig) start(cfg Config) {
	cfg.Store = r.store
	cfg.Settled = func(seq uint64, reason byte, text string) {
		r.settled = append(r.settled, fmt.Sprintf("%d 0x%02X %s", seq, reason, text))
	}
	cfg.Deliver = func(in *Inbound, topic string, v wire.PublishView) {
		r.delivered = append(r.delivered, in)
		r.topics = append(r.topics, topic)
		r.payloads = append(r.payloads, string(v.Payload))
	}
	cfg.Room = func() { r.rooms++ }
	r.s = New(cfg)
}

// connect attaches a new connection.
func (r *rig) connect(present bool, limits Limits) *Generation {
	r.t.Helper()
	if r.g != nil {
		r.s.Detach(r.g)
	}
	r.w = &fakeWriter{r: r}
	if r.s.Begin(present) {
		r.lost = append(r.lost, r.s.Unacked())
		r.store.reset()
	}
	r.g = r.s.Attach(r.w, limits)
	if left := r.s.Unacked(); !r.g.Present && len(left) > 0 {
		r.t.Errorf("%v are in flight in a new session", left)
	}
	return r.g
}

// flush sends all queued acknowledgements.
func (r *rig) flush() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.s.RunAcks(ctx)
}

// sent returns the packets sent on the current connection since the last call.
func (r *rig) sent() (packets []packet) {
	r.flush()
	packets = r.cut(r.w.out)
	r.w.out = nil
	return packets
}

func (r *rig) cut(b []byte) (packets []packet) {
	for len(b) > 0 {
		f := firstFrame(b)
		b = b[len(f.Raw):]
		var err error
		var p packet
		if f.Type() == wire.PUBLISH {
			v, perr := wire.ParsePublish(f)
			p.pub, err = v.Decode(string(v.Topic)), perr
			p.Type, p.PacketID = wire.PUBLISH, v.PacketID
		} else {
			p.Ack, err = wire.ParseAck(f)
			p.ReasonString = bytes.Clone(p.ReasonString)
		}
		if err != nil {
			r.t.Fatalf("the session sent a bad packet: %v", err)
		}
		packets = append(packets, p)
	}
	return packets
}

// firstFrame returns the first packet in b. Its Raw is empty if there is none.
func firstFrame(b []byte) wire.Frame {
	if len(b) < 2 {
		return wire.Frame{}
	}
	length, n := wire.Varint(b[1:])
	raw := b[:1+n+int(length)]
	return wire.Frame{Header: raw[0], Body: raw[1+n:], Raw: raw}
}

// want checks that exactly these packets were sent.
func (r *rig) want(packets ...string) {
	r.t.Helper()
	var got []string
	for _, p := range r.sent() {
		got = append(got, p.String())
	}
	if fmt.Sprint(got) != fmt.Sprint(packets) {
		r.t.Fatalf("sent %q, want %q", got, packets)
	}
}

// publish makes the session receive a PUBLISH.
func (r *rig) publish(g *Generation, qos byte, id uint16, payload string) error {
	return r.arrive(g, wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: []byte(payload)})
}

// again makes a resumed session receive a redelivered PUBLISH.
func (r *rig) again(g *Generation, qos byte, id uint16, payload string) error {
	return r.arrive(g, wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: []byte(payload), Dup: true})
}

func (r *rig) arrive(g *Generation, p wire.Publish) error {
	v, err := wire.ParsePublish(firstFrame(wire.AppendPublish(nil, &p)))
	if err != nil {
		r.t.Fatal(err)
	}
	return g.HandlePublish(v)
}

func (r *rig) ack(g *Generation, typ wire.Type, id uint16) error {
	return g.HandleAck(wire.Ack{Type: typ, PacketID: id})
}

// offer offers a message and returns its identifier.
func (r *rig) offer(seq uint64, qos byte) uint16 {
	r.t.Helper()
	id := PacketID(0, seq)
	answer := r.g.Offer(seq, id, qos)
	if answer != Admitted {
		r.t.Fatalf("message %d was not admitted: %v", seq, answer)
	}
	r.seqs[id] = seq
	return id
}

func (r *rig) seqOf(id uint16) uint64 { return r.seqs[id] }

// must fails the test on an error.
func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// wantCode checks that err is a *wire.Error with this reason code.
func (r *rig) wantCode(err error, code byte) {
	r.t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		r.t.Fatalf("got %v, want a *wire.Error with 0x%02X", err, code)
	}
}
