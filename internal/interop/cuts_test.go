package interop

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
)

// fault breaks a link, at once or when matching traffic occurs, and returns the minimum number of
// connections that ends.
type fault struct {
	name string
	arm  func(*mqtttest.Proxy) int
}

// faultsOn returns all ways to break a link whose client publishes (dir is ToServer) or receives
// (ToClient).
func faultsOn(dir mqtttest.Direction) []fault {
	back := mqtttest.ToServer + mqtttest.ToClient - dir
	all := []fault{
		{"cut", func(p *mqtttest.Proxy) int {
			p.Cut()
			return 1
		}},
		{"cut, then CONNACK lost", func(p *mqtttest.Proxy) int {
			p.Lose(mqtttest.ToClient, mqtttest.CONNACK)
			p.Cut()
			return 2
		}},
	}
	on := func(dir mqtttest.Direction, types ...mqtttest.PacketType) {
		for _, t := range types {
			all = append(all,
				fault{fmt.Sprintf("cut inside %v", t), func(p *mqtttest.Proxy) int {
					p.CutInside(dir, t)
					return 1
				}},
				fault{fmt.Sprintf("%v lost", t), func(p *mqtttest.Proxy) int {
					p.Lose(dir, t)
					return 1
				}},
				fault{fmt.Sprintf("%v lost, and again", t), func(p *mqtttest.Proxy) int {
					p.Lose(dir, t)
					p.Lose(dir, t)
					return 2
				}})
		}
	}
	on(dir, mqtttest.PUBLISH, mqtttest.PUBREL)
	on(back, mqtttest.PUBACK, mqtttest.PUBREC, mqtttest.PUBCOMP)
	return all
}

// TestCuts_LoseAndRepeatNothing breaks both links in all ways, in a random order, while messages
// are published.
func TestCuts_LoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			onEachBroker(t, setup{}, func(r *run) { surviveCuts(r, seed) })
		})
	}
}

func surviveCuts(r *run, seed uint64) {
	once, atLeast := r.topic("cuts/2"), r.topic("cuts/1")
	subLink, pubLink := r.proxy(), r.proxy()
	subCfg, pubCfg := r.config("sub"), r.config("pub")
	subCfg.Servers, subCfg.Dir = []string{subLink.URL()}, r.TempDir()
	pubCfg.Servers, pubCfg.Dir, pubCfg.Publishing.Sequenced = []string{pubLink.URL()}, r.TempDir(), true
	plain := r.start(subCfg)
	in := r.subscribe(plain, r.topic("cuts/+"), client.ExactlyOnce)

	dedupeCfg := r.config("dedupe")
	cache := dedupe.NewMemory(dedupe.Options{})
	r.Cleanup(func() { _ = cache.Close() })
	dedupeCfg.Servers, dedupeCfg.Receiving.Dedupe, dedupeCfg.Receiving.Ordering = subCfg.Servers, cache, &client.Ordering{}
	dedupes := r.start(dedupeCfg)
	filtered := r.subscribe(dedupes, r.topic("cuts/+"), client.ExactlyOnce)

	publisher := r.start(pubCfg)
	n := 0
	batch := func() {
		for range 5 {
			text := []byte(numbered(n))
			r.publish(publisher, client.Message{Topic: once, Payload: text, QoS: client.ExactlyOnce})
			r.publish(publisher, client.Message{Topic: atLeast, Payload: text, QoS: client.AtLeastOnce})
			n++
		}
	}
	type target struct {
		fault
		link    *mqtttest.Proxy
		side    string
		clients []*client.Client
	}
	var all []target
	for _, f := range faultsOn(mqtttest.ToServer) {
		all = append(all, target{f, pubLink, "publisher", []*client.Client{publisher}})
	}
	for _, f := range faultsOn(mqtttest.ToClient) {
		all = append(all, target{f, subLink, "receivers", []*client.Client{plain, dedupes}})
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, f := range all {
		for _, c := range f.clients {
			if err := c.AwaitConnection(r.ctx); err != nil {
				r.Fatal(err)
			}
		}
		before := f.link.Stats().Cuts
		cuts := f.arm(f.link)
		batch()
		err := f.link.WaitFor(r.ctx, func(s mqtttest.ProxyStats) bool {
			return s.Cuts >= before+cuts && s.Connections-s.Cuts >= len(f.clients) // all have dialed again
		})
		if err != nil {
			r.Fatalf("%s of the %s: %v", f.name, f.side, err)
		}
	}
	batch()
	want := numberedUpTo(n)
	for _, got := range []*inbox{in, filtered} {
		r.fence(publisher, got, once, client.ExactlyOnce)
		r.fence(publisher, got, atLeast, client.AtLeastOnce)
	}
	r.expectExactly(filtered, once, want)
	r.expectOnce(in, once, want)
	r.expectAtLeast(in, atLeast, want)
	r.expectExactly(filtered, atLeast, want)
	if err := publisher.Drain(r.ctx); err != nil {
		r.Error(err)
	}
	st := publisher.Stats().Store
	if st.Accepted != st.Acked || st.Pending != 0 {
		r.Errorf("the publisher has the counts %+v", st)
	}
	r.Logf("%d faults, %d messages, %d at QoS 1 were resent", len(all), 2*n, len(in.texts(atLeast))-n)
}
