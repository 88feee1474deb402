package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// identified returns a message with an ID.
func identified(topic string, packetID uint16, id client.MessageID) wire.Publish {
	return wire.Publish{Topic: topic, QoS: 1, PacketID: packetID, User: []wire.UserProperty{{Key: client.PropID, Value: id.String()}}}
}

func TestDedupe_AcknowledgesDuplicates(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) { cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{}) }, in,
		func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			id := client.NewMessageID()
			for i := range 3 {
				p.publish(identified("t", uint16(i+1), id))
				if a := p.nextAck(wire.PUBACK); a.Reason != 0 {
					t.Errorf("PUBACK says 0x%02X", a.Reason)
				}
			}
			p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 7}) // is handled, because it has no ID
			p.nextAck(wire.PUBACK)
			if n := len(in.messages()); n != 2 {
				t.Errorf("%d messages were handled, want 2", n)
			}
			if n := c.Stats().Duplicates; n != 2 {
				t.Errorf("%d duplicates were counted, want 2", n)
			}
		})
}

// Many copies arrive at the moment in which the first is finished. Each must be acknowledged.
func TestDedupe_AcknowledgesConcurrentDuplicates(t *testing.T) {
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{})
		cfg.Receiving.Concurrency = 16
	}, newInbox(), func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		began := time.Now()
		for round := range 200 {
			id := client.NewMessageID()
			for i := range 8 {
				p.publish(identified(fmt.Sprint("t", i), uint16(i+1), id))
			}
			for i := range 8 {
				if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) || a.Reason != 0 {
					t.Fatalf("round %d: PUBACK %d says 0x%02X", round, a.PacketID, a.Reason)
				}
			}
		}
		if n := c.Stats().Handled; n != 200 {
			t.Errorf("%d were handled, want 200", n)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("copies waited %v for a result that was known", took)
		}
	})
}

// sickCache fails in its first calls of Begin.
type sickCache struct {
	dedupe.Cache
	mu    sync.Mutex
	fails int
}

func (s *sickCache) Begin(ctx context.Context, key, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails--; s.fails >= 0 {
		return dedupe.Claim{}, 0, errors.New("the cache is out of order")
	}
	return s.Cache.Begin(ctx, key, owner)
}

func TestDedupe_WaitsForFailingCache(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe = &sickCache{Cache: dedupe.NewMemory(dedupe.Options{}), fails: 5}
		cfg.Receiving.HandlerBackoff = reliability.Backoff{Min: time.Second, Max: time.Second}
	}, in, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		began := time.Now()
		p.publish(identified("t", 1, client.NewMessageID()))
		p.publish(identified("t", 2, client.NewMessageID()))
		for i := range 2 {
			if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) || a.Reason != 0 {
				t.Errorf("PUBACK %d says 0x%02X", a.PacketID, a.Reason)
			}
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := len(eventsOf[client.StoreFailed](events)); n != 5 || c.Stats().StoreFailures != 5 {
			t.Errorf("%d StoreFailed events, want 5", n)
		}
	})
}

func TestClose_DoesNotWaitForFailingCache(t *testing.T) {
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe = &sickCache{Cache: dedupe.NewMemory(dedupe.Options{}), fails: 1 << 30}
		cfg.Connection.CloseTimeout = time.Hour
	}, newInbox(), func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		p.publish(identified("t", 1, client.NewMessageID()))
		p.quiet()
		began := time.Now()
		must(t, c.Close())
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestDedupe_SharedCache(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cache := dedupe.NewMemory(dedupe.Options{})
		var handled atomic.Int32
		var peers []*peer
		var clients []*client.Client
		for i := range 2 {
			cfg := testConfig(fmt.Sprint(i), &recorder{}, s.dial)
			cfg.Receiving.Dedupe = cache
			c := mustNew(t, cfg)
			must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error {
				handled.Add(1)
				time.Sleep(10 * time.Second)
				return nil
			})))
			start(t, c)
			clients, peers = append(clients, c), append(peers, s.accept(control.Connack{}))
		}
		id := client.NewMessageID()
		began := time.Now()
		for _, p := range peers {
			p.publish(identified("t", 1, id))
		}
		for _, p := range peers {
			if a := p.nextAck(wire.PUBACK); a.Reason != 0 {
				t.Errorf("PUBACK says 0x%02X", a.Reason)
			}
		}
		if n := handled.Load(); n != 1 {
			t.Errorf("the handlers ran %d times", n)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the second client took %v to learn that the first had handled it", took)
		}
		for _, c := range clients {
			must(t, c.Close())
		}
	})
}

// Messages that were held for their order are redelivered. The next client with the same cache must
// be able to handle them.
func TestClose_ReleasesClaims(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cache := dedupe.NewMemory(dedupe.Options{})
		in := newInbox()
		live := func() (*client.Client, *peer) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Receiving.Dedupe = cache
			cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{GapTimeout: time.Hour}}
			c := mustNew(t, cfg)
			must(t, c.Handle("t", in))
			start(t, c)
			return c, s.accept(control.Connack{})
		}
		numbered := func(packetID uint16, seq string, id client.MessageID) wire.Publish {
			m := identified("t", packetID, id)
			m.User = append(m.User, wire.UserProperty{Key: client.PropPublisher, Value: "p"}, wire.UserProperty{Key: client.PropEpoch, Value: "1"}, wire.UserProperty{Key: client.PropSeq, Value: seq})
			return m
		}
		c, p := live()
		first, second, third := client.NewMessageID(), client.NewMessageID(), client.NewMessageID()
		p.publish(numbered(1, "1", first))
		p.nextAck(wire.PUBACK)
		p.publish(numbered(3, "3", third))
		p.quiet() // held for its order
		must(t, c.Close())

		_, p = live()
		p.publish(numbered(2, "2", second))
		p.publish(numbered(3, "3", third))
		p.nextAck(wire.PUBACK)
		p.nextAck(wire.PUBACK)
		synctest.Wait()
		if n := len(in.messages()); n != 3 {
			t.Errorf("%d messages were handled, want 3", n)
		}
	})
}
