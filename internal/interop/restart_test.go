package interop

import (
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
)

func TestRestart_SessionSurvives(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{restarts: true}, func(r *run) {
		topic := r.topic("outlives")
		link := r.proxy()
		cfg := r.config("sub")
		cfg.Servers = []string{link.URL()}
		events := watch(&cfg)
		in := r.subscribe(r.start(cfg), topic, client.ExactlyOnce)
		link.Refuse(true)
		link.Cut()
		nth[client.Disconnected](r, events, 1)
		want := numberedUpTo(20)
		before := r.start(r.config("before"))
		for _, text := range want {
			r.deliver(before, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
		}
		if err := before.Close(); err != nil {
			r.Error(err)
		}
		r.broker.Restart(r.T, false)
		if err := link.SetTarget(r.broker.URL()); err != nil {
			r.Fatal(err)
		}
		link.Refuse(false)
		if e := nth[client.Connected](r, events, 2); !e.SessionPresent && r.broker.Traits().forgetsCleanStarts {
			r.Log("departs from [MQTT-3.1.2-23]: the session began with Clean Start 1 and is gone, with 20 messages in it")
			want = nil
		}
		if err := link.WaitFor(r.ctx, func(s mqtttest.ProxyStats) bool { return s.ToClient.Packets >= 4 }); err != nil {
			r.Fatal(err) // CONNACK and SUBACK, twice
		}
		r.fence(r.start(r.config("after")), in, topic, client.ExactlyOnce)
		r.expectExactly(in, topic, want)
	})
}

func TestRestart_WhilePublishing(t *testing.T) {
	t.Parallel()
	t.Run("SIGTERM", func(t *testing.T) {
		onEachBroker(t, setup{restarts: true}, func(r *run) { surviveRestarts(r, false) })
	})
	t.Run("SIGKILL", func(t *testing.T) {
		onEachBroker(t, setup{restarts: true}, func(r *run) { surviveRestarts(r, true) })
	})
}

func surviveRestarts(r *run, kill bool) {
	const rounds, step = 3, 60
	subLink, pubLink := r.proxy(), r.proxy()
	subCfg, pubCfg := r.config("sub"), r.config("pub")
	cache := dedupe.NewMemory(dedupe.Options{})
	r.Cleanup(func() { _ = cache.Close() })
	subCfg.Servers, subCfg.Receiving.Dedupe = []string{subLink.URL()}, cache
	subCfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{Start: ordering.FromOne, GapTimeout: timeout}}
	// A receiver without dedupe shows the broker's own behavior.
	rawCfg := r.config("raw")
	rawCfg.Servers = subCfg.Servers
	subEvents, rawEvents, pubEvents := watch(&subCfg), watch(&rawCfg), watch(&pubCfg)
	sub := r.start(subCfg)
	in := r.subscribe(sub, r.topic("traffic/+"), client.ExactlyOnce)
	raw := r.subscribe(r.start(rawCfg), r.topic("traffic/+"), client.ExactlyOnce)
	pubCfg.Servers, pubCfg.Dir, pubCfg.Publishing.Sequenced = []string{pubLink.URL()}, r.TempDir(), true
	publisher := r.start(pubCfg)
	r.resumeOnce([]*mqtttest.Proxy{subLink, pubLink}, subEvents, rawEvents, pubEvents)
	flow := r.traffic(publisher)
	for round := range rounds {
		list, _ := in.snapshot()
		in.awaitN(r, "messages before the restart", len(list)+step)
		if kill && r.broker.Traits().savesLate {
			r.letItSave(publisher, pubLink, in, round)
		}
		r.restart(kill, subLink, pubLink)
	}
	flow.stop()
	for qos := client.AtLeastOnce; qos <= client.ExactlyOnce; qos++ {
		topic, want := flow.topic(qos), numberedUpTo(flow.accepted[qos])
		r.fence(publisher, in, topic, qos)
		r.expectExactly(in, topic, want)
		r.fence(publisher, raw, topic, qos)
		if qos == client.ExactlyOnce {
			r.expectOnce(raw, topic, want)
		} else {
			r.expectAtLeast(raw, topic, want)
		}
	}
	if err := publisher.Drain(r.ctx); err != nil {
		r.Error(err)
	}
	if st := publisher.Stats().Store; st.Accepted != st.Acked {
		r.Errorf("the publisher has the counts %+v", st)
	}
	st := sub.Stats()
	if st.Gaps > 0 {
		r.Errorf("%d gaps were reported", st.Gaps)
	}
	r.Logf("%d messages, %d of them were resent and suppressed", flow.accepted[1]+flow.accepted[2], st.Duplicates)
}

// resumeOnce makes all clients resume their sessions if the broker would otherwise lose them.
func (r *run) resumeOnce(links []*mqtttest.Proxy, clients ...*record[client.Event]) {
	r.Helper()
	if !r.broker.Traits().forgetsCleanStarts {
		return
	}
	for _, link := range links {
		link.Cut()
	}
	for _, events := range clients {
		nth[client.Connected](r, events, 2)
	}
}

// restart restarts the broker and directs the links to its new address.
func (r *run) restart(kill bool, links ...*mqtttest.Proxy) {
	r.Helper()
	r.broker.Restart(r.T, kill)
	for _, link := range links {
		if err := link.SetTarget(r.broker.URL()); err != nil {
			r.Fatal(err)
		}
		link.Cut() // a stalled link would not notice it
		link.Resume()
	}
}

// letItSave compensates for a broker that acknowledges before it saves. From some moment on, it
// lets no acknowledgement reach the publisher. When later messages have arrived at the receiver,
// everything from before that moment is on the broker's disk. Messages that SIGKILL then makes the
// broker lose were not acknowledged to the publisher, so the publisher resends them.
func (r *run) letItSave(publisher *client.Client, link *mqtttest.Proxy, in *inbox, round int) {
	r.Log("departs from [MQTT-4.3.2-4] and [MQTT-4.3.3-8]: SIGKILL makes it forget messages that it acknowledged")
	link.Stall(mqtttest.ToClient)
	for i := range 5 {
		topic := r.topic("traffic/later")
		d := r.publish(publisher, client.Message{Topic: topic, Payload: []byte(numbered(round*5 + i)), QoS: client.AtLeastOnce})
		in.await(r, "later messages", func(list []*client.Message) bool {
			return slices.ContainsFunc(list, func(m *client.Message) bool { return m.ID == d.ID })
		})
	}
}
