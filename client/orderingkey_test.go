package client_test

import (
	"context"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// LaneKey runs on the goroutine that reads the connection: a panic in it must
// not end the process, nor cost the message.
func TestOrderingKey_PanicFallsBackToTopic(t *testing.T) {
	h := client.HandlerFunc(func(context.Context, *client.Message) error { return nil })
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.OrderingKey = func(*client.Message) string { panic("no key") }
	}, h, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		if a := p.nextAck(wire.PUBACK); a.PacketID != 1 || a.Reason != 0 {
			t.Errorf("answered with %+v", a)
		}
		if failed := eventsOf[client.HandlerFailed](events); len(failed) != 1 {
			t.Errorf("%d HandlerFailed events, want 1", len(failed))
		}
	})
}
