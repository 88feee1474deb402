package interop

import (
	"context"
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

// choice is how a subscriber requests retained messages, and how often it gets them.
type choice struct {
	when            client.SendRetained
	started         bool // Start precedes Subscribe
	resumed         bool // an earlier process had the subscription in the same session
	first           int  // number after Subscribe
	afterSessionEnd int  // further ones after the server has lost the session
}

// Retained messages are sent as the subscription requests, whether Subscribe precedes or follows
// Start. A connection that resumes the session gets none again.
func TestRetainHandling(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		pub := r.start(r.config("pub"))
		for _, started := range []bool{false, true} {
			for _, resumed := range []bool{false, true} {
				one := 1
				if resumed {
					one = 0
				}
				for _, c := range []choice{
					{client.SendRetainedAlways, started, resumed, 1, 1},
					{client.SendRetainedIfNew, started, resumed, one, 1},
					{client.SendRetainedNever, started, resumed, 0, 0},
				} {
					r.retainHandling(pub, c)
				}
			}
		}
	})
}

func (r *run) retainHandling(pub *client.Client, c choice) {
	r.Helper()
	what := fmt.Sprintf("%+v", c)
	name := fmt.Sprintf("rh%d%t%t", c.when, c.started, c.resumed)
	filter := r.topic(name)
	r.deliver(pub, client.Message{Topic: filter, Payload: []byte("retained"), QoS: 1, Retain: true})
	link := r.proxy()
	cfg := r.config(name)
	cfg.Servers, cfg.Dir = []string{link.URL()}, r.TempDir()
	if c.resumed {
		earlier := r.start(cfg)
		r.subscribe(earlier, filter, client.AtLeastOnce, client.RetainHandling(client.SendRetainedNever))
		if err := earlier.Close(); err != nil {
			r.Fatal(err)
		}
	}
	events := watch(&cfg)
	sub := r.make(cfg)
	in := &inbox{}
	start := func() {
		if err := sub.Start(context.Background()); err != nil {
			r.Fatal(err)
		}
		if err := sub.AwaitConnection(r.ctx); err != nil {
			r.Fatal(err)
		}
	}
	if c.started {
		start()
	}
	if _, err := sub.Subscribe(r.ctx, filter, client.AtLeastOnce, in, client.RetainHandling(c.when)); err != nil {
		r.Fatal(err)
	}
	if !c.started {
		start()
	}
	want := func(when string, n int) {
		r.Helper()
		awaitActive(r, sub)
		r.fence(pub, in, filter, client.AtLeastOnce)
		got := 0
		list, _ := in.snapshot()
		for _, m := range list {
			if m.Retain && !m.Duplicate { // its acknowledgement was lost with the connection
				got++
			}
		}
		if got != n {
			r.Errorf("%s, %s: %d retained messages came, want %d", what, when, got, n)
		}
	}
	want("after Subscribe", c.first)
	link.Cut()
	if e := nth[client.Connected](r, events, 2); !e.SessionPresent {
		r.Fatalf("%s: the broker did not keep the session", what)
	}
	want("after a reconnect", c.first)
	link.Refuse(true)
	link.Cut()
	r.visit(cfg.ClientID, func(context.Context, *client.Client) error { return nil })
	link.Refuse(false)
	if e := nth[client.Connected](r, events, 3); e.SessionPresent {
		r.Fatalf("%s: the session is still there", what)
	}
	want("after the session was lost", c.first+c.afterSessionEnd)
	if err := sub.Close(); err != nil {
		r.Error(err)
	}
}
