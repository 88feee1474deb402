package interop

import (
	"context"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

func TestASharedSubscriptionShares(t *testing.T) {
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
			// What arrives has the topic, and matches the handler by the filter
			// behind the share name.
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
