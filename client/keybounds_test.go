package client_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// A key of the application, with the filter of the handler, may be longer than a cache takes.
func TestDedupeKey_LongKeys(t *testing.T) {
	handled := 0
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{})
		cfg.Receiving.DedupeKey = func(m *client.Message) (string, error) {
			return strings.Repeat("k", 65_535) + string(m.Payload), nil
		}
		cfg.Receiving.OrderingKey = func(m *client.Message) string { return strings.Repeat("o", 65_535) }
		cfg.Connection.MaximumPacketSize = 1 << 20
	}, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		must(t, c.Handle(strings.Repeat("f", 60_000), client.HandlerFunc(func(_ context.Context, m *client.Message) error {
			if n := len(m.Claim.Key); n == 0 || n > 1024 {
				t.Errorf("a key of %d bytes", n)
			}
			handled++
			return nil
		})))
		for i, payload := range []string{"a", "b", "a"} {
			p.publish(wire.Publish{Topic: strings.Repeat("f", 60_000), QoS: 1, PacketID: uint16(i + 1), Payload: []byte(payload)})
			p.nextAck(wire.PUBACK)
		}
		if handled != 2 || c.Stats().Duplicates != 1 {
			t.Errorf("%d messages handled, %d duplicates; want 2 and 1", handled, c.Stats().Duplicates)
		}
	})
}

// Publishers with names of 60 kB, each with a gap, take no more than MaxStreamBytes.
func TestOrdering_LongPublisherNames(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const limit, publishers = 8 << 20, 1000
	receiving(t, func(cfg *client.Config) {
		cfg.OnEvent = nil // events would keep the names
		cfg.Receiving.Ordering = &client.Ordering{}
		cfg.Receiving.Ordering.MaxStreamBytes = limit
		cfg.Connection.MaximumPacketSize = 1 << 20
	}, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		must(t, c.Handle("#", client.HandlerFunc(accepting)))
		before, id := heap(), uint16(0)
		for i := range publishers {
			name := fmt.Sprintf("%060000d", i)
			for seq := 1; seq <= 3; seq += 2 { // 2 is missing
				id++
				m := numbered(fmt.Sprint("t/", i%50), id, 1, uint64(seq))
				m.User[0].Value = name
				p.publish(m)
				time.Sleep(10 * time.Second) // the gap is given up
				p.nextAck(wire.PUBACK)
			}
		}
		if used := heap() - before; used > 3*limit/2 {
			t.Errorf("%d bytes of heap, want at most %d", used, 3*limit/2)
		}
		if s := c.Stats(); s.Gaps != publishers {
			t.Errorf("%d gaps, want %d", s.Gaps, publishers)
		}
	})
}
