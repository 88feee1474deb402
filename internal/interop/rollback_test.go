package interop

import (
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// TestRollback_ReusedIdentifiersLoseNothing simulates a killed broker that saves late and continues
// from an older state. It has lost a QoS 2 message that the client has handled and for which it
// waits for PUBREL, and assigns its Packet Identifier to the next message. That is another message
// and not a redelivery [MQTT-4.3.3-10]. In the test, a second broker that also knows the session
// has the older state.
func TestRollback_ReusedIdentifiersLoseNothing(t *testing.T) {
	t.Parallel()
	now := startOurs(t, setup{})
	older := newRun(t, startOurs(t, setup{}))
	r := newRun(t, now)
	topic := r.topic("rollback")
	link := r.proxy()
	cfg := r.config("sub")
	cfg.Servers, cfg.Dir = []string{link.URL()}, r.TempDir()
	events := watch(&cfg)
	in := r.subscribe(r.start(cfg), topic, client.ExactlyOnce)
	move := func(to broker, connection int) client.Connected {
		r.Helper()
		if err := link.SetTarget(to.URL()); err != nil {
			r.Fatal(err)
		}
		link.Refuse(false)
		link.Cut()
		return nth[client.Connected](r, events, connection)
	}
	// Create a session on both brokers, with its subscription.
	var subacks record[mqtttest.PacketType]
	link.OnPacket(func(_ mqtttest.Direction, header byte, _ []byte) mqtttest.Action {
		if t := mqtttest.PacketType(header >> 4); t == mqtttest.SUBACK {
			subacks.add(t)
		}
		return mqtttest.ActionPass
	})
	move(older.broker, 2)
	subacks.awaitN(r, "restored subscriptions", 1)
	if e := move(now, 3); !e.SessionPresent {
		r.Fatal("the broker did not keep the session")
	}

	var identifiers record[string]
	note := func(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
		if at := 2 + len(topic); dir == mqtttest.ToClient && mqtttest.PacketType(header>>4) == mqtttest.PUBLISH && header&0x06 == 0x04 {
			identifiers.add(string(body[at : at+2]))
		}
		return mqtttest.ActionPass
	}
	link.OnPacket(func(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
		if dir == mqtttest.ToClient && mqtttest.PacketType(header>>4) == mqtttest.PUBREL {
			link.Refuse(true)
			return mqtttest.ActionDrop
		}
		return note(dir, header, body)
	})
	r.publish(r.start(r.config("pub")), client.Message{Topic: topic, Payload: []byte("handled"), QoS: client.ExactlyOnce})
	nth[client.Disconnected](r, events, 3) // PUBREL was lost
	past := older.start(older.config("pub"))
	for _, text := range []string{"a", "b", "c"} {
		older.deliver(past, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
	}
	link.OnPacket(note)
	if e := move(older.broker, 4); !e.SessionPresent {
		r.Fatal("the older broker did not keep the session")
	}
	older.fence(past, in, topic, client.ExactlyOnce)
	if got, want := in.texts(topic), []string{"handled", "a", "b", "c"}; !slices.Equal(got, want) {
		r.Errorf("handled %q, want %q", got, want)
	}
	if ids, _ := identifiers.snapshot(); !slices.Contains(ids[1:], ids[0]) {
		r.Errorf("the identifiers %q do not repeat the first: this test shows nothing", ids)
	}
}
