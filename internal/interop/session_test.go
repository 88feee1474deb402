package interop

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
)

// watch records a client's events.
func watch(cfg *client.Config) *record[client.Event] {
	events := &record[client.Event]{}
	cfg.OnEvent = events.add
	return events
}

// nth waits for the nth event of a type and returns it. n counts from 1.
func nth[E client.Event](r *run, events *record[client.Event], n int) (event E) {
	r.Helper()
	events.await(r, "an event", func(list []client.Event) bool {
		found := 0
		for _, e := range list {
			if e, ok := e.(E); ok {
				if found++; found == n {
					event = e
					return true
				}
			}
		}
		return false
	})
	return event
}

func TestSession_ResumedDeliversQueuedMessages(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		link := r.proxy()
		cfg := r.config("sub")
		cfg.Servers = []string{link.URL()}
		events := watch(&cfg)
		sub := r.start(cfg)
		once, atLeast := r.topic("queued/2"), r.topic("queued/1")
		in := r.subscribe(sub, r.topic("queued/+"), client.ExactlyOnce)

		link.Refuse(true)
		link.Cut()
		nth[client.Disconnected](r, events, 1)
		publisher := r.start(r.config("pub"))
		want := numberedUpTo(60)
		for _, text := range want {
			r.publish(publisher, client.Message{Topic: once, Payload: []byte(text), QoS: client.ExactlyOnce})
			r.publish(publisher, client.Message{Topic: atLeast, Payload: []byte(text), QoS: client.AtLeastOnce})
		}
		r.fenceSent(publisher, once)
		link.Refuse(false)

		if e := nth[client.Connected](r, events, 2); !e.SessionPresent {
			r.Error("the broker did not keep the session")
		}
		r.fence(publisher, in, once, client.ExactlyOnce)
		r.fence(publisher, in, atLeast, client.AtLeastOnce)
		r.expectExactly(in, once, want)
		r.expectExactly(in, atLeast, want)
	})
}

// fenceSent waits until the broker has all messages published before.
func (r *run) fenceSent(c *client.Client, topic string) {
	r.Helper()
	r.deliver(c, client.Message{Topic: topic, Payload: []byte(fenceText), QoS: client.ExactlyOnce})
}

func TestSession_SubscriptionsAreRestoredAfterLoss(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		link := r.proxy()
		cfg := r.config("sub")
		cfg.Servers = []string{link.URL()}
		events := watch(&cfg)
		sub := r.start(cfg)
		var inboxes []*inbox
		topics := []string{r.topic("restored/a"), r.topic("restored/b/c"), r.topic("restored/d")}
		filters := []string{topics[0], r.topic("restored/b/#"), r.topic("+/d")}
		topics[2] = r.topic("other/d")
		for _, filter := range filters {
			inboxes = append(inboxes, r.subscribe(sub, filter, client.ExactlyOnce))
		}

		link.Refuse(true)
		link.Cut()
		nth[client.Disconnected](r, events, 1)
		r.visit(cfg.ClientID, func(context.Context, *client.Client) error { return nil })
		link.Refuse(false)
		if e := nth[client.Connected](r, events, 2); e.SessionPresent {
			r.Error("the broker has the session, although it was to forget it")
		}

		// Restoring takes a moment after CONNACK, so publish until each message has arrived.
		publisher := r.start(r.config("pub"))
		for i, in := range inboxes {
			for n := 0; ; n++ {
				r.deliver(publisher, client.Message{Topic: topics[i], Payload: []byte(numbered(n)), QoS: client.ExactlyOnce})
				if list, _ := in.snapshot(); len(list) > 0 {
					break
				}
				if r.ctx.Err() != nil {
					r.Fatalf("the subscription to %s was not restored", filters[i])
				}
			}
		}
	})
}

func TestSession_InFlightMessagesSurviveLoss(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		subCfg := r.config("sub")
		cache := dedupe.NewMemory(dedupe.Options{})
		r.Cleanup(func() { _ = cache.Close() })
		subCfg.Receiving.Dedupe = cache
		topic := r.topic("lost")
		in := r.subscribe(r.start(subCfg), topic, client.ExactlyOnce)

		link := r.proxy()
		cfg := r.config("pub")
		cfg.Servers, cfg.Dir = []string{link.URL()}, r.TempDir()
		events := watch(&cfg)
		publisher := r.start(cfg)
		// The broker accepts the messages, but its answers do not arrive.
		link.Stall(mqtttest.ToClient)
		want := numberedUpTo(20)
		var deliveries []*client.Delivery
		for i, text := range want {
			qos := client.AtLeastOnce
			if i%2 == 1 {
				qos = client.ExactlyOnce
			}
			deliveries = append(deliveries, r.publish(publisher, client.Message{Topic: topic, Payload: []byte(text), QoS: qos}))
		}
		in.awaitN(r, "messages that arrived before the session was lost", 1)
		link.Refuse(true)
		link.Cut()
		link.Resume()
		nth[client.Disconnected](r, events, 1)
		r.visit(cfg.ClientID, func(context.Context, *client.Client) error { return nil })
		link.Refuse(false)

		if lost := nth[client.SessionLost](r, events, 1); lost.InFlight == 0 {
			r.Error("SessionLost says that nothing was in flight")
		}
		for _, d := range deliveries {
			if _, err := d.Wait(r.ctx); err != nil {
				r.Error(err)
			}
		}
		r.fence(publisher, in, topic, client.ExactlyOnce)
		got := in.texts(topic)
		slices.Sort(got) // QoS 2 waits for its PUBREL, so the broker may change the order
		if !slices.Equal(got, want) {
			r.Errorf("handled %q, want each of %d once", got, len(want))
		}
	})
}

func TestRestart_OfTheClientWithMessagesInFlight(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("client/restart")
		in := r.subscribe(r.start(r.config("sub")), topic, client.ExactlyOnce)
		link := r.proxy()
		cfg := r.config("pub")
		cfg.Servers, cfg.Dir, cfg.Publishing.Sequenced = []string{link.URL()}, r.TempDir(), true
		want := numberedUpTo(60)
		first := r.start(cfg)
		link.Stall(mqtttest.ToClient)
		var last *client.Delivery
		for _, text := range want[:40] {
			last = r.publish(first, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
		}
		link.Cut()
		if err := first.Close(); err != nil {
			r.Error(err)
		}
		if o := last.Outcome(); o.State != client.Abandoned {
			r.Errorf("the last message is %v, want abandoned", o.State)
		}
		link.Resume()

		second := r.start(cfg)
		for _, text := range want[40:] {
			r.publish(second, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
		}
		r.fence(second, in, topic, client.ExactlyOnce)
		r.expectExactly(in, topic, want)
		if err := second.Drain(r.ctx); err != nil {
			r.Error(err)
		}
		list, _ := in.snapshot()
		for i, m := range list {
			if m.Origin.Publisher != cfg.ClientID || m.Origin.Seq != uint64(i+1) || m.Origin.Epoch != list[0].Origin.Epoch {
				r.Fatalf("message %d has the origin %+v", i, m.Origin)
			}
		}
	})
}

func TestRestart_OfTheReceiverHandlesEachOnce(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		restartReceiver(r, "clean", false)
		// The acknowledgements are not sent, so all messages are redelivered.
		restartReceiver(r, "cut", true)
	})
}

func restartReceiver(r *run, name string, cut bool) {
	r.Helper()
	const half = 10
	topic := r.topic("receiver/" + name)
	link := r.proxy()
	cfg := r.config("sub" + name)
	cfg.Servers, cfg.Dir, cfg.Connection.CloseTimeout = []string{link.URL()}, r.TempDir(), 50*time.Millisecond
	in := &inbox{}
	stuck := make(chan struct{})
	if cut {
		link.OnPacket(func(dir mqtttest.Direction, header byte, _ []byte) mqtttest.Action {
			if t := mqtttest.PacketType(header >> 4); dir == mqtttest.ToServer && t == mqtttest.PUBREC {
				select {
				case <-stuck: // none is sent before
				case <-r.ctx.Done():
				}
				link.Refuse(true)
				return mqtttest.ActionDrop
			}
			return mqtttest.ActionPass
		})
	}
	var once sync.Once
	first := r.start(cfg)
	// The handler handles half of the messages and then blocks until its client ends.
	halfway := client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
		if list, _ := in.snapshot(); len(list) < half {
			return in.Handle(ctx, m)
		}
		once.Do(func() { close(stuck) })
		<-ctx.Done()
		return ctx.Err()
	})
	if _, err := first.Subscribe(r.ctx, topic, client.ExactlyOnce, halfway); err != nil {
		r.Fatal(err)
	}
	publisher := r.start(r.config("pub" + name))
	want := numberedUpTo(3 * half)
	for _, text := range want {
		r.deliver(publisher, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
	}
	select {
	case <-stuck:
	case <-r.ctx.Done():
		r.Fatal("the handler was not called often enough")
	}
	if err := first.Close(); err != nil {
		r.Error(err)
	}
	if n := first.Stats().Handled; n != half {
		r.Errorf("%d messages were handled before the restart, want %d", n, half)
	}

	link.ClearFaults()
	second := r.make(cfg)
	if err := second.Handle(topic, in); err != nil {
		r.Fatal(err)
	}
	if err := second.Start(context.Background()); err != nil {
		r.Fatal(err)
	}
	r.fence(publisher, in, topic, client.ExactlyOnce)
	r.expectExactly(in, topic, want)
	if cut && second.Stats().Redelivered == 0 {
		r.Error("nothing was resent, so this shows nothing")
	}
}
