package client_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// echoes is a client that receives its own messages. Each has a number, which is checked on receipt
// and not stored.
type echoes struct {
	mu       sync.Mutex
	next     map[string]uint64 // next expected number by topic
	again    map[string]int    // redelivered messages by topic
	disorder []string
}

func (e *echoes) Handle(_ context.Context, m *client.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := binary.BigEndian.Uint64(m.Payload)
	switch want := e.next[m.Topic]; {
	case n == want:
		e.next[m.Topic]++
	case n < want:
		e.again[m.Topic]++
	case len(e.disorder) < 10:
		e.disorder = append(e.disorder, fmt.Sprintf("%s: %d where %d is due", m.Topic, n, want))
	}
	return nil
}

func (e *echoes) arrived(topic string) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next[topic]
}

// footprintOf returns the goroutines and the heap of the process while it is idle.
func footprintOf() (goroutines int, heap uint64) {
	synctest.Wait()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// The link is cut a thousand times in a row, each time after a random number of bytes in either
// direction. At QoS 2 every message is received once and in order, and at QoS 1 none is missing.
// Goroutines and memory do not grow.
func TestFaultCuts_AThousand(t *testing.T) {
	const cuts = 1000
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, dir)
		random := rand.New(rand.NewPCG(1, 2))
		cfg := testConfig("c", &recorder{}, nil)
		cfg.OnEvent = nil // a recorder would keep all events
		cfg.Connection.Dial = s.dial
		cfg.Store.Custom = persistence.NewMemory(persistence.Options{Files: persistence.Files{SegmentBytes: 64 << 10}}) // small segments are removed early
		cfg.Connection.Backoff = reliability.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond}
		cfg.Connection.ConnectTimeout, cfg.Connection.AckTimeout = 5*time.Second, 5*time.Second
		c := mustNew(t, cfg)
		e := &echoes{next: map[string]uint64{}, again: map[string]int{}}
		topics := map[string]client.QoS{"q1": client.AtLeastOnce, "q2": client.ExactlyOnce}
		for topic, qos := range topics {
			must1(c.Subscribe(t.Context(), topic, qos, e))
		}
		start(t, c)
		connectSoon(t, c)
		time.Sleep(time.Second)

		sent := uint64(0)
		payload := make([]byte, 8)
		talk := func(n int) {
			for range n {
				binary.BigEndian.PutUint64(payload, sent)
				for topic, qos := range topics {
					if _, err := c.Publish(t.Context(), client.Message{Topic: topic, Payload: payload, QoS: qos}); err != nil {
						t.Fatal(err)
					}
				}
				sent++
			}
		}
		settle := func() {
			for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
				if e.arrived("q1") == sent && e.arrived("q2") == sent && c.Stats().Store.Pending == 0 {
					return
				}
			}
			t.Fatalf("of %d, %d and %d came; %+v", sent, e.arrived("q1"), e.arrived("q2"), c.State())
		}
		talk(200)
		settle()
		goroutines, heap := footprintOf()

		for n := 1; n <= cuts; n++ {
			s.link.CutAfter(mqtttest.Direction(random.IntN(2)), random.IntN(600))
			for s.link.Stats().Cuts < n {
				if c.Stats().Store.Pending < 20 {
					talk(1 + random.IntN(3))
				}
				time.Sleep(time.Duration(1+random.IntN(5)) * time.Millisecond)
			}
		}
		settle()
		if e.disorder != nil || e.again["q2"] > 0 {
			t.Errorf("out of order: %q; %d came twice at QoS 2", e.disorder, e.again["q2"])
		}
		stats := c.Stats()
		t.Logf("%d cuts, %d connections, %d messages each way at each QoS; %d came twice at QoS 1", cuts, stats.Connections, sent, e.again["q1"])
		if e.again["q1"] == 0 || stats.Connections < cuts/4 {
			t.Error("hardly anything was cut")
		}
		wantAccounts(t, c)

		talk(200) // same load as before, to be comparable
		settle()
		time.Sleep(time.Minute)
		after, grown := footprintOf()
		t.Logf("goroutines %d, then %d; heap %d KiB, then %d KiB", goroutines, after, heap>>10, grown>>10)
		const idle = 4 // goroutines that package callback keeps
		if after > goroutines+idle {
			t.Errorf("%d goroutines, and %d after the cuts", goroutines, after)
		}
		if int64(grown)-int64(heap) > 1<<20 {
			t.Errorf("the heap has grown from %d KiB to %d KiB", heap>>10, grown>>10)
		}
		must(t, c.Close())
	})
}
