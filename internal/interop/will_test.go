package interop

import (
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

func TestWill_OnlyWithoutACleanEnd(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("will")
		in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce)
		will := client.Will{
			Topic: topic, Payload: []byte("gone"), QoS: client.AtLeastOnce, Expiry: time.Hour,
			ContentType: "text/plain", ResponseTopic: "back", CorrelationData: []byte{0, 9}, PayloadIsUTF8: true,
			UserProperties: []client.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
		}
		link := r.proxy()
		cfg := r.config("ship")
		cfg.Servers, cfg.Presence.Will = []string{link.URL()}, &will
		events := watch(&cfg)
		ship := r.start(cfg)
		link.Cut()
		expectProperties(r, in.awaitN(r, "wills", 1)[0], client.Message{
			Topic: topic, Payload: will.Payload, QoS: will.QoS, Expiry: will.Expiry,
			ContentType: will.ContentType, ResponseTopic: will.ResponseTopic, CorrelationData: will.CorrelationData,
			PayloadIsUTF8: true, UserProperties: will.UserProperties,
		}, false)

		nth[client.Connected](r, events, 2)
		if err := ship.Close(); err != nil {
			r.Error(err)
		}
		r.fence(r.start(r.config("pub")), in, topic, client.AtLeastOnce)
		if got := in.texts(topic); len(got) != 1 {
			r.Errorf("wills %q, want one for the cut and none for the clean end", got)
		}
	})
}

func TestWill_RetainedStays(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("will/retained")
		r.retains(topic)
		in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce)
		link := r.proxy()
		cfg := r.config("ship")
		cfg.Servers = []string{link.URL()}
		cfg.Presence.Will = &client.Will{Topic: topic, Payload: []byte("gone"), QoS: client.ExactlyOnce, Retain: true}
		r.start(cfg)
		link.Refuse(true)
		link.Cut()
		in.awaitN(r, "wills", 1)
		late := r.subscribe(r.start(r.config("late")), topic, client.AtLeastOnce)
		if m := late.awaitN(r, "retained wills", 1)[0]; string(m.Payload) != "gone" || !m.Retain {
			r.Errorf("retained is %q (retain %t), want the will", m.Payload, m.Retain)
		}
	})
}

func TestStatus_OnlineAndOffline(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("status")
		r.retains(topic)
		in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce)
		// A birth whose PUBACK was lost is resent, which is no change.
		changes := func() []string { return slices.Compact(in.texts(topic)) }
		// expect waits for the nth change and checks the status that a new subscriber gets.
		expect := func(n int, what, want string) {
			r.Helper()
			in.await(r, what, func([]*client.Message) bool { return len(changes()) >= n })
			late := r.start(r.config("late" + numbered(n)))
			defer late.Close()
			retained := r.subscribe(late, topic, client.AtLeastOnce).awaitN(r, "retained status", 1)[0]
			if got := string(retained.Payload); got != want {
				r.Errorf("%s, the retained status is %q, want %q", what, got, want)
			}
		}
		link := r.proxy()
		cfg := r.config("ship")
		cfg.Servers, cfg.Presence.Status = []string{link.URL()}, &client.Status{Topic: topic}
		ship := r.start(cfg)
		expect(1, "connected", "online")

		link.Refuse(true)
		link.Cut()
		expect(2, "cut off", "offline")

		link.Refuse(false)
		expect(3, "back again", "online")

		if err := ship.Close(); err != nil {
			r.Error(err)
		}
		expect(4, "closed", "offline")
		r.fence(r.start(r.config("pub")), in, topic, client.AtLeastOnce)
		if got, want := changes(), []string{"online", "offline", "online", "offline"}; !slices.Equal(got, want) {
			r.Errorf("the status was %q, want %q", got, want)
		}
	})
}
