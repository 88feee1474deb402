package client_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestOrdering_RandomFleets: devices with one name publish at random: restored copies, clones,
// counters that start again or wrap, lower and higher epochs, messages without ID. Links are cut, and
// the receiver restarts. No message is dropped without a report, and none with an ID is handled twice.
func TestOrdering_RandomFleets(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
			f := newOrderFleet(t, seed, b, proxy)
			f.run()
			if t.Failed() {
				t.Fatalf("seed %d, with Dedupe: %v, %+v", seed, f.cache != nil, f.opts)
			}
		})
	}
}

// numberedDevice is a publisher. Several have the same name.
type numberedDevice struct{ epoch, seq uint64 }

type orderFleet struct {
	*testing.T
	rnd     *rand.Rand
	proxy   *mqtttest.Proxy
	devices []numberedDevice
	pub     *peer
	sent    []wire.Publish
	cache   dedupe.Cache
	opts    ordering.Options
	store   *persistence.Memory
	c       *client.Client

	mu       sync.Mutex
	handled  map[string]int
	reported map[string]bool
	inOrder  map[uint64]uint64 // the last number by epoch, in this life of the client
	position client.Position
}

func newOrderFleet(t *testing.T, seed uint64, b *mqtttest.Broker, proxy *mqtttest.Proxy) *orderFleet {
	rnd := rand.New(rand.NewPCG(seed, 12))
	f := &orderFleet{T: t, rnd: rnd, proxy: proxy, devices: []numberedDevice{{epoch: 5}}, store: persistence.NewMemory(persistence.Options{}),
		handled: map[string]int{}, reported: map[string]bool{}}
	f.opts = ordering.Options{Start: ordering.Start(rnd.IntN(2)), Late: ordering.LatePolicy(rnd.IntN(2)), GapTimeout: time.Second, MaxHeldPerKey: 1 + rnd.IntN(8)}
	if rnd.IntN(2) == 0 {
		f.cache = dedupe.NewMemory(dedupe.Options{})
	}
	f.pub = rawClient(t, b.Dial(), "device")
	return f
}

// rawClient connects without the client.
func rawClient(t *testing.T, nc net.Conn, id string) *peer {
	p := &peer{t: t, nc: &turns{nc, make(chan struct{}, 1)}, got: make(chan wire.Frame, 1<<10)}
	go p.read()
	p.send(control.AppendConnect(nil, &control.Connect{ClientID: id, CleanStart: true}))
	p.next(wire.CONNACK)
	t.Cleanup(p.close)
	return p
}

func (f *orderFleet) run() {
	f.start()
	for range 80 {
		f.step()
		if f.rnd.IntN(3) == 0 {
			time.Sleep(time.Duration(f.rnd.IntN(300)) * time.Millisecond)
		}
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	must(f, f.c.Close())
	for _, m := range f.sent {
		text, hasID := string(m.Payload), userProperty(m, client.PropID) != ""
		switch n := f.handled[text]; {
		case n == 0 && !f.reported[text]:
			f.Errorf("message %s was dropped without a report", text)
		case n > 1 && hasID:
			f.Errorf("message %s was handled %d times", text, n)
		}
	}
}

func (f *orderFleet) start() {
	cfg := testConfig("receiver", &recorder{}, through(f.proxy))
	cfg.Store.Custom = f.store
	order := client.Ordering{Options: f.opts}
	f.mu.Lock()
	if f.position.Seq != 0 && f.cache == nil {
		order.Restore = []client.Position{f.position}
	}
	f.inOrder = map[uint64]uint64{}
	f.mu.Unlock()
	cfg.Receiving.Ordering, cfg.Receiving.Dedupe = &order, f.cache
	cfg.OnEvent = f.event
	f.c = mustNew(f, cfg)
	must(f, f.c.Handle("t", client.HandlerFunc(f.handle)))
	start(f, f.c)
	connect(f, f.c)
	must1(f.c.Subscribe(f.Context(), "t", client.AtLeastOnce, client.HandlerFunc(f.handle)))
}

func (f *orderFleet) event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.LateDropped:
		f.reported[string(e.Message.Payload)] = true
	case client.NumberRepeated:
		f.reported[string(e.Message.Payload)] = true
		if !e.Message.ID.IsZero() {
			f.Errorf("message %s has an ID, and was dropped", e.Message.Payload)
		}
	case client.NumberReused:
		if !e.Message.OutOfOrder {
			f.Errorf("message %s is not marked", e.Message.Payload)
		}
	}
}

func (f *orderFleet) handle(_ context.Context, m *client.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handled[string(m.Payload)]++
	if !m.ID.IsZero() {
		f.position.IDs = append(f.position.IDs, m.ID)
	}
	if m.OutOfOrder {
		return nil
	}
	o := m.Origin
	if last := f.inOrder[o.Epoch]; o.Seq <= last {
		f.Errorf("message %s of epoch %d: %d was handled after %d, and is not marked", m.Payload, o.Epoch, o.Seq, last)
	}
	f.inOrder[o.Epoch] = o.Seq
	f.position.Publisher, f.position.Topic, f.position.Epoch, f.position.Seq = o.Publisher, m.Topic, o.Epoch, o.Seq
	return nil
}

func (f *orderFleet) step() {
	d := &f.devices[f.rnd.IntN(len(f.devices))]
	switch f.rnd.IntN(24) {
	case 0: // cloned
		f.devices = append(f.devices, *d)
	case 1: // restored from a copy
		d.seq -= min(d.seq, uint64(f.rnd.IntN(10)))
	case 2: // starts again
		d.seq = 0
	case 3: // its clock was set back, or forward
		d.epoch, d.seq = uint64(f.rnd.IntN(10)), 0
	case 4: // about to wrap
		d.seq = math.MaxUint64 - uint64(f.rnd.IntN(4))
	case 5: // lost
		d.seq += uint64(f.rnd.IntN(3))
	case 6:
		f.proxy.Cut()
	case 7: // the receiver restarts
		must(f, f.c.Close())
		f.store = f.store.Reopen()
		f.start()
	case 8, 9: // published again
		if len(f.sent) > 0 {
			f.publish(f.sent[f.rnd.IntN(len(f.sent))])
		}
	default:
		if d.seq++; d.seq == 0 { // wrapped; 0 stands for no number
			d.seq = 1
		}
		m := numbered("t", 1, d.epoch, d.seq)
		m.Payload = fmt.Append(nil, len(f.sent))
		if id := fmt.Sprint("message ", len(f.sent)); f.rnd.IntN(8) > 0 {
			m = withID(m, id)
			m.Payload = m.Payload[:len(m.Payload)-len(id)]
		} else {
			m = withID(m, "")
		}
		f.sent = append(f.sent, m)
		f.publish(m)
	}
}

func (f *orderFleet) publish(m wire.Publish) {
	f.pub.publish(m)
	if a := f.pub.nextAck(wire.PUBACK); a.Reason != 0 {
		f.Fatalf("PUBACK 0x%02X", a.Reason)
	}
}
