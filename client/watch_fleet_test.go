package client_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

const (
	fleetKeepAlive = 5 * time.Second
	fleetDelay     = 3 * time.Second
	// fleetBound is how long the server may take to say that a device has ended.
	fleetBound = fleetKeepAlive*3/2 + fleetDelay
)

// puppet is a device of a few packets, which knows whether it is there.
type puppet struct {
	id, topic string
	dial      func() net.Conn
	rnd       *rand.Rand
	boot      presence.BootID

	mu    sync.Mutex
	born  bool
	alive bool
	ended time.Time // if it is not alive
}

func (p *puppet) set(alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive, p.ended, p.born = alive, time.Now(), true
}

// online reports whether the device may be shown as Online. late is the allowed delay after its end.
func (p *puppet) online(late time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive || p.born && time.Since(p.ended) <= late
}

// between is a random time.
func (p *puppet) between(least, most time.Duration) time.Duration {
	return least + time.Duration(p.rnd.Int64N(int64(most-least)))
}

// play has the device come and go until over, and stay as it is then.
func (p *puppet) play(over time.Time) (open net.Conn) {
	time.Sleep(p.between(0, 5*time.Second))
	for time.Now().Before(over) {
		if p.boot == (presence.BootID{}) || p.rnd.IntN(3) > 0 { // else the link was lost, not the process
			p.boot = presence.BootID(client.NewMessageID())
		}
		p.set(true) // before anybody can hear of it
		nc := p.connect()
		stays := p.between(time.Second, 20*time.Second)
		if time.Now().Add(stays).After(over) {
			return nc
		}
		p.ping(nc, stays)
		switch p.rnd.IntN(4) {
		case 0: // a clean end
			p.say(nc, presence.Offline, presence.ReasonClose)
			p.write(nc, control.AppendDisconnect(nil, &control.Disconnect{}))
		case 1: // an end that leaves the word to the will
			p.write(nc, control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonDisconnectWithWill}))
		case 2: // a crash whose connection is reset
		case 3: // a crash in silence: the server has to find out
			p.set(false)
			time.Sleep(p.between(time.Second, 20*time.Second))
			_ = nc.Close()
			continue
		}
		_ = nc.Close()
		p.set(false)
		time.Sleep(p.between(100*time.Millisecond, 15*time.Second)) // perhaps back within the delay
	}
	return nil
}

func (p *puppet) connect() net.Conn {
	nc := p.dial()
	go func() { _, _ = io.Copy(io.Discard, nc) }()
	p.write(nc, control.AppendConnect(nil, &control.Connect{
		ClientID: p.id, KeepAlive: uint16(fleetKeepAlive / time.Second), SessionExpiry: 60, ReceiveMaximum: 10,
		Will: &control.Will{QoS: 1, Retain: true, Delay: uint32(fleetDelay / time.Second), Topic: p.topic,
			Payload: presence.Status{State: presence.Offline, Boot: p.boot, Reason: presence.ReasonWill}.Append(nil)},
	}))
	p.say(nc, presence.Online, presence.ReasonBirth)
	return nc
}

func (p *puppet) say(nc net.Conn, state presence.State, reason string) {
	m := wire.Publish{Topic: p.topic, QoS: 1, Retain: true, Payload: presence.Status{State: state, Boot: p.boot, Reason: reason}.Append(nil)}
	p.write(nc, wire.AppendImage(nil, wire.AppendPublish(nil, &m), 1, false, 0))
}

// ping keeps the connection alive for a time.
func (p *puppet) ping(nc net.Conn, d time.Duration) {
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		time.Sleep(min(left, fleetKeepAlive))
		if left <= fleetKeepAlive {
			return
		}
		p.write(nc, control.AppendPingreq(nil))
	}
}

func (p *puppet) write(nc net.Conn, b []byte) { _, _ = nc.Write(b) } // a connection that was lost is lost

// TestWatch_FleetIsNeverShownWrong watches 300 devices for a minute. They connect, disconnect and crash,
// and the watcher's link is cut repeatedly. After its end, a device is shown as Online at most until the
// server publishes its will, plus StaleAfter or the watcher's keep alive if they are set. At the end, each
// state is correct.
func TestWatch_FleetIsNeverShownWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		stale    time.Duration
		expiry   time.Duration
		halfOpen bool
		bound    time.Duration
	}{
		{"stale at once, the default", 0, client.NoSession, false, fleetBound},
		{"stale at once, session kept", 0, time.Hour, false, fleetBound},
		{"stale later, links that die in silence", 3 * time.Second, time.Hour, true, fleetBound + 3*time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
				var events recorder
				cfg := testConfig("watcher", &events, through(proxy))
				cfg.Session.Expiry, cfg.Connection.KeepAlive, cfg.Connection.ConnectTimeout = c.expiry, 2*time.Second, 2*time.Second
				watcher := mustStart(t, cfg)
				fleet := map[string]*puppet{}
				check := func(topic string, state presence.State) {
					if p := fleet[topic]; state == presence.Online && !p.online(c.bound+10*time.Millisecond) {
						t.Errorf("%s is shown as online %v after its end", topic, time.Since(p.ended))
					}
				}
				for i := range 300 {
					id := fmt.Sprintf("device-%d", i)
					topic := "fleet/" + id + "/status"
					fleet[topic] = &puppet{id: id, topic: topic, dial: b.Dial, rnd: rand.New(rand.NewPCG(uint64(i), 5))}
				}
				w, err := watcher.WatchStatus(t.Context(), "fleet/+/status", client.WatchOptions{StaleAfter: c.stale,
					OnChange: func(ch presence.Change) { check(ch.Device.Topic, ch.Device.State) }})
				must(t, err)

				over := time.Now().Add(time.Minute)
				var playing, staying sync.WaitGroup
				for _, p := range fleet {
					playing.Go(func() {
						if nc := p.play(over); nc != nil {
							staying.Go(func() {
								p.ping(nc, time.Until(over.Add(time.Minute)))
								_ = nc.Close()
							})
						}
					})
				}
				cuts := 0
				playing.Go(func() {
					rnd := rand.New(rand.NewPCG(1, 2))
					for time.Now().Before(over) {
						time.Sleep(time.Duration(1+rnd.IntN(5)) * time.Second)
						cuts++
						if c.halfOpen && rnd.IntN(2) == 0 {
							proxy.Stall()
							time.Sleep(time.Duration(1+rnd.IntN(8)) * time.Second)
							proxy.Cut()
							proxy.Resume()
							continue
						}
						proxy.Refuse(true)
						proxy.Cut()
						time.Sleep(time.Duration(100+rnd.IntN(6000)) * time.Millisecond)
						proxy.Refuse(false)
					}
				})
				shown := 0
				for time.Now().Before(over) {
					time.Sleep(200 * time.Millisecond)
					for d := range w.All() {
						check(d.Topic, d.State)
						if d.State == presence.Online {
							shown++
						}
					}
				}
				playing.Wait()
				time.Sleep(12 * time.Second) // longer than the server may take
				must1(w.Synced(t.Context()))
				synctest.Wait()
				right := map[presence.State]int{}
				for topic, p := range fleet {
					d, _ := w.Get(topic)
					want := presence.Offline
					if p.alive {
						want = presence.Online
					}
					if d.State != want {
						t.Errorf("%s is shown as %v in the end, want %v", topic, d.State, want)
					}
					right[want]++
				}
				counts := w.Counts()
				if counts.Online != right[presence.Online] || counts.Offline != right[presence.Offline] || right[presence.Online] < 30 || right[presence.Offline] < 30 || shown < 3_000 || cuts < 5 {
					t.Errorf("%+v, want %v; shown as online %d times, %d cuts", counts, right, shown, cuts)
				}
				t.Logf("%d cuts, %d words, %d superseded, in the end %v", cuts, counts.Words, counts.Superseded, right)
				staying.Wait()
			})
		})
	}
}
