package session

import (
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// A handler hangs. A DISCONNECT bounds the messages from earlier connections. When the handler
// continues, all messages are redelivered.
func TestInbound_BoundsMessagesOfEarlierConnections(t *testing.T) {
	const maximum = 4
	r := newRig(t, Config{ReceiveMaximum: maximum})
	var refused error
	for range 5 {
		g := r.connect(false, Limits{})
		for id := uint16(1); id <= maximum && refused == nil; id++ {
			refused = g.HandlePublish(wire.PublishView{QoS: 1, PacketID: id, Topic: []byte("t"), Payload: []byte{byte(id)}})
		}
		r.s.Detach(g)
	}
	var bad *wire.Error
	if !errors.As(refused, &bad) || bad.Code != wire.ReasonQuotaExceeded || r.s.handling != 2*maximum {
		t.Fatalf("%v with %d messages at the handlers", refused, r.s.handling)
	}
}
