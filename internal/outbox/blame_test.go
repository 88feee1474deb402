package outbox

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// The remembered topics take little memory, even if they are many and long.
func TestBlame_Topics(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var b blame
	var p poison
	for n := range 2 * maxGiven {
		topic := fmt.Sprintf("%060000d", n)
		if !b.counts(topic, time.Unix(1, 0)) || b.counts(topic, time.Unix(1, 0)) {
			t.Fatalf("topic %d does not count once", n)
		}
		e := &persistence.Entry{Packet: wire.AppendPublish(nil, &wire.Publish{Topic: topic, QoS: 1, PacketID: 1})}
		if p.gaveUp(e) {
			t.Fatalf("topic %d was given up before", n)
		}
		if p.giveUp(e); !p.gaveUp(e) {
			t.Fatalf("topic %d was not given up", n)
		}
	}
	if used := heap() - before; used > 1<<20 {
		t.Errorf("%d bytes of heap", used)
	}
	runtime.KeepAlive(&b)
	runtime.KeepAlive(&p)
}
