package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// sequence publishes on a topic and returns m-seq of what the server gets; 0: it has none.
func sequence(t *testing.T, c *client.Client, p *peer, topic string) string {
	t.Helper()
	publish(t, c, topic, "x", client.AtLeastOnce)
	m := p.nextPublish()
	p.ack(wire.PUBACK, m.PacketID, 0, "")
	if m.Topic != topic {
		t.Fatalf("topic %.40q came, want %.40q", m.Topic, topic)
	}
	for _, u := range m.User {
		if u.Key == client.PropSeq {
			return u.Value
		}
	}
	return "none"
}

// Any number of reply topics neither ends in ErrFull nor disturbs the numbers of others, in one process
// or the next.
func TestSequenced_MoreTopicsThanStreams(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		disk := faultfs.New()
		const replies = 500
		for run := range 2 {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Dir, cfg.Store.Options.FS = "log", disk
			cfg.Publishing.Sequenced, cfg.Store.Options.Limits.MaxStreams = true, 2
			cfg.Publishing.Unsequenced = []string{"log/#"}
			c := mustNew(t, cfg)
			start(t, c)
			p := s.accept(control.Connack{SessionPresent: run > 0})
			connect(t, c)
			long := strings.Repeat("l", 60_000)
			want := func(topic, seq string) {
				t.Helper()
				if got := sequence(t, c, p, topic); got != seq {
					t.Errorf("run %d, topic %.40q: number %s, want %s", run, topic, got, seq)
				}
			}
			want("log/1", "none") // takes no stream
			want("plant/1", fmt.Sprint(1+2*run))
			want(long, fmt.Sprint(1+2*run))
			for i := range replies {
				want(fmt.Sprintf("reply/%d/%d", run, i), "none")
			}
			want("plant/1", fmt.Sprint(2+2*run))
			want(long, fmt.Sprint(2+2*run))
			if n, e := c.Stats().Unnumbered, eventsOf[client.MessageUnnumbered](&events); n != replies || len(e) != replies || e[0].Topic != fmt.Sprintf("reply/%d/0", run) || e[0].ID.IsZero() {
				t.Errorf("%d messages counted, %d reported, want %d", n, len(e), replies)
			}
			must(t, c.Close())
		}
	})
}

func TestSequenced_RejectUnnumbered(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Publishing.Sequenced, cfg.Publishing.RejectUnnumbered, cfg.Store.Options.Limits.MaxStreams = true, true, 1
		c := mustNew(t, cfg)
		publish(t, c, "a", "x", client.AtLeastOnce)
		_, err := c.Publish(t.Context(), client.Message{Topic: "b", QoS: 1})
		if full := (*persistence.FullError)(nil); !errors.As(err, &full) || full.Limit != "MaxStreams" {
			t.Errorf("got %v, want a FullError for MaxStreams", err)
		}
		publish(t, c, "a", "x", client.AtLeastOnce)
		must(t, c.Close())
	})
}

func TestUnsequenced_IsValidated(t *testing.T) {
	cfg := client.Config{Servers: []string{"mqtt://h"}, ClientID: "c"}
	cfg.Publishing.Unsequenced = []string{"ok/#", "a/#/b"}
	_, err := client.New(cfg)
	if bad := (*client.ConfigError)(nil); !errors.As(err, &bad) || !strings.Contains(err.Error(), "Publishing.Unsequenced[1]") {
		t.Errorf("%v", err)
	}
}
