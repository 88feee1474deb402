package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

func TestPitfall16_TopicAliases(t *testing.T) {
	t.Run("resolved on receipt, per connection", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Receiving.TopicAliasMaximum = 2
			c := mustNew(t, cfg)
			handler := newInbox()
			must(t, c.Handle("#", handler))
			start(t, c)
			p := s.accept(control.Connack{})
			if p.connect.TopicAliasMaximum != 2 {
				t.Fatalf("CONNECT says Topic Alias Maximum %d", p.connect.TopicAliasMaximum)
			}
			p.publish(wire.Publish{Topic: "one", TopicAlias: 1})
			p.publish(wire.Publish{Topic: "two", TopicAlias: 2})
			p.publish(wire.Publish{TopicAlias: 1})
			p.publish(wire.Publish{TopicAlias: 2})
			p.publish(wire.Publish{Topic: "other", TopicAlias: 1})
			p.publish(wire.Publish{TopicAlias: 1})
			topics := map[string]int{}
			for _, m := range handler.await(t, 6) {
				topics[m.Topic]++
			}
			if fmt.Sprint(topics) != "map[one:2 other:2 two:2]" {
				t.Errorf("the topics were %v", topics)
			}
			p.publish(wire.Publish{Topic: "x", TopicAlias: 3}) // one above the maximum
			d, err := control.ParseDisconnect(p.ended())
			if err != nil || d.Reason != wire.ReasonTopicAliasInvalid {
				t.Errorf("got DISCONNECT 0x%02X, %v, want 0x94", d.Reason, err)
			}
			p = s.accept(control.Connack{SessionPresent: true})
			p.publish(wire.Publish{TopicAlias: 1}) // of the connection before
			if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != wire.ReasonProtocolError {
				t.Errorf("got DISCONNECT 0x%02X, %v, want 0x82", d.Reason, err)
			}
		})
	})
	t.Run("never sent where the server takes none, or none were asked for", func(t *testing.T) {
		for _, n := range []int{0, 10} {
			withScript(t, func(t *testing.T, s *script) {
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Publishing.TopicAliases = n
				c := mustStart(t, cfg)
				p := s.accept(control.Connack{TopicAliasMaximum: uint16(10 - n)})
				for range 3 {
					publish(t, c, "topic", "x", client.AtLeastOnce)
					if m := p.nextPublish(); m.TopicAlias != 0 || m.Topic != "topic" {
						t.Errorf("alias %d came, topic %q", m.TopicAlias, m.Topic)
					}
				}
			})
		}
	})
	t.Run("sent within the server's limit, least recently used first", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Publishing.TopicAliases = 10
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{TopicAliasMaximum: 2})
			connect(t, c)
			for i, step := range []struct {
				topic, want string
				qos         client.QoS
			}{
				{"plant/one", "1 plant/one", client.AtMostOnce},
				{"plant/one", "1 ", client.AtLeastOnce},
				{"plant/two", "2 plant/two", client.ExactlyOnce},
				{"plant/one", "1 ", client.AtMostOnce},
				{"plant/three", "2 plant/three", client.AtLeastOnce}, // two was used before one
				{"plant/three", "2 ", client.AtLeastOnce},
				{"plant/two", "1 plant/two", client.AtMostOnce},
				{"abc", "0 abc", client.AtLeastOnce}, // nothing to gain
			} {
				publish(t, c, step.topic, "x", step.qos)
				if m := p.nextPublish(); fmt.Sprint(m.TopicAlias, " ", m.Topic) != step.want {
					t.Errorf("message %d has alias %d and topic %q, want %s", i, m.TopicAlias, m.Topic, step.want)
				}
			}
		})
	})
	t.Run("a new connection, and a new process, begin without", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			store := persistence.NewMemory(persistence.Options{})
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Publishing.TopicAliases, cfg.Store.Custom = 1, store
			c := mustStart(t, cfg)
			publish(t, c, "plant/one", "first", client.AtLeastOnce)
			publish(t, c, "plant/one", "second", client.AtLeastOnce)
			p := s.accept(control.Connack{TopicAliasMaximum: 1})
			p.nextPublish()
			if m := p.nextPublish(); m.Topic != "" || m.TopicAlias != 1 {
				t.Fatalf("got %+v, want it without its topic", m)
			}
			p.close()
			want := func(p *peer, alias uint16, topics ...string) {
				t.Helper()
				for i, payload := range []string{"first", "second"} {
					m := p.nextPublish()
					if m.Topic != topics[i] || m.TopicAlias != alias || string(m.Payload) != payload || !m.Dup {
						t.Errorf("got %+v, want topic %q and alias %d", m, topics[i], alias)
					}
				}
			}
			p = s.accept(control.Connack{SessionPresent: true, TopicAliasMaximum: 1})
			want(p, 1, "plant/one", "")
			p.close()
			p = s.accept(control.Connack{SessionPresent: true}) // takes none any more
			want(p, 0, "plant/one", "plant/one")
			client.Abort(c, errors.New("killed"))
			<-c.Done()
			cfg.Store.Custom = store.Reopen()
			start(t, mustNew(t, cfg))
			want(s.accept(control.Connack{SessionPresent: true, TopicAliasMaximum: 1}), 1, "plant/one", "")
		})
	})
	t.Run("none that makes a packet larger than the server takes", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Publishing.TopicAliases = 1
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{TopicAliasMaximum: 1, MaximumPacketSize: 128})
			connect(t, c)
			full := wire.Publish{Topic: "plant/one"}
			room := 128 - full.Size()
			for _, step := range []struct {
				size  int
				topic string
				alias uint16
			}{
				{room - wire.TopicAliasSize + 1, "plant/one", 0}, // one byte too many with both
				{room - wire.TopicAliasSize, "plant/one", 1},
				{room, "", 1},
			} {
				publish(t, c, "plant/one", strings.Repeat("x", step.size), client.AtMostOnce)
				f := p.next(wire.PUBLISH)
				v, err := wire.ParsePublish(f)
				if err != nil || string(v.Topic) != step.topic || v.TopicAlias != step.alias || len(f.Raw) > 128 {
					t.Errorf("payload of %d: topic %q, alias %d, %d bytes, %v", step.size, v.Topic, v.TopicAlias, len(f.Raw), err)
				}
			}
		})
	})
}
