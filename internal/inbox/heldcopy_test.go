package inbox_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/ordering"
)

// A copy of a message that is held for order is acknowledged together with it, not earlier. If the
// process ends meanwhile, the server must send the message again. The server was killed and sends
// the message under another packet identifier.
func TestOrdering_CopyOfAHeldMessageIsAcknowledgedWithIt(t *testing.T) {
	for name, id := range map[string]string{"with ID": "b", "without ID": ""} {
		for _, qos := range []byte{1, 2} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(c *inbox.Config[*message]) { c.Ordering = &ordering.Options{GapTimeout: 5 * time.Second} }, func(r *rig) {
					r.server.connect()
					m := func(n int, id string, seq uint64) *message {
						return &message{Number: n, Topic: "t", ID: id, Stream: "p", Seq: seq, QoS: qos, Bytes: 100}
					}
					r.send(m(1, "a", 1), m(3, id, 3))
					r.wantAcks("1")
					r.server.disconnect()
					for _, o := range r.server.queue {
						o.id, o.sent = 0, false
					}
					r.server.connect()
					r.wantAcks()
					time.Sleep(6 * time.Second)
					r.wantAcks("3")
					if n := r.box.Stats().Bytes; n != 0 {
						t.Errorf("%d bytes are left", n)
					}
				})
			})
		}
	}
}
