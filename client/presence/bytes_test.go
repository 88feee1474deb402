package presence_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// Devices choose their topics and texts. They take no more than MaxBytes, and what the texts are cut to.
func TestTracker_MaxBytes(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const limit, length = 8 << 20, 60_000
	before := heap()
	tracker := presence.NewTracker(presence.Options{MaxBytes: limit, Parse: func(topic string, payload []byte) (presence.Status, error) {
		return presence.Status{State: presence.Online, Reason: topic + "r", Version: topic + "v"}, nil
	}})
	for i := range 1000 {
		tracker.Apply(presence.Message{Topic: fmt.Sprintf("%0*d", length, i), Payload: []byte("x"), At: time.Unix(1, 0)})
	}
	if used := heap() - before; used > limit+1<<20 {
		t.Errorf("%d bytes of heap, want at most %d", used, limit+1<<20)
	}
	if c := tracker.Counts(time.Unix(2, 0)); c.Refused != 1000-limit/length {
		t.Errorf("%+v", c)
	}
	runtime.KeepAlive(tracker)
}
