package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// guarded is a client with one function of the application that fails once, by panic or by Goexit.
type guarded struct {
	*testing.T
	cfg    client.Config
	how    func()
	failed atomic.Bool
	events recorder
	log    *logRecorder
	c      *client.Client
	cache  dedupe.Cache

	mu      sync.Mutex
	handled map[string]int
	retried bool
}

// fail fails on the first call.
func (g *guarded) fail() {
	if g.failed.CompareAndSwap(false, true) {
		g.how()
	}
}

// failAt returns a hook that fails on the first call of one method.
func (g *guarded) failAt(method string) func(string) {
	return func(m string) {
		if m == method {
			g.fail()
		}
	}
}

// guardedFunctions returns, for each function of the application, how to make it fail.
func guardedFunctions() map[string]func(g *guarded) {
	list := map[string]func(g *guarded){
		"OnEvent": func(g *guarded) {
			g.cfg.OnEvent = func(e client.Event) {
				g.events.add(e)
				g.fail()
			}
		},
		"Logger": func(g *guarded) {
			g.log.also = func(slog.Record) { g.fail() }
		},
		"OnEpoch": func(g *guarded) {
			g.cfg.Receiving.Ordering.OnEpoch = func(string, uint64, uint64) { g.fail() }
		},
		"RetryBackoff.Rand": func(g *guarded) {
			g.cfg.Publishing.RetryBackoff.Rand = func() float64 { g.fail(); return 0.5 }
		},
		"Handler": func(*guarded) {}, // see handle
		"Middleware": func(g *guarded) {
			g.cfg.Receiving.Middleware = []client.Middleware{func(h client.Handler) client.Handler { g.fail(); return h }}
		},
		"Wrapped": func(g *guarded) {
			g.cfg.Receiving.Middleware = []client.Middleware{func(h client.Handler) client.Handler {
				return client.HandlerFunc(func(ctx context.Context, m *client.Message) error { g.fail(); return h.Handle(ctx, m) })
			}}
		},
		"Parse":    func(*guarded) {}, // see run
		"OnChange": func(*guarded) {},
	}
	for name, set := range callbacks {
		if slices.Contains(scriptedCallbacks, name) {
			continue
		}
		list[name] = func(g *guarded) { set(&g.cfg, g.fail) }
	}
	for _, method := range []string{"Begin", "Commit", "Abort", "Renew", "Wait"} {
		list["Dedupe."+method] = func(g *guarded) { g.cfg.Receiving.Dedupe = hookedCache{g.cache, g.failAt(method)} }
	}
	list["Dedupe.OnEvict"] = func(g *guarded) {
		g.cache = dedupe.NewMemory(dedupe.Options{Lease: 4 * time.Second, Capacity: 2, OnEvict: func(string, dedupe.Reason) { g.fail() }})
		g.cfg.Receiving.Dedupe = g.cache
	}
	for _, method := range storeMethods {
		list["Store."+method] = func(g *guarded) {
			g.cfg.Store.Custom = hookedStore{persistence.NewMemory(persistence.Options{}), g.failAt(method)}
		}
	}
	return list
}

// scriptedCallbacks are called only with a scripted server.
var scriptedCallbacks = []string{"Auth.Start", "Auth.Continue", "Auth.Done", "Breaker.OnStateChange"}

func TestCallbacks_FailWithScriptedServer(t *testing.T) {
	for _, name := range scriptedCallbacks {
		for mode, how := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				withScript(t, func(t *testing.T, s *script) {
					g := &guarded{T: t, how: how, log: &logRecorder{}}
					g.cfg = testConfig("c", &g.events, s.dial)
					g.cfg.Logger, g.cfg.Publishing.Breaker.FailureThreshold = slog.New(g.log), 1
					callbacks[name](&g.cfg, g.fail)
					c := mustNew(t, g.cfg)
					must(t, c.Handle("t", newInbox()))
					publish(t, c, "t", "x", client.AtLeastOnce)
					start(t, c)
					for range 3 {
						serveABit(<-s.conns, g.cfg.Connection.Auth != nil)
					}
					must(t, c.Close())
					synctest.Wait()
					if !g.failed.Load() || !g.reported() {
						t.Errorf("called: %v, reported: %v", g.failed.Load(), g.reported())
					}
					if n := len(eventsOf[client.Connected](&g.events)); n < 2 {
						t.Errorf("%d connections, want 2 or 3", n)
					}
				})
			})
		}
	}
}

func TestCallbacks_FailByPanicAndGoexit(t *testing.T) {
	for name, set := range guardedFunctions() {
		for mode, how := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				var asked atomic.Int32
				o := mqtttest.Options{Authorize: func(_ context.Context, _, topic string, publish bool) byte {
					if publish && topic == "own" && asked.Add(1) <= 4 {
						return 0x97
					}
					return 0
				}}
				inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
					g := &guarded{T: t, how: how, log: &logRecorder{}, handled: map[string]int{}}
					g.cache = dedupe.NewMemory(dedupe.Options{Lease: 4 * time.Second})
					g.cfg = testConfig("c", &g.events, through(proxy))
					g.cfg.Logger = slog.New(g.log)
					g.cfg.Receiving.Dedupe, g.cfg.Receiving.Ordering = g.cache, &client.Ordering{Options: ordering.Options{GapTimeout: time.Second}}
					g.cfg.Receiving.HandlerBackoff = reliability.Backoff{Min: time.Second, Max: time.Second}
					g.cfg.Publishing.Breaker.FailureThreshold, g.cfg.Publishing.Breaker.RecoveryTimeout = 1, time.Second
					g.cfg.Publishing.Sequenced = true
					set(g)
					if g.cfg.Receiving.OrderingKey != nil {
						g.cfg.Receiving.Ordering = nil
					}
					g.run(name, b, proxy)
				})
			})
		}
	}
}

// again repeats a call of the client that failed because of the application's function.
func (g *guarded) again(call func() error) {
	g.Helper()
	for range 2 {
		before := g.failed.Load()
		err := call()
		if err == nil {
			return
		}
		if p := (*client.PanicError)(nil); before || !g.failed.Load() || !errors.As(err, &p) {
			g.Fatalf("%v", err)
		}
	}
	g.Fatal("a second call fails too")
}

func (g *guarded) run(name string, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
	g.again(func() (err error) { g.c, err = client.New(g.cfg); return err })
	defer g.c.Close()
	h := client.HandlerFunc(func(_ context.Context, m *client.Message) error { return g.handle(name, m) })
	start(g, g.c)
	connect(g, g.c)
	for _, topic := range []string{"a", "b", "own", "refused"} {
		g.again(func() error { _, err := g.c.Subscribe(g.Context(), topic, client.ExactlyOnce, h); return err })
	}
	g.again(func() error {
		o := client.WatchOptions{}
		switch name {
		case "Parse":
			o.Parse = func(_ string, payload []byte) (presence.Status, error) { g.fail(); return presence.Parse(payload) }
		case "OnChange":
			o.OnChange = func(presence.Change) { g.fail() }
		}
		w, err := g.c.WatchStatus(g.Context(), "status/+", o)
		if err == nil {
			_, err = w.Synced(g.Context())
		}
		return err
	})
	peer := rawClient(g.T, b.Dial(), "device")
	send := func(m wire.Publish) {
		peer.publish(m)
		peer.nextAck(wire.PUBACK)
	}
	for i := range 2 {
		send(wire.Publish{Topic: fmt.Sprint("status/", i), QoS: 1, PacketID: 1, Payload: []byte("online")})
	}
	if name == "Dedupe.Wait" { // another client holds the first message
		other, _, err := g.cache.Begin(g.Context(), claimKey("a", 1, 1), "other")
		must(g, err)
		time.AfterFunc(time.Second, func() { _ = g.cache.Abort(context.Background(), other) })
	}
	var want []string
	for _, at := range [][2]uint64{{1, 1}, {1, 2}, {1, 4}, {2, 1}, {2, 2}} { // a gap and a new epoch
		for _, topic := range []string{"a", "b"} {
			m := numbered(topic, 1, at[0], at[1])
			want = append(want, topic+" "+string(m.Payload))
			send(m)
		}
		time.Sleep(2 * time.Second)
	}
	send(withID(wire.Publish{Topic: "refused", QoS: 1, PacketID: 1}, "x"))
	if strings.HasPrefix(name, "Backoff") || name == "Dial" || name == "Credentials" {
		proxy.Cut()
	}
	var list []*client.Delivery
	for i := range 5 {
		var d *client.Delivery
		g.again(func() (err error) {
			d, err = g.c.Publish(g.Context(), client.Message{Topic: "own", QoS: client.ExactlyOnce, Payload: fmt.Append(nil, i)})
			return err
		})
		list = append(list, d)
		want = append(want, fmt.Sprint("own ", i))
		time.Sleep(time.Second)
		if i == 2 {
			proxy.Cut() // unacknowledged messages are resent
		}
	}
	for _, d := range list {
		ctx, cancel := context.WithTimeout(g.Context(), 10*time.Minute)
		if _, err := d.Wait(ctx); err != nil {
			g.Errorf("Publish: %v", err)
		}
		cancel()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	g.mu.Lock()
	for _, key := range want {
		if g.handled[key] == 0 {
			g.Errorf("message %q was not handled", key)
		}
	}
	g.mu.Unlock()
	if err := g.c.Close(); err != nil {
		g.Errorf("Close: %v", err)
	}
	synctest.Wait()
	if g.failed.Load() && !g.reported() {
		g.Error("the failure was not reported")
	}
	if !g.failed.Load() && !rare[name] {
		g.Error("the function was not called")
	}
}

// rare are functions that this test does not call.
var rare = map[string]bool{"Store.First": true, "Store.Get": true, "Store.Sync": true}

// reported searches the failure in the events, or in the log if the event failed.
func (g *guarded) reported() bool {
	for _, e := range eventsOf[client.Event](&g.events) {
		if strings.Contains(fmt.Sprintf("%+v", e), "panicked") {
			return true
		}
	}
	for _, l := range g.log.of("") {
		if strings.Contains(l.attrs["error"], "panicked") {
			return true
		}
	}
	return false
}

func (g *guarded) handle(name string, m *client.Message) error {
	if name == "Handler" {
		g.fail()
	}
	if m.Topic == "refused" {
		return client.Refuse(0x83, "no")
	}
	key := m.Topic + " " + string(m.Payload)
	if key == "b 1/1" { // longer than the lease
		time.Sleep(6 * time.Second)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if key == "a 1/2" && !g.retried {
		g.retried = true
		return errVault
	}
	g.handled[key]++
	return nil
}

// claimKey returns the dedupe key of a numbered message.
func claimKey(topic string, epoch, seq uint64) string {
	id := client.ParseMessageID(fmt.Sprint(topic, epoch, "/", seq))
	return id.String() + "\x00" + topic
}

// hookedCache calls at before each method.
type hookedCache struct {
	dedupe.Cache
	at func(method string)
}

func (c hookedCache) Begin(ctx context.Context, key, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	c.at("Begin")
	return c.Cache.Begin(ctx, key, owner)
}

func (c hookedCache) Renew(ctx context.Context, claim dedupe.Claim) (dedupe.Claim, error) {
	c.at("Renew")
	return c.Cache.Renew(ctx, claim)
}

func (c hookedCache) Commit(ctx context.Context, claim dedupe.Claim) error {
	c.at("Commit")
	return c.Cache.Commit(ctx, claim)
}

func (c hookedCache) Abort(ctx context.Context, claim dedupe.Claim) error {
	c.at("Abort")
	return c.Cache.Abort(ctx, claim)
}

func (c hookedCache) Wait(ctx context.Context, claim dedupe.Claim) error {
	c.at("Wait")
	return c.Cache.Wait(ctx, claim)
}

var storeMethods = strings.Fields("Enqueue Wait Next Get First LastSeq SetSent Sent Release Released Defer Deferred Done Seen Cleared SeenIDs FingerprintKey ResetSession Session Sync Stream Epoch Now Stats")

// hookedStore calls at before each method.
type hookedStore struct {
	persistence.Store
	at func(method string)
}

func (s hookedStore) Enqueue(ctx context.Context, m *persistence.Message) (persistence.Ticket, error) {
	s.at("Enqueue")
	return s.Store.Enqueue(ctx, m)
}

func (s hookedStore) Wait(ctx context.Context, t persistence.Ticket) error {
	s.at("Wait")
	return s.Store.Wait(ctx, t)
}

func (s hookedStore) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	s.at("Next")
	return s.Store.Next(c, e)
}

func (s hookedStore) Get(seq uint64, e *persistence.Entry) (bool, error) {
	s.at("Get")
	return s.Store.Get(seq, e)
}

func (s hookedStore) First(p persistence.Priority) uint64 {
	s.at("First")
	return s.Store.First(p)
}

func (s hookedStore) LastSeq() uint64 {
	s.at("LastSeq")
	return s.Store.LastSeq()
}

func (s hookedStore) SetSent(p persistence.Priority, number uint64) error {
	s.at("SetSent")
	return s.Store.SetSent(p, number)
}

func (s hookedStore) Sent(p persistence.Priority) uint64 {
	s.at("Sent")
	return s.Store.Sent(p)
}

func (s hookedStore) Release(seq uint64) error {
	s.at("Release")
	return s.Store.Release(seq)
}

func (s hookedStore) Released() []persistence.Position {
	s.at("Released")
	return s.Store.Released()
}

func (s hookedStore) Defer(seq uint64, d persistence.Deferral) error {
	s.at("Defer")
	return s.Store.Defer(seq, d)
}

func (s hookedStore) Deferred() []persistence.Deferred {
	s.at("Deferred")
	return s.Store.Deferred()
}

func (s hookedStore) Done(seq uint64, r persistence.Result) error {
	s.at("Done")
	return s.Store.Done(seq, r)
}

func (s hookedStore) Seen(id uint16, f uint64) error {
	s.at("Seen")
	return s.Store.Seen(id, f)
}

func (s hookedStore) Cleared(id uint16) error {
	s.at("Cleared")
	return s.Store.Cleared(id)
}

func (s hookedStore) SeenIDs() map[uint16]uint64 {
	s.at("SeenIDs")
	return s.Store.SeenIDs()
}

func (s hookedStore) FingerprintKey() [16]byte {
	s.at("FingerprintKey")
	return s.Store.FingerprintKey()
}

func (s hookedStore) ResetSession(id string) error {
	s.at("ResetSession")
	return s.Store.ResetSession(id)
}

func (s hookedStore) Session() (string, bool) {
	s.at("Session")
	return s.Store.Session()
}

func (s hookedStore) Sync() error {
	s.at("Sync")
	return s.Store.Sync()
}

func (s hookedStore) Stream(name string) (uint32, uint64, error) {
	s.at("Stream")
	return s.Store.Stream(name)
}

func (s hookedStore) Epoch() uint64 {
	s.at("Epoch")
	return s.Store.Epoch()
}

func (s hookedStore) Now() time.Time {
	s.at("Now")
	return s.Store.Now()
}

func (s hookedStore) Stats() persistence.Stats {
	s.at("Stats")
	return s.Store.Stats()
}
