package conformance

import (
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 3.12 and 3.13: PINGREQ and PINGRESP.

// The Server MUST send a PINGRESP packet in response to a PINGREQ packet. If it does not, the
// client gives up the connection.
func TestMQTT_3_12_4_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.KeepAlive = 8 * time.Second
		_, conn := r.start(control.Connack{})
		for range 3 {
			conn.ExpectPingreq()
			conn.Pingresp()
		}
		conn.ExpectPingreq()
		began := time.Now()
		conn.ExpectClosed()
		if waited := time.Since(began); waited > 8*time.Second {
			t.Errorf("the connection was given up after %v", waited)
		}
		r.Connect(control.Connack{SessionPresent: true})
		if got := eventsOf[client.Disconnected](r); len(got) != 1 || got[0].Err == nil || errors.Is(got[0].Err, client.ErrClosed) {
			t.Errorf("Disconnected events are %v", got)
		}
	})
}
