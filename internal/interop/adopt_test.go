package interop

import (
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// heir is a client that finds a session that its store does not know. All its processes share a
// dedupe cache.
type heir struct {
	*run
	cfg    client.Config
	filter string
	in     *inbox
	c      *client.Client
	kill   func()
}

func (r *run) heir(name, filter string) *heir {
	cache := dedupe.NewMemory(dedupe.Options{})
	r.Cleanup(func() { _ = cache.Close() })
	h := &heir{run: r, cfg: r.config(name), filter: filter, in: &inbox{}}
	h.cfg.Receiving.Dedupe, h.cfg.Dir = cache, r.TempDir()
	return h
}

// begin starts a client with a message to publish.
func (h *heir) begin(text string) {
	h.Helper()
	h.c = h.make(h.cfg)
	if err := h.c.Handle(h.filter, h.in); err != nil {
		h.Fatal(err)
	}
	h.publish(h.c, client.Message{Topic: h.topic("new"), Payload: []byte(text), QoS: client.ExactlyOnce})
	ctx, cancel := context.WithCancelCause(context.Background())
	if err := h.c.Start(ctx); err != nil {
		h.Fatal(err)
	}
	h.kill = func() {
		cancel(client.ErrAbort)
		<-h.c.Done()
	}
}

// waiting publishes messages that wait in a session, and returns their texts.
func (r *run) waiting(publisher *client.Client, topic string) []string {
	texts := numberedUpTo(30)
	for _, text := range texts {
		r.deliver(publisher, client.Message{Topic: topic, Payload: []byte("waits " + text), QoS: client.ExactlyOnce})
	}
	for i := range texts {
		texts[i] = "waits " + texts[i]
	}
	return texts
}

// expectHeir checks that the client has received each waiting message once, and that the observer
// has received each message published under the client's identifier once.
func (h *heir) expectHeir(topic string, waiting []string, observer *inbox, published map[string][]string, events *record[client.Event]) {
	h.Helper()
	if err := h.c.AwaitConnection(h.ctx); err != nil {
		h.Fatal(err)
	}
	for _, text := range numberedUpTo(50) {
		published["new"] = append(published["new"], text)
		h.publish(h.c, client.Message{Topic: h.topic("new"), Payload: []byte(text), QoS: client.ExactlyOnce})
	}
	h.fenceSent(h.c, h.topic("new"))
	h.fence(h.c, observer, h.topic("new"), client.ExactlyOnce)
	for name, want := range published {
		got := slices.Sorted(slices.Values(observer.texts(h.topic(name))))
		if slices.Sort(want); !slices.Equal(got, want) {
			h.Errorf("%s: the observer has %q, want %q", name, got, want)
		}
	}
	h.fence(h.c, h.in, topic, client.ExactlyOnce)
	got := slices.DeleteFunc(h.in.texts(topic), func(text string) bool { return strings.HasPrefix(text, half) })
	slices.Sort(got)
	if slices.Sort(waiting); !slices.Equal(got, waiting) {
		h.Errorf("received %q, want %q", got, waiting)
	}
	list, _ := events.snapshot()
	adopted := 0
	for _, e := range list {
		if _, ok := e.(client.SessionAdopted); ok {
			adopted++
		}
	}
	if adopted != 1 {
		h.Errorf("the session was adopted %d times", adopted)
	}
}

// TestAdopt_SessionOfMosquittoSub adopts a session of mosquitto_sub, made with MQTT 5 or 3.1.1, in
// which messages wait.
func TestAdopt_SessionOfMosquittoSub(t *testing.T) {
	t.Parallel()
	requireProgram(t, "mosquitto_sub")
	for version, more := range map[string][]string{"5": {"-x", "600"}, "311": nil} {
		t.Run(version, func(t *testing.T) {
			onEachBroker(t, setup{}, func(r *run) {
				if _, own := r.broker.(*inProcess); own && version == "311" {
					r.Skip("in this test, mqtttest serves MQTT 5 only")
				}
				topic := r.topic("in")
				h := r.heir("heir", topic)
				events := watch(&h.cfg)
				at, err := url.Parse(r.broker.URL())
				if err != nil {
					r.Fatal(err)
				}
				host, port, err := net.SplitHostPort(at.Host)
				if err != nil {
					r.Fatal(err)
				}
				args := append([]string{"-h", host, "-p", port, "-V", version, "-c", "-i", h.cfg.ClientID, "-q", "2", "-t", topic, "-E"}, more...)
				cmd := exec.CommandContext(r.ctx, "mosquitto_sub", args...)
				cmd.Stderr = os.Stderr
				if err := cmd.Run(); err != nil {
					r.Fatal(err)
				}
				publisher := r.start(r.config("pub"))
				observer := r.subscribe(publisher, r.topic("new"), client.ExactlyOnce)
				waiting := r.waiting(publisher, topic)
				h.begin("first")
				h.expectHeir(topic, waiting, observer, map[string][]string{"new": {"first"}}, events)
			})
		})
	}
}

// halves forwards packets except some acknowledgements of QoS 2 messages, so that exchanges stay
// incomplete: it drops PUBREC for even packet identifiers and PUBREL for odd ones. (A Proxy would
// break the connection when it drops a packet.)
type halves struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup
	lost     [2][2]atomic.Int64 // by direction of the PUBLISH and by the dropped packet type

	mu    sync.Mutex
	conns []net.Conn
}

func (r *run) halves() *halves {
	r.Helper()
	u, err := url.Parse(r.broker.URL())
	if err != nil {
		r.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	p := &halves{listener: l, target: u.Host}
	p.wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", p.target)
			if err != nil {
				r.Error(err)
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, near, far)
			p.mu.Unlock()
			p.wg.Go(func() { p.pass(mqtttest.ToServer, near, far) })
			p.wg.Go(func() { p.pass(mqtttest.ToClient, far, near) })
		}
	})
	r.Cleanup(p.cut)
	return p
}

// cut closes all connections.
func (p *halves) cut() {
	_ = p.listener.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *halves) URL() string { return "mqtt://" + p.listener.Addr().String() }

func (p *halves) pass(dir mqtttest.Direction, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	for frames := wire.NewReader(from, 0); ; {
		f, err := frames.Next()
		if err != nil {
			return
		}
		if a, err := wire.ParseAck(f); err == nil {
			switch even := a.PacketID%2 == 0; {
			case a.Type == wire.PUBREC && even:
				p.lost[1-dir][0].Add(1)
				continue
			case a.Type == wire.PUBREL && !even:
				p.lost[dir][1].Add(1)
				continue
			}
		}
		if _, err := to.Write(f.Raw); err != nil {
			return
		}
	}
}

func (p *halves) await(r *run, dir mqtttest.Direction, n int64) {
	r.Helper()
	r.until("half finished exchanges", func() bool { return p.lost[dir][0].Load() == n && p.lost[dir][1].Load() == n })
}

// until polls a condition.
func (r *run) until(what string, done func() bool) {
	r.Helper()
	for !done() {
		select {
		case <-r.ctx.Done():
			r.Fatalf("waiting for %s: %v", what, r.ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// TestAdopt_SessionOfAutopaho replaces an autopaho program while QoS 2 exchanges in both directions
// are incomplete, with and without PUBREC.
func TestAdopt_SessionOfAutopaho(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic, out := r.topic("in"), r.topic("out")
		h, link := r.heir("heir", topic), r.halves()
		events := watch(&h.cfg)
		publisher := r.start(r.config("pub"))
		observer := r.subscribe(publisher, out, client.ExactlyOnce)
		if _, err := publisher.Subscribe(r.ctx, r.topic("new"), client.ExactlyOnce, observer); err != nil {
			r.Fatal(err)
		}

		server, err := url.Parse(link.URL())
		if err != nil {
			r.Fatal(err)
		}
		subscribed := make(chan error, 1)
		ctx, stop := context.WithCancel(r.ctx)
		defer stop()
		cm, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
			ServerUrls: []*url.URL{server}, KeepAlive: 30, SessionExpiryInterval: 600,
			OnConnectionUp: func(cm *autopaho.ConnectionManager, _ *paho.Connack) {
				go func() {
					_, err := cm.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 2}}})
					subscribed <- err
				}()
			},
			ClientConfig: paho.ClientConfig{ClientID: h.cfg.ClientID, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(paho.PublishReceived) (bool, error) { return true, nil }}},
		})
		if err == nil {
			err = <-subscribed
		}
		if err != nil {
			r.Fatal(err)
		}
		for _, text := range numberedUpTo(6) {
			r.deliver(publisher, client.Message{Topic: topic, Payload: []byte(half + text), QoS: client.ExactlyOnce})
		}
		link.await(r, mqtttest.ToClient, 3)
		for _, text := range numberedUpTo(6) {
			go func() {
				_, _ = cm.Publish(ctx, &paho.Publish{Topic: out, QoS: 2, Payload: []byte(text)})
			}()
		}
		link.await(r, mqtttest.ToServer, 3)
		link.cut()
		stop()
		<-cm.Done()

		waiting := r.waiting(publisher, topic)
		h.begin("first")
		h.expectHeir(topic, waiting, observer, map[string][]string{"new": {"first"}, "out": numberedUpTo(6)}, events)
		// The server has no PUBREC for three of the messages that autopaho had received, so it
		// resends them.
		again := slices.Sorted(slices.Values(h.halfDone(topic)))
		distinct := slices.Compact(slices.Clone(again))
		switch {
		case len(distinct) != len(again) || len(again) < 3:
			r.Errorf("sent again: %q", again)
		case len(again) > 3 && r.broker.Traits().repeatsComplete:
			r.Logf("departs from [MQTT-4.3.3-6]: %d messages were sent again after their PUBREC", len(again)-3)
		case len(again) > 3:
			r.Errorf("%q were sent again after their PUBREC", again)
		}
	})
}

const half = "half "

// halfDone returns the messages that autopaho had received.
func (h *heir) halfDone(topic string) []string {
	return slices.DeleteFunc(h.in.texts(topic), func(text string) bool { return !strings.HasPrefix(text, half) })
}

// TestAdopt_LostFolder loses the client's folder while messages are in flight under the packet
// identifiers with which the next process starts. The client is killed twice before they are free.
func TestAdopt_LostFolder(t *testing.T) {
	t.Parallel()
	for name, kills := range map[string]int{"lost": 0, "lost, killed twice": 2} {
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, setup{}, func(r *run) {
				topic := r.topic("in")
				h, link := r.heir("heir", topic), r.halves()
				publisher := r.start(r.config("pub"))
				observer := r.subscribe(publisher, r.topic("new"), client.ExactlyOnce)

				direct := h.cfg.Servers
				h.cfg.Servers = []string{link.URL()}
				published := []string{"old"}
				h.begin("old")
				if err := h.c.AwaitConnection(r.ctx); err != nil {
					r.Fatal(err)
				}
				if _, err := h.c.Subscribe(r.ctx, topic, client.ExactlyOnce, h.in); err != nil {
					r.Fatal(err)
				}
				for _, text := range numberedUpTo(5) {
					published = append(published, "old "+text)
					r.publish(h.c, client.Message{Topic: r.topic("new"), Payload: []byte("old " + text), QoS: client.ExactlyOnce})
				}
				link.await(r, mqtttest.ToServer, 3)
				h.kill()
				waiting := r.waiting(publisher, topic)

				h.cfg.Dir = r.TempDir()
				events := watch(&h.cfg)
				proxy := r.proxy()
				h.cfg.Servers = []string{proxy.URL()}
				for i := range kills {
					purging := make(chan struct{})
					var released atomic.Int64 // several connections call the hook
					proxy.OnPacket(func(dir mqtttest.Direction, header byte, _ []byte) mqtttest.Action {
						if dir == mqtttest.ToServer && wire.Type(header>>4) == wire.PUBREL {
							if released.Add(1) == 20_000 {
								close(purging)
							}
						}
						return mqtttest.ActionPass
					})
					text := "killed " + numbered(i)
					published = append(published, text)
					h.begin(text)
					select {
					case <-purging:
					case <-r.ctx.Done():
						r.Fatal("nothing is purged")
					}
					h.kill()
				}
				h.cfg.Servers = direct
				published = append(published, "first")
				h.begin("first")
				h.expectHeir(topic, waiting, observer, map[string][]string{"new": published}, events)
			})
		})
	}
}
