package interop

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/ordering"
)

func TestSharedSubscription_DistributesMessages(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		const messages = 90
		topic := r.topic("shared/work")
		var all record[string]
		var parts [3]*inbox
		for i := range parts {
			in := &inbox{}
			parts[i] = in
			both := client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
				all.add(string(m.Payload))
				return in.Handle(ctx, m)
			})
			c := r.start(r.config("member" + numbered(i)))
			filter := "$share/" + r.name + "/" + r.topic("shared/#")
			// A received message has the topic, and matches the handler by the filter after the
			// share name.
			if _, err := c.Subscribe(r.ctx, filter, client.ExactlyOnce, both); err != nil {
				r.Fatal(err)
			}
		}
		publisher := r.start(r.config("pub"))
		want := numberedUpTo(messages)
		for i, text := range want {
			r.publish(publisher, client.Message{Topic: topic, Payload: []byte(text), QoS: client.QoS(1 + i%2)})
		}
		if err := publisher.Drain(r.ctx); err != nil {
			r.Error(err)
		}
		got := all.awaitN(r, "shared messages", messages)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			r.Errorf("handled %q, want each of %d once over all members", got, messages)
		}
		for i, in := range parts {
			n := len(in.texts(topic))
			if n == 0 && !r.broker.Traits().sharesUnevenly {
				r.Errorf("member %d was given nothing", i)
			}
			r.Logf("member %d handled %d", i, n)
		}
	})
}

// The numbers of a publisher are distributed over the clients that share a subscription, so each
// one sees gaps. With Ordering, no client waits for the missing numbers or reports them.
func TestSharedSubscription_IsNotPutInOrder(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		const messages = 60
		var all record[string]
		var members [2]*client.Client
		// One member would report a gap at once, the other would wait for it longer than the test.
		for i, timeout := range []time.Duration{time.Millisecond, time.Hour} {
			cfg := r.config("member" + numbered(i))
			cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{Start: ordering.FromOne, GapTimeout: timeout}}
			members[i] = r.start(cfg)
			h := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
				if m.Origin.Seq == 0 || m.OutOfOrder {
					r.Errorf("%s has the number %d, out of order %v", m.Payload, m.Origin.Seq, m.OutOfOrder)
				}
				all.add(m.Topic + " " + string(m.Payload))
				return nil
			})
			if _, err := members[i].Subscribe(r.ctx, "$share/"+r.name+"/"+r.topic("shared/#"), client.ExactlyOnce, h); err != nil {
				r.Fatal(err)
			}
		}
		var want []string
		for _, name := range []string{"a", "b"} {
			cfg := r.config("pub" + name)
			cfg.Publishing.Sequenced = true
			publisher := r.start(cfg)
			for i, text := range numberedUpTo(messages) {
				topic := r.topic("shared/" + name)
				want = append(want, topic+" "+text)
				r.publish(publisher, client.Message{Topic: topic, Payload: []byte(text), QoS: client.QoS(1 + i%2)})
			}
			if err := publisher.Drain(r.ctx); err != nil {
				r.Error(err)
			}
		}
		got := all.awaitN(r, "shared messages", len(want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			r.Errorf("handled %q, want each of %d once over both members", got, len(want))
		}
		for i, c := range members {
			if n := c.Stats(); n.Gaps != 0 || n.Handled == 0 && !r.broker.Traits().sharesUnevenly {
				r.Errorf("member %d: %d gaps, %d handled", i, n.Gaps, n.Handled)
			}
		}
	})
}
