package mqtttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// connect311 is a CONNECT of MQTT 3.1.1 with the payload's fields in order.
func connect311(flags byte, fields ...string) []byte {
	body := append([]byte(v311Head), flags, 0, 60)
	for _, field := range fields {
		body = wire.AppendString(body, field)
	}
	return frame(byte(wire.CONNECT)<<4, body).Raw
}

func publish311(topic, payload string, qos byte, id uint16) []byte {
	body := wire.AppendString(nil, topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return frame(byte(wire.PUBLISH)<<4|qos<<1, append(body, payload...)).Raw
}

const cleanSession, will311 = 0x02, 0x04

// join311 connects and wants these bytes as the answer.
func join311(t testing.TB, b *Broker, connect, connack []byte) *rawClient {
	t.Helper()
	c := open(t, b.Dial())
	c.send(connect)
	c.wantBytes(connack)
	return c
}

func (c *rawClient) wantBytes(want []byte) {
	c.t.Helper()
	if got := c.next(0).Raw; !bytes.Equal(got, want) {
		c.t.Fatalf("got % x, want % x", got, want)
	}
}

var accepted311 = []byte{0x20, 2, 0, 0}

func TestMQTT311_SubscribeAndPublish(t *testing.T) {
	inBubble(t, Options{MQTT311: true}, func(t *testing.T, b *Broker) {
		old := join311(t, b, connect311(cleanSession, "old"), accepted311)
		old.send(append([]byte{0x82, 14, 0, 9}, "\x00\x03a/#\x02\x00\x03b/+\x01"...))
		old.wantBytes([]byte{0x90, 4, 0, 9, 2, 1})
		young := fresh(t, b, "young")
		young.subscribe(2, "from/old")
		put := wire.Publish{Topic: "a/1", Payload: []byte("hi"), QoS: 1, PacketID: 7, ContentType: "text/plain",
			User: []wire.UserProperty{{Key: "k", Value: "v"}}, HasExpiry: true, MessageExpiry: 9}
		young.put(put)
		young.finished(1, 7)
		old.wantBytes(publish311("a/1", "hi", 1, 1))
		old.send([]byte{0x40, 2, 0, 1})
		young.publish("a/0", "now", 0)
		old.wantBytes(publish311("a/0", "now", 0, 0))
		young.publish("a/2", "once", 2)
		old.wantBytes(publish311("a/2", "once", 2, 2))
		old.send([]byte{0x50, 2, 0, 2})
		old.wantBytes([]byte{0x62, 2, 0, 2})
		old.send([]byte{0x70, 2, 0, 2})

		old.send(publish311("from/old", "zero", 0, 0))
		old.send(publish311("from/old", "one", 1, 3))
		old.wantBytes([]byte{0x40, 2, 0, 3})
		old.send(publish311("nobody", "there", 1, 4))
		old.wantBytes([]byte{0x40, 2, 0, 4}) // no reason code 0x10
		old.send(publish311("from/old", "two", 2, 5))
		old.wantBytes([]byte{0x50, 2, 0, 5})
		old.send([]byte{0x62, 2, 0, 5})
		old.wantBytes([]byte{0x70, 2, 0, 5})
		young.wantMessages("zero", "one", "two")

		old.send(append([]byte{0xA2, 7, 0, 11}, "\x00\x03a/#"...))
		old.wantBytes([]byte{0xB0, 2, 0, 11})
		old.send(control.AppendPingreq(nil))
		old.wantBytes([]byte{0xD0, 0})
		young.publish("a/1", "not any more", 1)
		old.quiet()
	})
}

func TestMQTT311_SessionContinuesWithoutCleanSession(t *testing.T) {
	inBubble(t, Options{MQTT311: true}, func(t *testing.T, b *Broker) {
		old := join311(t, b, connect311(0, "old"), accepted311)
		old.send(append([]byte{0x82, 6, 0, 9}, "\x00\x01t\x01"...))
		old.wantBytes([]byte{0x90, 3, 0, 9, 1})
		old.cut()
		time.Sleep(1000 * time.Hour)
		fresh(t, b, "young").publish("t", "kept", 1)
		old = join311(t, b, connect311(0, "old"), []byte{0x20, 2, 1, 0})
		old.wantBytes(publish311("t", "kept", 1, 1))
		old.cut()
		synctest.Wait()
		join311(t, b, connect311(cleanSession, "old"), accepted311).cut()
		synctest.Wait()
		if b.Session("old") {
			t.Error("the session of Clean Session 1 outlives its connection")
		}
	})
}

// A will of MQTT 3.1.1 knows no delay: to be back at once does not call it off.
func TestMQTT311_WillHasNoDelay(t *testing.T) {
	inBubble(t, Options{MQTT311: true}, func(t *testing.T, b *Broker) {
		w := fresh(t, b, "w")
		w.subscribe(1, "gone")
		for _, session := range []byte{0, cleanSession} {
			connect := connect311(will311|0x08|session, "c", "gone", "offline")
			c := open(t, b.Dial())
			c.send(connect)
			c.next(wire.CONNACK)
			c.cut()
			synctest.Wait()
			c = open(t, b.Dial())
			c.send(connect)
			c.next(wire.CONNACK)
			w.wantMessages("offline")
			// Taken over: the connection ends without a packet, and the will goes out.
			d := open(t, b.Dial())
			d.send(connect)
			d.next(wire.CONNACK)
			c.over(0)
			w.wantMessages("offline")
			d.send([]byte{0xE0, 0})
			d.over(0)
			time.Sleep(time.Hour)
			w.quiet()
		}
	})
}

func TestMQTT311_ReturnCodes(t *testing.T) {
	o := Options{MQTT311: true, MaxConnections: 1, Authenticate: func(_ context.Context, _, user string, _ []byte) byte {
		return map[string]byte{"bad": 0x86, "banned": 0x87}[user]
	}}
	for _, tt := range []struct {
		name    string
		connect []byte
		code    byte
	}{
		{"no identifier for a session that goes on", connect311(0, ""), 2},
		{"server unavailable", connect311(cleanSession, "second"), 3},
		{"bad password", connect311(0xC2, "c", "bad", "p"), 4},
		{"not authorized", connect311(0xC2, "c", "banned", "p"), 5},
		{"password without user name", connect311(0x42, "c", "p"), 0},
		{"Will QoS 3", connect311(0x1E, "c", "t", "p"), 0},
		{"cut short", connect311(will311, "c", "t"), 0},
		{"no Client Identifier at all", connect311(0), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, o, func(t *testing.T, b *Broker) {
				join311(t, b, connect311(0xC2, "", "good", "p"), accepted311)
				c := open(t, b.Dial())
				c.send(tt.connect)
				if tt.code != 0 {
					c.wantBytes([]byte{0x20, 2, 0, tt.code})
				}
				c.over(0)
			})
		})
	}
}

func TestMQTT311_OmitsMQTT5Features(t *testing.T) {
	for name, packet := range map[string][]byte{
		"PUBACK with a reason code":   {0x40, 3, 0, 1, 0},
		"DISCONNECT with a reason":    {0xE0, 1, 4},
		"AUTH":                        {0xF0, 0},
		"options in SUBSCRIBE":        {0x82, 6, 0, 9, 0, 1, 't', 0x05},
		"SUBSCRIBE that is cut short": {0x82, 1, 0},
		"SUBSCRIBE of nothing":        {0x82, 2, 0, 9},
		"PUBLISH without identifier":  {0x32, 4, 0, 1, 't', 0},
		"PUBLISH without a topic":     {0x30, 2, 0, 0},
		"a second CONNECT":            connect311(cleanSession, "c"),
		"a CONNECT of MQTT 5":         control.AppendConnect(nil, &control.Connect{ClientID: "c"}),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{MQTT311: true}, func(t *testing.T, b *Broker) {
				w := fresh(t, b, "w")
				w.subscribe(1, "gone")
				c := join311(t, b, connect311(will311|cleanSession, "c", "gone", "offline"), accepted311)
				start := time.Now()
				c.send(packet)
				c.over(0)
				if took := time.Since(start); took != 0 {
					t.Errorf("the connection ended after %v; was that the keep alive?", took)
				}
				w.wantMessages("offline")
			})
		})
	}
}
