package mqtttest

import (
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Retained messages of long topics are refused beyond MaxRetainedBytes, and replaced ones do not count.
func TestRetain_MaxRetainedBytes(t *testing.T) {
	const limit, length = 1 << 20, 60_000
	inBubble(t, Options{MaxRetainedBytes: limit}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		put := func(i int, want byte) {
			t.Helper()
			p.put(wire.Publish{Topic: fmt.Sprintf("%0*d", length, i), Retain: true, QoS: 1, PacketID: 1, Payload: []byte("x")})
			p.expect(wire.PUBACK, 1, want)
		}
		fits := limit / (length + 1)
		for i := range fits {
			put(i, wire.ReasonNoMatchingSubscribers)
		}
		put(fits, wire.ReasonQuotaExceeded)
		put(0, wire.ReasonNoMatchingSubscribers)
		p.put(wire.Publish{Topic: fmt.Sprintf("%0*d", length, 0), Retain: true, QoS: 1, PacketID: 1})
		p.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
		put(fits, wire.ReasonNoMatchingSubscribers)
		b.lock()
		defer b.unlock()
		if want := fits * (length + 1); b.retained.bytes > want+fits*10 || b.retained.bytes < want {
			t.Errorf("%d bytes are counted, want %d", b.retained.bytes, want)
		}
	})
}
