package interop

import (
	"fmt"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// window counts the messages in flight on the single connection of a proxy: QoS 1 and 2 messages in
// one direction without a final acknowledgement.
type window struct {
	dir mqtttest.Direction

	mu       sync.Mutex
	now, top int
	messages int
}

func (w *window) look(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
	w.mu.Lock()
	defer w.mu.Unlock()
	refused := len(body) > 2 && body[2] >= 0x80
	switch t := mqtttest.PacketType(header >> 4); {
	case t == mqtttest.CONNECT:
		w.now = 0 // the quota belongs to the connection [MQTT-3.3.4]
	case dir == w.dir && t == mqtttest.PUBLISH && header&0x06 != 0:
		w.now++
		w.messages++
		w.top = max(w.top, w.now)
	case dir != w.dir && (t == mqtttest.PUBACK || t == mqtttest.PUBCOMP || t == mqtttest.PUBREC && refused):
		w.now--
	}
	return mqtttest.ActionPass
}

func (w *window) most() (top, messages int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.top, w.messages
}

func TestReceiveMaximum_OfTheServerDespiteCuts(t *testing.T) {
	t.Parallel()
	const receiveMaximum = 2
	onEachBroker(t, setup{receiveMaximum: receiveMaximum}, func(r *run) {
		topic := r.topic("window")
		in := r.subscribe(r.start(r.config("sub")), topic, client.ExactlyOnce)
		link := r.proxy()
		sent := &window{dir: mqtttest.ToServer}
		link.OnPacket(sent.look)
		cfg := r.config("pub")
		cfg.Servers, cfg.Dir = []string{link.URL()}, r.TempDir()
		publisher := r.start(cfg)
		want := numberedUpTo(60)
		for i, text := range want {
			r.publish(publisher, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
			if i%20 == 10 {
				link.Cut()
			}
		}
		r.fence(publisher, in, topic, client.ExactlyOnce)
		r.expectExactly(in, topic, want)
		top, messages := sent.most()
		if top > receiveMaximum || messages < len(want) {
			r.Errorf("%d of %d messages were in flight at once, want at most %d", top, messages, receiveMaximum)
		}
	})
}

func TestReceiveMaximum_ExceededByTheBroker(t *testing.T) {
	t.Parallel()
	const receiveMaximum = 4
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("flood")
		link := r.proxy()
		got := &window{dir: mqtttest.ToClient}
		link.OnPacket(got.look)
		cfg := r.config("sub")
		cfg.Servers, cfg.Receiving.ReceiveMaximum = []string{link.URL()}, receiveMaximum
		sub := r.start(cfg)
		in := r.subscribe(sub, topic, client.ExactlyOnce)
		publisher := r.start(r.config("pub"))
		want := numberedUpTo(40)
		for _, text := range want {
			r.publish(publisher, client.Message{Topic: topic, Payload: []byte(text), QoS: client.ExactlyOnce})
		}
		r.fence(publisher, in, topic, client.ExactlyOnce)
		r.expectExactly(in, topic, want)
		switch top, _ := got.most(); {
		case top <= receiveMaximum:
		case !r.broker.Traits().exceedsReceiveMaximum:
			r.Errorf("the broker had %d messages in flight, the client's Receive Maximum is %d", top, receiveMaximum)
		default:
			r.Logf("departs from [MQTT-3.3.4-9]: %d messages in flight, the client's Receive Maximum is %d; %d connections were needed", top, receiveMaximum, sub.Stats().Connections)
		}
	})
}

// mosquitto does not count the first byte of a packet. A packet at the client's Maximum Packet Size
// has one byte more. If the client refused it, it would be resent on each connection.
func TestMaximumPacketSize_MosquittoMiscounts(t *testing.T) {
	t.Parallel()
	const maximum = 5000
	onEachBroker(t, setup{}, func(r *run) {
		link := r.proxy()
		var sizes record[int] // Remaining Lengths
		link.OnPacket(func(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
			if dir == mqtttest.ToClient && mqtttest.PacketType(header>>4) == mqtttest.PUBLISH {
				sizes.add(len(body))
			}
			return mqtttest.ActionPass
		})
		cfg := r.config("sub")
		cfg.Servers, cfg.Connection.MaximumPacketSize = []string{link.URL()}, maximum
		sub := r.start(cfg)
		in := r.subscribe(sub, r.topic("#"), client.ExactlyOnce)
		publisher := r.start(r.config("pub"))
		for qos := range client.ExactlyOnce + 1 {
			topic := r.topic(fmt.Sprint("size/", qos))
			largest := maximum - 3 - 2 - len(topic) - 1 // of a payload, as Remaining Length counts
			if qos > 0 {
				largest -= 2 + mooring.overhead(byte(qos))
			}
			for _, excess := range []int{1, 2} {
				r.deliver(publisher, client.Message{Topic: topic, Payload: make([]byte, largest+excess), QoS: qos})
			}
		}
		r.fence(publisher, in, r.topic("fence"), client.ExactlyOnce)
		on, _ := sizes.snapshot()
		if n := sub.Stats().Connections; n != 1 {
			r.Errorf("%d connections were needed, want 1", n)
		}
		counted := 0
		for _, size := range on {
			if size+3 > maximum {
				counted++
			}
			if size+3 > maximum+1 {
				r.Errorf("a packet of %d bytes arrived, the client's Maximum Packet Size is %d", size+3, maximum)
			}
		}
		switch {
		case !r.broker.Traits().miscountsPackets && counted > 0:
			r.Errorf("the broker sent %d packets above the client's Maximum Packet Size", counted)
		case counted == 0:
		case counted != 3 || len(on) != 4:
			r.Errorf("packets of these Remaining Lengths came: %v, want one of each QoS and the fence", on)
		default:
			r.Logf("departs from [MQTT-3.1.2-24]: packets of %d bytes, and the client's Maximum Packet Size is %d", maximum+1, maximum)
		}
	})
}
