package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// TestRetained_FetchesEverything fetches ten thousand messages whose end the marker shows. It also
// does so if the server queues no more than 1,000 messages for a client and drops the rest, which
// is mosquitto's default.
func TestRetained_FetchesEverything(t *testing.T) {
	t.Parallel()
	const n = 10_000
	onEachBroker(t, setup{large: true, maximumQueued: 1000}, func(r *run) {
		count := n
		if r.broker.Traits().shared {
			count = 100
		}
		pub := r.start(r.config("pub"))
		for i := range count {
			topic := r.topic(fmt.Sprint("many/", i))
			r.retains(topic)
			if _, err := pub.SetRetained(r.ctx, topic, []byte(fmt.Sprint(i))); err != nil {
				r.Fatal(err)
			}
		}
		if err := pub.Drain(r.ctx); err != nil {
			r.Fatal(err)
		}
		c := r.start(r.config("fetch"))
		for range 3 {
			found, err := c.FetchRetained(r.ctx, r.topic("many/#"), client.RetainedOptions{})
			if err != nil || len(found.Messages) != count || found.End != client.ByMarker {
				r.Fatalf("%v; got %+.100v", err, found)
			}
		}
		view, err := c.MirrorRetained(r.ctx, r.topic("many/+"), client.RetainedOptions{})
		if err != nil {
			r.Fatal(err)
		}
		if end, err := view.Synced(r.ctx); err != nil || end != client.ByMarker || view.Len() != count {
			r.Errorf("%v, %v, %d messages", end, err, view.Len())
		}
	})
}

// TestRetained_FetchIsHiddenFromHandlers covers brokers that send one copy of a message for several
// matching subscriptions, or several.
func TestRetained_FetchIsHiddenFromHandlers(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprint("same filter ", same), func(t *testing.T) {
			onEachBroker(t, setup{}, func(r *run) {
				topic := r.topic("a/1")
				r.retains(topic)
				pub := r.start(r.config("pub"))
				set := func(payload string) {
					if d, err := pub.SetRetained(r.ctx, topic, []byte(payload)); err != nil {
						r.Fatal(err)
					} else if _, err := d.Wait(r.ctx); err != nil {
						r.Fatal(err)
					}
				}
				set("first")
				c := r.start(r.config("c"))
				filter := r.topic("a/#")
				if same {
					filter = r.topic("a/+")
				}
				in := r.subscribe(c, filter, client.AtLeastOnce)
				in.awaitN(r, "the retained message", 1)
				view, err := c.MirrorRetained(r.ctx, r.topic("a/+"), client.RetainedOptions{})
				if err != nil {
					r.Fatal(err)
				}
				if _, err := view.Synced(r.ctx); err != nil {
					r.Fatal(err)
				}
				want := []string{"first"}
				for i := range 5 {
					set(fmt.Sprint(i))
					want = append(want, fmt.Sprint(i))
					if found, err := c.FetchRetained(r.ctx, r.topic("+/1"), client.RetainedOptions{}); err != nil || len(found.Messages) != 1 || string(found.Messages[0].Payload) != fmt.Sprint(i) {
						r.Fatalf("%v, %+v", err, found)
					}
				}
				view.Close()
				r.fence(pub, in, topic, client.AtLeastOnce)
				r.expectExactly(in, topic, want)
			})
		})
	}
}

// TestWatch_OtherClients checks a watcher while devices come, go and lose their connections. The
// watcher loses its connection too, and the broker is restarted.
func TestWatch_OtherClients(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{restarts: true}, func(r *run) {
		topic := func(i int) string { return r.topic(fmt.Sprintf("devices/%d/status", i)) }
		device := func(i int, server string) *client.Client {
			r.retains(topic(i))
			cfg := r.config(fmt.Sprint("device", i))
			cfg.Servers = []string{server}
			cfg.Presence.Status = &client.Status{Topic: topic(i), Structured: true, Delay: time.Second}
			return r.start(cfg)
		}
		cable, link := r.proxy(), r.proxy()
		leaves := device(0, r.broker.URL())
		device(1, cable.URL())
		device(2, link.URL())
		cfg := r.config("watcher")
		cfg.Servers = []string{link.URL()}
		c := r.start(cfg)
		w, err := c.WatchStatus(r.ctx, r.topic("devices/+/status"), client.WatchOptions{})
		if err != nil {
			r.Fatal(err)
		}
		changes := w.Changes()
		until := func(want string) {
			r.Helper()
			for {
				got := ""
				for i := range 3 {
					d, _ := w.Get(topic(i))
					got += d.State.String() + " "
				}
				if strings.TrimSpace(got) == want {
					return
				}
				for range changes { // something has to happen first
					break
				}
				changes = w.Changes()
				if r.ctx.Err() != nil {
					r.Fatalf("the states are %s, want %s", got, want)
				}
			}
		}
		synced := func() {
			r.Helper()
			if end, err := w.Synced(r.ctx); err != nil || end != client.ByMarker {
				r.Fatalf("%v, %v", end, err)
			}
		}
		synced()
		until("online online online")
		if err := leaves.Close(); err != nil {
			r.Fatal(err)
		}
		until("offline online online")
		link.Refuse(true)
		link.Cut() // of the watcher and the third device
		cable.Refuse(true)
		cable.Cut()
		time.Sleep(100 * time.Millisecond)
		link.Refuse(false)
		until("offline offline online")
		synced()
		if d, _ := w.Get(topic(1)); d.Status.Reason != presence.ReasonWill || d.Flaps != 0 {
			r.Errorf("%+v", d)
		}
		if r.broker.Traits().shared {
			return
		}
		r.restart(false, link, cable)
		cable.Refuse(false)
		until("offline online online")
		if d, _ := w.Get(topic(1)); d.Flaps != 1 || d.Boots != 1 {
			r.Errorf("%+v", d)
		}
	})
}
