package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// words returns the status messages on a topic without consecutive equal ones.
func words(r *run, in *inbox, topic string) (list []string) {
	for _, payload := range in.texts(topic) {
		s, err := presence.Parse([]byte(payload))
		if err != nil {
			r.Errorf("%q: %v", payload, err)
		}
		word := s.State.String() + " " + s.Reason
		if len(list) == 0 || list[len(list)-1] != word {
			list = append(list, word)
		}
	}
	return list
}

// awaitWords waits until the topic has had all these status messages.
func awaitWords(r *run, in *inbox, topic string, want ...string) {
	r.Helper()
	all := strings.Join(want, ", ")
	in.await(r, all, func([]*client.Message) bool { return len(words(r, in, topic)) >= len(want) })
	if got := strings.Join(words(r, in, topic), ", "); got != all {
		r.Errorf("the status was %s, want %s", got, all)
	}
}

// A process has ended, and the next one has another ClientID. The will of the first one is
// published long after the birth of the second.
func TestStatus_CorrectsAStaleWill(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("status")
		r.retains(topic)
		in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce)
		status := &client.Status{Topic: topic, Structured: true, Delay: 2 * time.Second}

		link := r.proxy()
		old := r.config("old")
		old.Servers, old.Presence.Status = []string{link.URL()}, status
		r.start(old)
		awaitWords(r, in, topic, "online birth")
		link.Refuse(true)
		link.Cut()

		cfg := r.config("new")
		cfg.Presence.Status = status
		c := r.start(cfg)
		awaitWords(r, in, topic, "online birth", "offline will", "online correction")
		late := r.start(r.config("late"))
		retained := r.subscribe(late, topic, client.AtLeastOnce).awaitN(r, "retained status", 1)[0]
		if s, _ := presence.Parse(retained.Payload); s.State != presence.Online || s.Boot != c.BootID() {
			r.Errorf("the retained status is %q, want online of the new process", retained.Payload)
		}
		if err := c.Close(); err != nil {
			r.Error(err)
		}
		awaitWords(r, in, topic, "online birth", "offline will", "online correction", "offline close")
	})
}

// The client sends DISCONNECT 0x04, and the server publishes the will after the delay.
func TestStatus_EndByWill(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("status")
		r.retains(topic)
		in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce)
		cfg := r.config("ship")
		cfg.Presence.Status = &client.Status{Topic: topic, Structured: true, Delay: time.Second, LeaveToWill: true}
		c := r.start(cfg)
		awaitWords(r, in, topic, "online birth")
		if err := c.Close(); err != nil {
			r.Error(err)
		}
		awaitWords(r, in, topic, "online birth", "offline will")
	})
}

// The will delay exceeds the session expiry, so the will is published when the session ends.
func TestStatus_WillAtSessionExpiry(t *testing.T) {
	t.Parallel()
	for _, expiry := range []time.Duration{time.Second, client.NoSession} {
		onEachBroker(t, setup{}, func(r *run) {
			topic := r.topic("status")
			r.retains(topic)
			in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce)
			link := r.proxy()
			cfg := r.config("ship")
			cfg.Servers, cfg.Session.Expiry = []string{link.URL()}, expiry
			cfg.Presence.Status = &client.Status{Topic: topic, Structured: true, AtSessionEnd: true}
			r.start(cfg)
			awaitWords(r, in, topic, "online birth")
			link.Refuse(true)
			link.Cut()
			awaitWords(r, in, topic, "online birth", "offline will")
		})
	}
}
