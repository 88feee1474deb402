package interop

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// overlapping is a subscriber with filters that match the same messages, and their handlers.
type overlapping struct {
	*run
	c      *client.Client
	topic  string
	in     map[string]*inbox // by filter
	last   atomic.Int64      // when the last packet was seen, in nanoseconds
	handle bool              // one handler has no subscription
}

// overlap starts a process of the subscriber.
func (r *run) overlap(topic, dir string, handle bool) *overlapping {
	o := &overlapping{run: r, topic: topic, in: map[string]*inbox{}, handle: handle}
	cfg := r.config("sub")
	link := r.proxy()
	link.OnPacket(func(mqtttest.Direction, byte, []byte) mqtttest.Action {
		o.last.Store(time.Now().UnixNano())
		return mqtttest.ActionPass
	})
	cfg.Servers, cfg.Dir, cfg.Receiving.Ordering = []string{link.URL()}, dir, &client.Ordering{}
	o.c = r.make(cfg)
	return o
}

func (o *overlapping) subscribe() {
	o.Helper()
	if o.handle {
		in := &inbox{}
		o.in["handled"] = in
		if err := o.c.Handle(o.run.topic("+/+"), in); err != nil {
			o.Fatal(err)
		}
	}
	for _, s := range []struct {
		filter  string
		qos     client.QoS
		options []client.SubscribeOption
	}{
		{o.run.topic("#"), client.ExactlyOnce, nil},
		{o.topic, client.AtLeastOnce, []client.SubscribeOption{client.RetainAsPublished()}},
		{o.run.topic("+") + "/t", client.ExactlyOnce, []client.SubscribeOption{client.SubscriptionID(7)}},
		{"$share/g/" + o.topic, client.ExactlyOnce, nil},
		{o.run.topic("elsewhere"), client.AtLeastOnce, nil},
	} {
		o.in[s.filter] = o.run.subscribe(o.c, s.filter, s.qos, append(s.options, client.RetainHandling(client.SendRetainedNever))...)
	}
}

func (o *overlapping) begin() {
	o.Helper()
	if err := o.c.Start(context.Background()); err != nil {
		o.Fatal(err)
	}
	if err := o.c.AwaitConnection(o.ctx); err != nil {
		o.Fatal(err)
	}
}

// awaitActive waits until the server has granted all subscriptions.
func awaitActive(r *run, c *client.Client) {
	r.Helper()
	for !allActive(c.Subscriptions()) {
		if r.ctx.Err() != nil {
			r.Fatalf("%+v", c.Subscriptions())
		}
		time.Sleep(time.Millisecond)
	}
}

func allActive(list []client.Subscription) bool {
	return !slices.ContainsFunc(list, func(s client.Subscription) bool { return s.State != client.SubscriptionActive || s.Granted != s.QoS })
}

// want checks that each handler gets these messages once, in order.
func (o *overlapping) want(what string, texts []string) {
	o.Helper()
	for filter, in := range o.in {
		if filter == o.run.topic("elsewhere") {
			continue
		}
		in.await(o.run, what+" for "+filter, func([]*client.Message) bool { return len(in.texts(o.topic)) >= len(texts) })
	}
	// Wait for duplicates. Also, mosquitto loses acknowledgements that arrive directly before the
	// end of a connection.
	for time.Since(time.Unix(0, o.last.Load())) < 300*time.Millisecond {
		time.Sleep(10 * time.Millisecond)
	}
	for filter, in := range o.in {
		if got := in.texts(o.topic); !slices.Equal(got, texts) && filter != o.run.topic("elsewhere") {
			o.Errorf("%s: the handler of %s got %d messages %.200q, want %d", what, filter, len(got), got, len(texts))
		}
	}
	if n := o.c.Stats().Gaps; n != 0 {
		o.Errorf("%s: %d gaps", what, n)
	}
}

// Each handler gets each message once, whatever filters of the application match it: in a new
// session, after the process has ended, and for messages that waited in the session.
func TestOverlappingFilters_EachHandlerOnce(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{maximumQueued: 1000}, func(r *run) {
		topic, dir := r.topic("over/t"), r.TempDir()
		cfg := r.config("pub")
		cfg.Publishing.Sequenced = true
		pub := r.start(cfg)
		send := func(what string) (texts []string) {
			for i := range 30 {
				texts = append(texts, fmt.Sprint(what, " ", i))
				r.deliver(pub, client.Message{Topic: topic, Payload: []byte(texts[i]), QoS: client.QoS(1 + i%2)})
			}
			return texts
		}
		o := r.overlap(topic, dir, true)
		o.begin()
		o.subscribe()
		for _, s := range o.c.Subscriptions() {
			if s.State != client.SubscriptionActive || s.Granted != s.QoS || s.Err != nil {
				r.Errorf("%+v", s)
			}
		}
		texts := send("new session")
		o.want("in a new session", texts)
		for filter, in := range o.in {
			list, _ := in.snapshot()
			for _, m := range list {
				if ids := m.SubscriptionIDs; slices.ContainsFunc(ids, func(id uint32) bool { return id != 7 }) || filter == r.topic("+")+"/t" && len(ids) != 1 {
					r.Errorf("%s: Subscription Identifiers %v", filter, ids)
				}
			}
		}
		if err := o.c.Close(); err != nil {
			r.Error(err)
		}
		texts = send("queued")
		o = r.overlap(topic, dir, false)
		o.subscribe()
		o.begin()
		o.want("queued in the session", texts)
		awaitActive(o.run, o.c)
		o.want("for the next process", append(texts, send("next")...))
		if err := o.c.Close(); err != nil {
			r.Error(err)
		}

		// Start precedes Subscribe, so messages that waited in the session arrive before their
		// handlers are declared.
		texts = send("early")
		o = r.overlap(topic, dir, false)
		o.begin()
		time.Sleep(100 * time.Millisecond)
		o.subscribe()
		o.want("with Start before Subscribe", texts)
		if err := o.c.Close(); err != nil {
			r.Error(err)
		}

		// A handler without a subscription also gets each message published after the subscriptions
		// once.
		o = r.overlap(topic, dir, true)
		o.subscribe()
		o.begin()
		awaitActive(o.run, o.c)
		o.want("with another handler", send("third"))
	})
}

// The RETAIN flag depends on each subscription: as published for those that request it, and
// otherwise set only on messages that were retained before.
func TestOverlappingFilters_RetainFlags(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("flags/t")
		cfg := r.config("pub")
		cfg.Publishing.Sequenced = true
		pub := r.start(cfg)
		r.deliver(pub, client.Message{Topic: topic, Payload: []byte("before"), QoS: 1, Retain: true})
		conf := r.config("sub")
		conf.Receiving.Ordering = &client.Ordering{}
		c := r.start(conf)
		plain := r.subscribe(c, r.topic("flags/#"), client.AtLeastOnce)
		published := r.subscribe(c, topic, client.ExactlyOnce, client.RetainAsPublished())
		r.deliver(pub, client.Message{Topic: topic, Payload: []byte("retained"), QoS: 1, Retain: true})
		r.deliver(pub, client.Message{Topic: topic, Payload: []byte("not"), QoS: 1})
		for _, want := range []struct {
			in    *inbox
			flags string
		}{{plain, "before true, retained false, not false"}, {published, "before true, retained true, not false"}} {
			list := want.in.awaitN(r, "messages", 3)
			got := ""
			for i, m := range list {
				if i > 0 {
					got += ", "
				}
				got += fmt.Sprint(string(m.Payload), " ", m.Retain)
			}
			if got != want.flags {
				r.Errorf("got %s, want %s", got, want.flags)
			}
		}
	})
}
