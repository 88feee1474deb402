package client

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// TestFootprints: what a packet makes larger in memory than on the wire counts.
func TestFootprints(t *testing.T) {
	view := func(m wire.Publish) wire.PublishView {
		raw := wire.AppendPublish(nil, &m)
		_, n := wire.Varint(raw[1:])
		v, err := wire.ParsePublish(wire.Frame{Header: raw[0], Body: raw[1+n:], Raw: raw})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	plain := footprint("t", view(wire.Publish{Topic: "t"}))
	for name, tt := range map[string]struct {
		m     wire.Publish
		least int64 // more than plain
	}{
		"payload":          {wire.Publish{Payload: make([]byte, 1000)}, 1000},
		"user properties":  {wire.Publish{User: make([]wire.UserProperty, 100)}, 100 * (userBytes + 5)},
		"correlation data": {wire.Publish{CorrelationData: make([]byte, 1000)}, 2000},
		"subscription ids": {wire.Publish{SubscriptionIDs: []uint32{1, 2, 3, 4}}, 4 * 8},
	} {
		tt.m.Topic = "t"
		if got := footprint("t", view(tt.m)) - plain; got < tt.least {
			t.Errorf("%s: %d bytes, want %d or more", name, got, tt.least)
		}
	}
}
