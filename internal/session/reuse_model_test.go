package session

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

var reuseHistories = flag.Int("reuse.histories", defaultReuseHistories, "how many histories TestReuse runs for each sync policy")

// reuseBreak disables a part of the session, to show that the model detects it.
type reuseBreak struct {
	sameContent bool // all messages have the same fingerprint
	unstored    bool // the store loses fingerprints at a restart
	otherKey    bool // the store loses the key at a restart
}

// brokenLog is a store that loses records.
type brokenLog struct {
	*persistence.Log
	reuseBreak
}

func (l brokenLog) SeenIDs() map[uint16]uint64 {
	seen := l.Log.SeenIDs()
	for id := range seen {
		if l.unstored {
			seen[id] = 0
		}
	}
	return seen
}

func (l brokenLog) FingerprintKey() (key [16]byte) {
	if key = l.Log.FingerprintKey(); l.otherKey {
		_, _ = rand.Read(key[:])
	}
	return key
}

// reuseRun is one process of the client. Its file system records all operations. It is connected to
// a server that is killed and restored.
type reuseRun struct {
	rnd            *mrand.Rand
	flash          bool // the store's sync policy for flash
	sloppy, lowest bool // of the server: sets DUP at random; assigns the lowest free identifier
	broken         reuseBreak

	world   *reuseWorld
	fs      *faultfs.FS
	history []reuseMoment
	log     *persistence.Log
	s       *Session
	g       *Generation
	err     error

	toClient []sending
	toServer []byte
	onLine   map[uint16]int // exchanges of this connection, by identifier
	now      sending        // the packet that is being received
	working  []reuseWork
}

// reuseMoment is the world after a number of file system operations.
type reuseMoment struct {
	at    int
	world *reuseWorld
}

type reuseWork struct {
	in     *Inbound
	n, tag int
	id     uint16
	void   bool // another message has its identifier
}

func (x *reuseRun) fail(format string, args ...any) {
	if x.err == nil {
		x.err = fmt.Errorf(format, args...)
	}
}

func (x *reuseRun) check(err error) {
	if err != nil {
		x.fail("%w", err)
	}
}

func (x *reuseRun) note() {
	x.history = append(x.history, reuseMoment{x.fs.Len(), x.world.clone()})
}

// Send and Fail implement session.Writer.
func (x *reuseRun) Send(encode func([]byte) []byte) error {
	before := len(x.toServer)
	x.toServer = encode(x.toServer)
	for out := x.toServer[before:]; len(out) > 0; {
		f := firstFrame(out)
		out = out[len(f.Raw):]
		if a, err := wire.ParseAck(f); err != nil {
			x.fail("%w", err)
		} else if tag, ok := x.onLine[a.PacketID]; ok && a.Type == wire.PUBREC && a.Reason < 0x80 {
			x.world.acked[tag] = a.PacketID
		}
	}
	return nil
}

func (x *reuseRun) Fail(err error) { x.fail("the connection failed: %w", err) }

// begin opens the store and connects.
func (x *reuseRun) begin(present bool) {
	o := persistence.Options{}
	if x.flash {
		o = persistence.Flash(24 * time.Hour)
	}
	o.FS, o.Files = x.fs, persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10, PreallocateBytes: -1}
	var err error
	if x.log, err = persistence.Open("log", o); err != nil {
		x.fail("%w", err)
		return
	}
	x.working, x.g = nil, nil
	x.s = New(Config{Store: brokenLog{x.log, x.broken}, Deliver: x.deliver, Room: func() {}, Settled: func(uint64, byte, string) {}})
	x.connect(present)
}

// end closes the log of a killed process. Its writes are ignored.
func (x *reuseRun) end() {
	if x.log != nil {
		x.check(x.log.Close())
	}
}

func (x *reuseRun) connect(present bool) {
	if x.g != nil {
		x.s.Detach(x.g)
	}
	x.toClient, x.toServer, x.onLine = nil, nil, map[uint16]int{}
	if x.s.Begin(present) {
		for i := range x.working {
			x.working[i].void = true
		}
		clear(x.world.acked)
		x.note()
		x.check(x.log.ResetSession("c"))
	}
	x.g = x.s.Attach(x, Limits{})
	for i := range x.world.broker.flight {
		x.send(&x.world.broker.flight[i], true)
	}
}

func (x *reuseRun) deliver(in *Inbound, _ string, v wire.PublishView) {
	p := v.Decode("")
	w := reuseWork{in: in, n: int(number([]byte(p.ContentType))), tag: x.now.tag, id: v.PacketID}
	if v.QoS == 2 {
		_, acked := x.world.acked[w.tag]
		if acked || slices.ContainsFunc(x.working, func(o reuseWork) bool { return o.tag == w.tag && !o.void }) {
			x.fail("a repetition of message %d (exchange %d, identifier %d) was delivered", w.n, w.tag, w.id)
		}
	}
	for i, o := range x.working {
		x.working[i].void = o.void || o.id == w.id
	}
	x.working = append(x.working, w)
}

// receive makes the client receive a packet.
func (x *reuseRun) receive() {
	if len(x.toClient) == 0 {
		return
	}
	x.now, x.toClient = x.toClient[0], x.toClient[1:]
	f := firstFrame(x.now.raw)
	if f.Type() == wire.PUBLISH {
		x.onLine[x.now.id] = x.now.tag
		x.world.free(x.now.id, x.now.tag)
		v, err := wire.ParsePublish(f)
		x.check(err)
		x.check(x.g.HandlePublish(v))
	} else {
		x.world.free(x.now.id, 0)
		a, err := wire.ParseAck(f)
		x.check(err)
		x.check(x.g.HandleAck(a))
	}
	x.note()
}

// handle makes a handler end after its effect.
func (x *reuseRun) handle(i int) {
	w := x.working[i]
	x.working = slices.Delete(x.working, i, i+1)
	if x.rnd.IntN(12) == 0 {
		x.check(x.s.Complete(w.in, 0x83, ""))
		return
	}
	x.world.handled[w.n] = true
	x.note()
	x.check(x.s.Complete(w.in, 0, ""))
}

// acknowledge sends acknowledgements to the server.
func (x *reuseRun) acknowledge() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	x.s.RunAcks(ctx)
	x.note()
	for len(x.toServer) > 0 {
		f := firstFrame(x.toServer)
		a, err := wire.ParseAck(f)
		x.check(err)
		x.toServer = x.toServer[len(f.Raw):]
		x.answer(a)
	}
	x.note()
}

func (x *reuseRun) step() {
	switch k := x.rnd.IntN(100); {
	case k < 12:
		if x.world.publish(); x.rnd.IntN(3) > 0 {
			x.next()
		}
	case k < 25:
		x.next()
	case k < 50:
		x.receive()
	case k < 68:
		if len(x.working) > 0 {
			x.handle(x.rnd.IntN(len(x.working)))
		}
	case k < 84:
		x.acknowledge()
	case k < 89:
		x.world.save()
	case k < 93:
		x.connect(true)
	case k < 99:
		x.world.restore(func() bool { return x.rnd.IntN(4) > 0 })
		x.connect(true)
	default:
		x.world.broker.flight = nil
		x.connect(false)
	}
	x.note()
}

// finish delivers all messages.
func (x *reuseRun) finish() {
	for range 1000 {
		b := &x.world.broker
		if x.err != nil || len(b.queue)+len(b.flight)+len(x.toClient)+len(x.working) == 0 {
			return
		}
		x.next()
		x.receive()
		for len(x.working) > 0 {
			x.handle(0)
		}
		x.acknowledge()
		if len(x.toClient) == 0 && len(b.flight) > 0 {
			x.connect(true) // after a refusal, or an answer on an older connection
		}
	}
	x.fail("it does not come to an end: %+v", x.world.broker)
}

// reuseModel runs histories. Each history has several processes. At each operation of their file
// systems, a power failure of client and server is simulated, after which both continue.
type reuseModel struct {
	flash   bool
	broken  reuseBreak
	crashes int
}

func (m *reuseModel) run(seed uint64) error {
	rnd := mrand.New(mrand.NewPCG(seed, 12))
	world := &reuseWorld{handled: map[int]bool{}, acked: map[int]uint16{}}
	fs := faultfs.New()
	for life := range 2 {
		x := &reuseRun{rnd: rnd, flash: m.flash, sloppy: seed%3 == 0, lowest: seed%2 == 0, broken: m.broken, world: world, fs: fs}
		x.note()
		x.begin(life > 0)
		for range 12 + rnd.IntN(25) {
			if x.err != nil {
				break
			}
			x.step()
		}
		if x.err != nil {
			x.end()
			return fmt.Errorf("life %d: %w", life, x.err)
		}
		trace := fs.Trace()
		fs = fs.Killed()
		if world = x.world.clone(); rnd.IntN(2) == 0 {
			world.restore(func() bool { return rnd.IntN(4) > 0 })
		}
		x.end()
		for state := range trace.States(faultfs.Plan{PerCut: 1 + int(seed%2), Seed: seed + uint64(life)<<32}) {
			m.crashes++
			if err := m.crash(x, state, rnd.Uint64()); err != nil {
				return fmt.Errorf("life %d, %v: %w", life, state, err)
			}
		}
	}
	return nil
}

// crash continues after a power failure of client and server.
func (m *reuseModel) crash(before *reuseRun, state *faultfs.State, seed uint64) error {
	rnd := mrand.New(mrand.NewPCG(seed, 13))
	last := 0
	for i, moment := range before.history {
		if moment.at <= state.Cut {
			last = i
		}
	}
	for last > 0 && before.history[last-1].at == state.Cut && rnd.IntN(2) == 0 {
		last--
	}
	world := before.history[last].world.clone()
	if m.flash {
		clear(world.acked) // the records may be lost
	}
	if rnd.IntN(3) > 0 {
		world.restore(func() bool { return rnd.IntN(4) > 0 })
	}
	x := &reuseRun{rnd: rnd, flash: m.flash, sloppy: before.sloppy, lowest: before.lowest, broken: m.broken, world: world, fs: state.FS()}
	x.begin(true)
	for range rnd.IntN(8) {
		if x.err == nil {
			x.step()
		}
	}
	if x.err == nil {
		x.finish()
	}
	x.end()
	return x.err
}

// A server that is killed and restored reuses packet identifiers. The client is killed or loses
// power at each file operation. The server gets no acknowledgement for an unhandled message, and a
// repetition that the client must recognize is not delivered.
func TestReuse_AcknowledgesOnlyHandledMessages(t *testing.T) {
	for _, flash := range []bool{false, true} {
		t.Run(map[bool]string{false: "every commit", true: "flash"}[flash], func(t *testing.T) {
			t.Parallel()
			m := reuseModel{flash: flash}
			histories := *reuseHistories
			if testing.Short() {
				histories /= 10
			}
			for seed := range uint64(histories) {
				if err := m.run(seed); err != nil {
					t.Fatalf("history %d: %v", seed, err)
				}
			}
			t.Logf("%d histories, %d crashes", histories, m.crashes)
		})
	}
}

// The model detects a disabled check, including one on disk.
func TestReuse_DetectsBrokenChecks(t *testing.T) {
	for _, c := range []struct {
		name  string
		what  reuseBreak
		flash bool
	}{
		{"no check", reuseBreak{sameContent: true}, false},
		{"no check, flash", reuseBreak{sameContent: true}, true},
		{"no fingerprints on disk", reuseBreak{unstored: true}, false},
		{"no fingerprints on disk, flash", reuseBreak{unstored: true}, true},
		{"no key on disk", reuseBreak{otherKey: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := reuseModel{flash: c.flash, broken: c.what}
			for seed := range uint64(1000) {
				if err := m.run(seed); err != nil {
					t.Logf("history %d, after %d crashes: %v", seed, m.crashes, err)
					return
				}
			}
			t.Error("nothing was found in 1,000 histories")
		})
	}
}
