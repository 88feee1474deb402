package link

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Each part of a Disconnect is sent even if it is the only one.
func TestDisconnect_SendsEachPart(t *testing.T) {
	for name, f := range map[string]Disconnect{
		"reason":         {Reason: 0x04},
		"user property":  {User: []wire.UserProperty{{Key: "a", Value: "b"}}},
		"reason string":  {ReasonString: "bye"},
		"session expiry": {SessionExpiry: new(uint32)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, nil)
				p, up := r.up(control.Connack{})
				go func() { _ = up.Disconnect(f) }()
				got, err := control.ParseDisconnect(p.next(wire.DISCONNECT))
				if err != nil || got.Reason != f.Reason || got.ReasonString != f.ReasonString || got.HasSessionExpiry != (f.SessionExpiry != nil) ||
					!slices.Equal(got.User, f.User) {
					t.Errorf("%+v, %v", got, err)
				}
				<-r.downs
				r.end()
			})
		})
	}
}
