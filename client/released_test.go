package client_test

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Pending PUBRELs of an earlier process do not wait for messages that the server's Receive Maximum
// delays [MQTT-3.3.4-8].
func TestPubrel_OfEarlierProcessIgnoresWindow(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		for range 3 {
			publish(t, c, "t", "waits", client.AtLeastOnce)
			p.nextPublish()
		}
		var ids []uint16
		for range 3 {
			publish(t, c, "t", "released", client.ExactlyOnce)
			ids = append(ids, p.nextPublish().PacketID)
			p.ack(wire.PUBREC, ids[len(ids)-1], 0, "")
			p.nextAck(wire.PUBREL)
		}
		p.close()
		p = s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: 1})
		wait := func() (first uint16) {
			t.Helper()
			left := map[uint16]bool{}
			for _, id := range ids {
				left[id] = true
			}
			for len(left) > 0 || first == 0 {
				var f wire.Frame
				select {
				case got, ok := <-p.got:
					if f = got; !ok {
						t.Fatalf("the connection ended; PUBRELs for %v are owed", left)
					}
				case <-time.After(time.Minute):
					t.Fatalf("PUBRELs for %v do not come", left)
				}
				switch f.Type() {
				case wire.PUBLISH:
					v, err := wire.ParsePublish(f)
					if err != nil || first != 0 {
						t.Fatalf("a second message came beyond the window, %v", err)
					}
					first = v.PacketID
				case wire.PUBREL:
					a, err := wire.ParseAck(f)
					if err != nil || !left[a.PacketID] {
						t.Fatalf("PUBREL %d came, %v", a.PacketID, err)
					}
					delete(left, a.PacketID)
				}
				if len(left) == 0 && len(p.got) == 0 {
					break
				}
			}
			p.quiet()
			return first
		}
		wait()
		must(t, c.Close())
		cfg.Store.Custom = store.Reopen()
		start(t, mustNew(t, cfg))
		p = s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: 1})
		first := wait()
		for _, id := range ids {
			p.ack(wire.PUBCOMP, id, 0, "")
		}
		if first == 0 {
			first = p.nextPublish().PacketID
		}
		p.ack(wire.PUBACK, first, 0, "")
		for range 2 {
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		p.quiet()
	})
}
