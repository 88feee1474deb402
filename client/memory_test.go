package client_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A pending message takes at most 64 bytes of memory, however large it is, whether it is conflated or
// expires, and the Deliveries that the application does not keep take none. Its payload is on the disk.
func TestMemory_OfPendingMessages(t *testing.T) {
	const most, mostInAll = 64, 80 << 20
	for name, set := range map[string]func(m *client.Message, i int){
		"plain":    func(*client.Message, int) {},
		"expiring": func(m *client.Message, _ int) { m.Expiry = 1 << 50 },
		"urgent":   func(m *client.Message, _ int) { m.Priority = client.Urgent },
		"conflated": func(m *client.Message, i int) {
			m.Conflate, m.Topic = true, fmt.Sprintf("site/building/floor/room/device-%07d/state", i)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := 400_000
			if name == "plain" && !testing.Short() {
				n = 1_000_000
			}
			cfg := testConfig("c", &recorder{}, func() net.Conn { return nil })
			cfg.Dir = t.TempDir()
			cfg.Store.Options.Sync = persistence.SyncNever
			cfg.Store.Options.Limits.MaxMessages = n
			c := mustNew(t, cfg)
			defer c.Close()
			before := heapInUse()
			for i := range n {
				m := client.Message{Topic: "site/building/floor/room/device/state", Payload: []byte("21.5"), QoS: client.AtLeastOnce}
				set(&m, i)
				if _, err := c.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			all := heapInUse()
			used := all - before
			if got := c.Stats().Store.Pending; got != uint64(n) {
				t.Fatalf("%d messages are pending", got)
			}
			each := float64(used) / float64(n)
			t.Logf("%.1f bytes a pending message", each)
			if each > most {
				t.Errorf("%.1f bytes a pending message, want at most %d", each, most)
			}
			if all > mostInAll {
				t.Errorf("%d bytes in all, want at most %d", all, mostInAll)
			}
		})
	}
}

// heapInUse returns the bytes of the heap that are in use.
func heapInUse() int64 {
	var s runtime.MemStats
	for range 2 { // what weak pointers point to goes in the first round
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
