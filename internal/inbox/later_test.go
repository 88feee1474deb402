package inbox_test

import (
	"sync/atomic"
	"testing"
	"time"
)

// If a further handler may be declared for a message, the message and later messages of its topic
// wait until it is declared or the grace period ends. Other messages continue.
func TestInbox_WaitsForAFurtherHandler(t *testing.T) {
	for _, declared := range []bool{false, true} {
		inBubble(t, nil, func(r *rig) {
			r.server.connect()
			r.box.Connected()
			var first, second atomic.Bool
			other := r.apart(2)[1]
			later := func(n int, here *atomic.Bool) *message {
				return &message{Number: n, Topic: "t", QoS: 1, Bytes: 100, Later: here}
			}
			r.send(later(1, &first), later(2, nil), later(3, &second), later(4, nil), &message{Number: 5, Topic: other, QoS: 1, Bytes: 100})
			r.wantFacts("handled 5")
			r.send(&message{Number: 6, Topic: "t", Bytes: 100, Later: &first}) // QoS 0 does not wait
			r.wantFacts("handled 6")
			if declared {
				first.Store(true)
				r.declared.Add(1)
				r.box.Declared()
				r.wantFacts("handled 1", "handled 2")
				r.wantAcks("1", "2")
			}
			time.Sleep(31 * time.Second)
			if declared {
				r.wantFacts("handled 3", "handled 4")
			} else {
				r.wantFacts("handled 1", "handled 2", "handled 3", "handled 4")
			}
			r.send(later(7, &second)) // the grace period applies once per inbox
			r.wantFacts("handled 7")
			if n := r.box.Stats().Bytes; n != 0 {
				t.Errorf("%d bytes are left", n)
			}
		})
	}
}
