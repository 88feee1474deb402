package outbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// conn is one connection: a session.Writer that keeps the packets sent to it.
type conn struct {
	mu     sync.Mutex
	sent   []wire.Frame
	taken  int                    // number of packets of sent that take has returned
	over   bool                   // Send returns an error before it encodes
	breaks bool                   // Send returns an error after it has encoded
	onSend func(wire.PublishView) // called for each PUBLISH that is sent
}

var errOver = errors.New("the connection has ended")

func (c *conn) Send(encode func([]byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errOver
	}
	for b := encode(nil); len(b) > 0; {
		length, n := wire.Varint(b[1:])
		size := 1 + n + int(length)
		f := wire.Frame{Header: b[0], Raw: b[:size], Body: b[1+n : size]}
		b = b[size:]
		c.sent = append(c.sent, f)
		if f.Type() == wire.PUBLISH && c.onSend != nil {
			c.onSend(publishOf(f))
		}
	}
	if c.breaks {
		return errOver
	}
	return nil
}

func (c *conn) Fail(error) {}

// take returns the packets sent since the last call.
func (c *conn) take() []wire.Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.sent[c.taken:]
	c.taken = len(c.sent)
	return frames
}

func publishOf(f wire.Frame) wire.PublishView {
	v, err := wire.ParsePublish(f)
	if err != nil {
		panic(err)
	}
	return v
}

// rig is an outbox with an in-memory store and a session on a scripted connection. Its methods must
// run in a synctest bubble.
type rig struct {
	t     testing.TB
	cfg   outbox.Config
	store *persistence.Memory
	o     *outbox.Outbox
	s     *session.Session
	g     *session.Generation
	c     *conn
	stop  func() // ends the goroutines and waits for them

	mu     sync.Mutex
	ended  []outbox.End
	failed []error
	purges []int // arguments of PurgeFailed
}

func newRig(t testing.TB, cfg outbox.Config, store *persistence.Memory) *rig {
	r := &rig{t: t, cfg: cfg, store: store}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start creates an outbox and a session from the content of the store.
func (r *rig) start() {
	cfg := r.cfg
	if cfg.Store == nil {
		cfg.Store = r.store
	}
	if cfg.Breaker == nil {
		cfg.Breaker = reliability.NewBreaker(reliability.BreakerOptions{Judge: func(error) reliability.Judgment { return reliability.Ignored }})
	}
	cfg.Describe = describe
	cfg.Ended = func(e outbox.End) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = append(r.ended, e)
	}
	cfg.PurgeFailed = func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.purges = append(r.purges, n)
	}
	cfg.StoreFailed = func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failed = append(r.failed, err)
	}
	o := outbox.New(cfg)
	r.o = o
	r.s = session.New(session.Config{Store: r.store, Settled: o.Acknowledged, Room: o.Wake})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx) })
	running.Go(func() { r.s.RunAcks(ctx) })
	r.stop = func() { cancel(); running.Wait() }
}

// describe puts all facts of an End into one text.
func describe(e outbox.End) error {
	return fmt.Errorf("cause %d, reason 0x%02X, %q, %d attempts: %w", e.Cause, e.Reason, e.Text, e.Attempts, e.Err)
}

// message returns a draft whose payload and ID are n.
func message(n uint64, qos byte) *outbox.Draft {
	d := &outbox.Draft{}
	binary.BigEndian.PutUint64(d.ID[:], n)
	d.Encode = func(dst []byte, number uint64) []byte {
		return wire.AppendPublish(dst, &wire.Publish{Topic: "t", QoS: qos, Payload: binary.BigEndian.AppendUint64(nil, n)})
	}
	return d
}

// indexOf returns the n of a sent message.
func indexOf(v wire.PublishView) uint64 { return binary.BigEndian.Uint64(v.Payload) }

// add adds a message that must be accepted.
func (r *rig) add(d *outbox.Draft) *outbox.Waiter {
	r.t.Helper()
	w := new(outbox.Waiter)
	if err := r.o.Add(context.Background(), d, w); err != nil {
		r.t.Fatal(err)
	}
	return w
}

// connect begins a connection and lets the outbox send.
func (r *rig) connect(present bool, limits session.Limits) *conn {
	r.t.Helper()
	r.attach(present, limits)
	r.o.Connected(r.g)
	synctest.Wait()
	return r.c
}

func (r *rig) attach(present bool, limits session.Limits) {
	r.t.Helper()
	if limits.MaximumQoS == 0 {
		limits.MaximumQoS, limits.RetainAvailable = 2, true
	}
	if r.s.Begin(present) {
		if err := r.o.ResetSession("owner", r.s.Unacked()); err != nil {
			r.t.Fatal(err)
		}
	}
	r.c = &conn{}
	r.g = r.s.Attach(r.c, limits)
}

// cut ends the connection. reason is the reason code of a DISCONNECT, or 0.
func (r *rig) cut(reason byte) {
	r.s.Detach(r.g)
	r.o.Disconnected(r.g, reason)
	r.g, r.c = nil, nil
	synctest.Wait()
}

// ack makes the session receive an acknowledgement.
func (r *rig) ack(kind wire.Type, id uint16, reason byte) {
	r.t.Helper()
	if err := r.g.HandleAck(wire.Ack{Type: kind, PacketID: id, Reason: reason, ReasonString: []byte("text")}); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// want checks the packets since the last call. A message is given by its number, with a + if it has
// DUP; another packet by its type.
func (r *rig) want(packets ...string) {
	r.t.Helper()
	synctest.Wait()
	var got []string
	for _, f := range r.c.take() {
		got = append(got, packet(f))
	}
	if fmt.Sprint(got) != fmt.Sprint(packets) {
		r.t.Fatalf("sent %v, want %v", got, packets)
	}
}

func packet(f wire.Frame) string {
	if f.Type() != wire.PUBLISH {
		return f.Type().String()
	}
	v := publishOf(f)
	dup := ""
	if v.Dup {
		dup = "+"
	}
	return fmt.Sprint(dup, indexOf(v))
}

// wantState checks the current result.
func wantState(t testing.TB, w *outbox.Waiter, want outbox.State) outbox.Result {
	t.Helper()
	got := w.Result()
	if got.State != want {
		t.Errorf("the state is %d (%v), want %d", got.State, got.Err, want)
	}
	return got
}

// bubble runs a test with fake time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

const second = time.Second

// finalRefusals end each message that the server refuses.
var finalRefusals = []deferral.Rule{{Action: deferral.GiveUp}}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
