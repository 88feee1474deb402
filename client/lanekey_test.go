package client

import (
	"context"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// LaneKey runs on the goroutine that reads the connection: a panic in it must
// not end the process, nor cost the message.
func TestALaneKeyThatPanicsFallsBackToTheTopic(t *testing.T) {
	h := HandlerFunc(func(context.Context, *Message) error { return nil })
	receiving(t, func(cfg *Config) {
		cfg.Receiving.OrderingKey = func(*Message) string { panic("no key") }
	}, h, func(t *testing.T, c *Client, p *peer, events *recorder) {
		p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		if a := p.nextAck(wire.PUBACK); a.PacketID != 1 || a.Reason != 0 {
			t.Errorf("answered with %+v", a)
		}
		if failed := eventsOf[HandlerFailed](events); len(failed) != 1 {
			t.Errorf("%d HandlerFailed events, want 1", len(failed))
		}
	})
}
