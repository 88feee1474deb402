package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// The server chooses reason strings. Of each, 1,024 bytes are kept, in outcomes, errors and events alike.
func TestReasonStrings_AreTruncated(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		long := strings.Repeat("r", 60_000)
		var events recorder
		c := mustNew(t, testConfig("c", &events, s.dial))
		start(t, c)
		p := s.accept(control.Connack{})
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0x99, long)
		<-d.Done()
		refused := (*client.RefusedError)(nil)
		if err := d.Outcome().Err; !errors.As(err, &refused) || len(refused.Reason) != 1024 {
			t.Errorf("outcome: a reason of %d bytes", len(refused.Reason))
		}
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8B, ReasonString: long}))
		synctest.Wait()
		for _, e := range eventsOf[client.Disconnected](&events) {
			if ended := (*client.ConnectionError)(nil); !errors.As(e.Err, &ended) || len(ended.Reason) != 1024 {
				t.Errorf("Disconnected: %.80v", e.Err)
			}
		}
		p = s.open()
		p.send(control.AppendConnack(nil, &control.Connack{Reason: 0x89, ReasonString: long}))
		synctest.Wait()
		e := eventsOf[client.ConnectFailed](&events)
		if ended := (*client.ConnectionError)(nil); len(e) == 0 || !errors.As(e[0].Err, &ended) || len(ended.Reason) != 1024 {
			t.Errorf("ConnectFailed: %.80v", e)
		}
		must(t, c.Close())
	})
}
