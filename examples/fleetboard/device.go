package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// device is one simulated device: a client, its store, which a crash does not affect, and its link to
// the broker. It knows its actual state.
type device struct {
	name, version string
	o             *options
	place         *place
	link          *mqtttest.Proxy
	flash         *persistence.Memory // its store, which survives a crash
	client        atomic.Pointer[client.Client]
	connections   atomic.Int64 // number of connections of all boots
	quiet         atomic.Bool  // it publishes no more readings, but stays connected
	connected     chan struct{}

	mu      sync.Mutex
	cancel  context.CancelFunc // ends the current boot; nil: the device is off
	running sync.WaitGroup     // goroutines of the current boot
	trouble trouble
	until   time.Time // when trouble ends; zero: it does not end by itself
	there   bool      // the device runs, and its link works
	changed time.Time // last change of there
	closed  bool
}

// trouble is the present fault of a device.
type trouble string

const (
	fine    trouble = ""
	down    trouble = "link down"
	stalled trouble = "link stalled"
	slow    trouble = "link slow"
	crashed trouble = "crashed"
	off     trouble = "switched off"
)

// reading is the payload of a reading.
type reading struct {
	Value float64 `json:"value"`
	At    int64   `json:"at"` // time of the reading, Unix time in nanoseconds
}

// selfReport contains the counters that a device publishes.
type selfReport struct {
	Pending    uint64 `json:"pending"`
	Accepted   uint64 `json:"accepted"`
	Dropped    uint64 `json:"dropped"`
	Reconnects int64  `json:"reconnects"`
}

// maxBacklog is the maximum number of pending readings of a device. Beyond it, the store drops the
// oldest reading.
const maxBacklog = 1000

func newDevice(i int, p *place, o *options) *device {
	d := &device{name: fmt.Sprintf("%s-%04d", [...]string{"pump", "press", "oven", "lift", "scale"}[i%5], i+1),
		version: [...]string{"1.4.2", "1.4.2", "1.4.2", "1.5.0-rc1"}[i%4], o: o, place: p, link: p.link(), changed: time.Now(),
		connected: make(chan struct{}, 1)}
	d.flash = persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxMessages: maxBacklog, WhenFull: persistence.DropOldest},
		Files: persistence.Files{SegmentBytes: 64 << 10, BufferBytes: 4 << 10}, Retention: persistence.Retention{MaxDeadLetters: -1}})
	return d
}

// bootLocked starts the device with a new client.
func (d *device) bootLocked() error {
	keepAlive, heartbeat, delay := d.o.keepAlive, d.o.heartbeat, d.o.willDelay
	c, err := client.New(client.Config{
		Servers: []string{d.place.url},
		Connection: client.ConnectionConfig{
			Dial:              func(context.Context, *url.URL) (net.Conn, error) { return d.link.Dial() },
			Username:          d.o.user,
			Password:          password(d.o),
			KeepAlive:         keepAlive,
			Backoff:           reliability.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second},
			StableAfter:       2 * time.Second,
			ConnectTimeout:    5 * time.Second,
			WriteTimeout:      5 * time.Second,
			AckTimeout:        8 * time.Second,
			CloseTimeout:      time.Second,
			MaximumPacketSize: 64 << 10,
		},
		ClientID:  clientID(d.place, d.name),
		Logger:    slog.New(slog.DiscardHandler), // the board shows the states
		Store:     client.StoreConfig{Custom: d.flash},
		Session:   client.SessionConfig{Expiry: 10 * time.Minute},
		Presence:  client.PresenceConfig{Status: &client.Status{Topic: d.place.topic(d.name, "status"), Structured: true, Version: d.version, Heartbeat: heartbeat, Delay: delay}},
		Receiving: client.ReceivingConfig{Concurrency: 1},
		OnEvent: func(e client.Event) {
			if _, ok := e.(client.Connected); ok {
				d.connections.Add(1)
				select {
				case d.connected <- struct{}{}:
				default:
				}
			}
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := c.Start(ctx); err != nil {
		cancel()
		return err
	}
	d.cancel = cancel
	d.client.Store(c)
	d.running.Go(func() { d.measure(ctx, c) })
	return nil
}

// measure publishes readings and reports until the boot ends.
func (d *device) measure(ctx context.Context, c *client.Client) {
	phase := time.NewTimer(rand.N(d.o.every)) // so that the devices do not all publish at the same time
	defer phase.Stop()
	select {
	case <-ctx.Done():
		return
	case <-phase.C:
	}
	tick := time.NewTicker(d.o.every)
	defer tick.Stop()
	for n := 0; !d.quiet.Load(); n++ {
		d.report(ctx, c)
		r := reading{Value: math.Round(700+40*math.Sin(float64(n)/30)+10*rand.Float64()) / 10, At: time.Now().UnixNano()}
		if payload, err := json.Marshal(r); err == nil {
			// Publish fails only when the client ends; then this function returns too.
			_, _ = c.Publish(ctx, client.Message{Topic: d.place.topic(d.name, "readings"), Payload: payload, QoS: client.AtLeastOnce})
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-c.Done():
				return
			case <-d.connected: // report the backlog before it has been sent
				d.report(ctx, c)
			case <-tick.C:
				waiting = false
			}
		}
	}
}

// report publishes the counters of the device with QoS 0. So it does not wait for the backlog. Without
// a connection it is lost, and a later report replaces it.
func (d *device) report(ctx context.Context, c *client.Client) {
	st := d.flash.Stats()
	r := selfReport{Pending: st.Pending, Accepted: st.Accepted, Dropped: st.Dropped, Reconnects: max(d.connections.Load()-1, 0)}
	if payload, err := json.Marshal(r); err == nil {
		_, _ = c.Publish(ctx, client.Message{Topic: d.place.topic(d.name, "stats"), Payload: payload}) // an error does not matter
	}
}

// suffer causes a fault for the time forHow. With 0, the fault does not end by itself.
func (d *device) suffer(t trouble, forHow time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.healLinkLocked()
	d.trouble, d.until = t, time.Time{}
	if forHow > 0 {
		d.until = time.Now().Add(forHow)
	}
	switch t {
	case down:
		d.link.Refuse(true)
		d.link.Cut()
	case stalled:
		d.link.Stall()
	case slow:
		d.link.Delay(300*time.Millisecond, 200*time.Millisecond)
		d.link.Throttle(2000)
	case crashed, off:
		d.endLocked(t == off)
	}
	d.noteLocked()
}

// cut ends the connection once. The device may reconnect at once.
func (d *device) cut() { d.link.Cut() }

// recover ends the fault if its time has passed. With force, it ends any fault.
func (d *device) recover(force bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || !force && (d.until.IsZero() || time.Now().Before(d.until)) {
		return nil
	}
	if c := d.client.Load(); d.cancel == nil && c != nil {
		select {
		case <-c.Done():
		default: // the client of the last boot has not ended yet; try again later
			d.until = time.Now()
			return nil
		}
	}
	d.healLinkLocked()
	d.trouble, d.until = fine, time.Time{}
	defer d.noteLocked()
	if d.cancel == nil {
		return d.bootLocked()
	}
	return nil
}

func (d *device) healLinkLocked() {
	d.link.ClearFaults()
	d.link.Resume()
}

// endLocked ends the boot with an offline status and DISCONNECT, or abruptly like a crash.
func (d *device) endLocked(clean bool) {
	if d.cancel == nil {
		return
	}
	cancel, c := d.cancel, d.client.Load()
	d.cancel = nil
	if !clean {
		cancel()
		return
	}
	d.running.Go(func() {
		_ = c.Close() // if it fails, the server publishes the will
		cancel()
	})
}

// noteLocked updates there and changed.
func (d *device) noteLocked() {
	there := d.cancel != nil && (d.trouble == fine || d.trouble == slow)
	if there != d.there {
		d.there, d.changed = there, time.Now()
	}
}

// truth returns the actual state of the device, and since when it has been in that state.
func (d *device) truth() (state presence.State, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.there {
		return presence.Online, d.changed
	}
	return presence.Offline, d.changed
}

// condition returns the present fault and the time when it ends by itself.
func (d *device) condition() (trouble, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble, d.until
}

// close ends the device, and its session at the broker.
func (d *device) close() {
	d.mu.Lock()
	d.closed = true
	d.healLinkLocked()
	cancel, c := d.cancel, d.client.Load()
	d.cancel = nil
	d.mu.Unlock()
	if cancel != nil {
		_ = c.CloseWith(client.DisconnectOptions{SessionExpiry: client.NoSession}) // as in endLocked
		cancel()
	}
	d.running.Wait()
	if c != nil {
		<-c.Done()
	}
	_ = d.link.Close()
	_ = d.flash.Close()
}

func password(o *options) []byte {
	if o.user == "" {
		return nil
	}
	return []byte(os.Getenv("MQTT_PASSWORD"))
}

func clientID(p *place, name string) string {
	if p.own {
		return name
	}
	return "mooring-" + p.root[len("fleet/"):] + "-" + name
}
