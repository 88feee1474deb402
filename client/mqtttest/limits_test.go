package mqtttest

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestDisconnect_ReasonCodes(t *testing.T) {
	publish := func(p wire.Publish) []byte { return wire.AppendPublish(nil, &p) }
	subscribe := func(s control.Subscribe) []byte { s.PacketID = 1; return control.AppendSubscribe(nil, &s) }
	one := func(filter string) []control.Subscription { return []control.Subscription{{Filter: filter}} }
	for _, tt := range []struct {
		name   string
		opts   Options
		packet []byte
		reason byte
	}{
		{"reserved type 0", Options{}, []byte{0x00, 0}, 0x81},
		{"reserved flags", Options{}, []byte{0xC1, 0}, 0x81},
		{"bad length", Options{}, []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, 0x81},
		{"topic of bad UTF-8", Options{}, publish(wire.Publish{Topic: "a\xff"}), 0x81},
		{"topic with U+0000", Options{}, publish(wire.Publish{Topic: "a\x00b"}), 0x81},
		{"wildcard in a topic", Options{}, publish(wire.Publish{Topic: "a/+"}), 0x81},
		{"QoS 3", Options{}, publish(wire.Publish{Topic: "a", QoS: 3, PacketID: 1}), 0x81},
		{"packet identifier 0", Options{}, publish(wire.Publish{Topic: "a", QoS: 1}), 0x82},
		{"subscription identifier from a client", Options{}, publish(wire.Publish{Topic: "a", SubscriptionIDs: []uint32{1}}), 0x82},
		{"no topic and no alias", Options{}, publish(wire.Publish{}), 0x82},
		{"alias with none allowed", Options{DisableTopicAlias: true}, publish(wire.Publish{Topic: "a", TopicAlias: 1}), 0x94},
		{"QoS 2 above the maximum", Options{MaximumQoS: 1}, publish(wire.Publish{Topic: "a", QoS: 2, PacketID: 1}), 0x9B},
		{"QoS 1 above the maximum", Options{MaximumQoS: QoS0Only}, publish(wire.Publish{Topic: "a", QoS: 1, PacketID: 1}), 0x9B},
		{"retain", Options{DisableRetain: true}, publish(wire.Publish{Topic: "a", Retain: true}), 0x9A},
		{"too large", Options{MaximumPacketSize: 100}, publish(wire.Publish{Topic: "a", Payload: make([]byte, 100)}), 0x95},
		{"filter with U+0000", Options{}, subscribe(control.Subscribe{Subscriptions: one("a\x00")}), 0x81},
		{"no filter", Options{}, subscribe(control.Subscribe{}), 0x82},
		{"shared subscription", Options{DisableShared: true}, subscribe(control.Subscribe{Subscriptions: one("$share/g/t")}), 0x9E},
		{"wildcard subscription", Options{DisableWildcard: true}, subscribe(control.Subscribe{Subscriptions: one("a/#")}), 0xA2},
		{"shared wildcard subscription", Options{DisableWildcard: true}, subscribe(control.Subscribe{Subscriptions: one("$share/g/#")}), 0xA2},
		{"subscription identifier", Options{DisableSubID: true}, subscribe(control.Subscribe{SubscriptionID: 1, Subscriptions: one("a")}), 0xA1},
		{"second CONNECT", Options{}, control.AppendConnect(nil, &control.Connect{ClientID: "c"}), 0x82},
		{"CONNACK from a client", Options{}, control.AppendConnack(nil, &control.Connack{}), 0x82},
		{"AUTH without enhanced authentication", Options{}, control.AppendAuth(nil, &control.Auth{Method: "m"}), 0x82},
		{"malformed PUBACK", Options{}, []byte{0x40, 1, 0}, 0x81},
		{"PUBACK with unknown reason", Options{}, []byte{0x40, 3, 0, 1, 0x44}, 0x82},
		{"malformed UNSUBSCRIBE", Options{}, []byte{0xA2, 2, 0, 1}, 0x81},
		{"malformed DISCONNECT", Options{}, []byte{0xE0, 2, 0, 9}, 0x81},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, tt.opts, func(t *testing.T, b *Broker) {
				w := fresh(t, b, "w")
				w.subscribe(0, "gone")
				c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 9, Will: &control.Will{Topic: "gone"}})
				c.send(tt.packet)
				c.over(tt.reason)
				w.message()
				if s := b.Stats(); s.ProtocolErrors != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestConnect_Refused(t *testing.T) {
	authenticate := func(_ context.Context, clientID, user string, password []byte) byte {
		if user == "u" && string(password) == "p" {
			return 0
		}
		return 0x86
	}
	connect := func(p control.Connect) []byte { return control.AppendConnect(nil, &p) }
	for _, tt := range []struct {
		name   string
		opts   Options
		packet []byte
		reason byte
	}{
		{"MQTT 3.1.1", Options{}, []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'}, 0x84},
		{"malformed", Options{}, []byte{0x10, 8, 0, 4, 'M', 'Q', 'T', 'T', 5, 3}, 0x81},
		{"too large", Options{MaximumPacketSize: 50}, connect(control.Connect{ClientID: string(make([]byte, 50))}), 0x95},
		{"protocol error", Options{}, []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 3, 0x21, 0, 0, 0, 0}, 0x82},
		{"bad password", Options{Authenticate: authenticate}, connect(control.Connect{HasUsername: true, Username: "u", Password: []byte("q")}), 0x86},
		{"enhanced authentication", Options{}, connect(control.Connect{AuthMethod: "SCRAM"}), 0x8C},
		{"will QoS above the maximum", Options{MaximumQoS: 1}, connect(control.Connect{Will: &control.Will{Topic: "t", QoS: 2}}), 0x9B},
		{"will retain", Options{DisableRetain: true}, connect(control.Connect{Will: &control.Will{Topic: "t", Retain: true}}), 0x9A},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, tt.opts, func(t *testing.T, b *Broker) {
				c := open(t, b.Dial())
				c.send(tt.packet)
				ack, err := control.ParseConnack(c.next(wire.CONNACK))
				if err != nil || ack.Reason != tt.reason || ack.SessionPresent {
					t.Errorf("got %+v, %v", ack, err)
				}
				c.over(0)
				if s := b.Stats(); s.Refused != 1 || s.Sessions != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestAuthenticate_AcceptsPassword(t *testing.T) {
	o := Options{Authenticate: func(_ context.Context, clientID, user string, password []byte) byte {
		if clientID == "c" && user == "u" && string(password) == "p" {
			return 0
		}
		return 0x86
	}}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		join(t, b, control.Connect{ClientID: "c", HasUsername: true, Username: "u", Password: []byte("p")})
	})
}

func TestConnect_MustBeFirstAndInTime(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := open(t, b.Dial())
		c.send(control.AppendPingreq(nil))
		c.over(0)
		start := time.Now()
		open(t, b.Dial()).over(0)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("a silent connection was closed after %v", took)
		}
	})
}

func TestConnect_AssignsClientIdentifier(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c, d := join(t, b, control.Connect{}), join(t, b, control.Connect{CleanStart: true})
		if c.ack.AssignedClientID == "" || c.ack.AssignedClientID == d.ack.AssignedClientID {
			t.Errorf("got %q and %q", c.ack.AssignedClientID, d.ack.AssignedClientID)
		}
		if !b.Connected(c.ack.AssignedClientID) {
			t.Error("the assigned identifier is not the client's")
		}
	})
}

func TestConnack_AnnouncesLimits(t *testing.T) {
	o := Options{ReceiveMaximum: 7, MaximumPacketSize: 1000, MaximumQoS: QoS0Only, TopicAliasMaximum: 3,
		DisableRetain: true, DisableWildcard: true, DisableShared: true, DisableSubID: true}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		a := c.ack
		if a.ReceiveMaximum != 7 || a.MaximumPacketSize != 1000 || !a.HasMaximumQoS || a.MaximumQoS != 0 || a.TopicAliasMaximum != 3 ||
			!a.RetainUnavailable || !a.WildcardUnavailable || !a.SharedUnavailable || !a.SubIDUnavailable {
			t.Errorf("CONNACK says %+v", a)
		}
		if got := c.subscribeWith(control.Subscribe{Subscriptions: []control.Subscription{{Filter: "t", QoS: 2}}}); got[0] != 0 {
			t.Errorf("a subscription was granted QoS %d", got[0])
		}
	})
}

func TestDisconnect_FitsMaximumPacketSize(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", MaximumPacketSize: 8})
		c.send([]byte{0x40, 1, 0})
		if f := c.next(wire.DISCONNECT); len(f.Raw) > 8 {
			t.Errorf("DISCONNECT has %d bytes", len(f.Raw))
		}
	})
}

func TestOptions_AreValidated(t *testing.T) {
	for name, o := range map[string]Options{
		"MaximumQoS":  {MaximumQoS: 3},
		"no listener": {NoTCP: true, TLS: true},
		"limit":       {MaxQueuedMessages: -1},
		"timeout":     {WriteTimeout: -1},
		"address":     {Addr: "127.0.0.1:nonsense"},
	} {
		if b, err := New(o); err == nil {
			_ = b.Close()
			t.Errorf("%s: %+v was accepted", name, o)
		} else if !strings.HasPrefix(err.Error(), "mqtttest: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnPacket_BothDirections(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	o := Options{OnPacket: func(_ context.Context, dir Direction, clientID string, packet []byte) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, dir.String()+" "+clientID+" "+PacketType(packet[0]>>4).String())
	}}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		c.subscribe(1, "t")
		c.publish("t", "x", 1)
		c.receive()
		c.leave(control.Disconnect{})
	})
	want := []string{"to server  CONNECT", "to client c CONNACK", "to server c SUBSCRIBE", "to client c SUBACK",
		"to server c PUBLISH", "to client c PUBACK", "to client c PUBLISH", "to server c PUBACK", "to server c DISCONNECT"}
	if !slices.Equal(seen, want) {
		t.Errorf("saw %q", seen)
	}
}

func TestWrite_SlowReaderIsNotCut(t *testing.T) {
	inBubble(t, Options{WriteTimeout: 5 * time.Second}, func(t *testing.T, b *Broker) {
		nc := b.Dial()
		defer nc.Close()
		_, _ = nc.Write(control.AppendConnect(nil, &control.Connect{ClientID: "c"}))
		go func() {
			_, _ = nc.Write(control.AppendSubscribe(nil, &control.Subscribe{PacketID: 1, Subscriptions: []control.Subscription{{Filter: "t"}}}))
		}()
		if _, err := io.ReadFull(nc, make([]byte, 13+6)); err != nil { // CONNACK and SUBACK
			t.Fatal(err)
		}
		fresh(t, b, "p").publish("t", string(make([]byte, 1000)), 0)
		for read := 0; read < 1000; {
			time.Sleep(3 * time.Second)
			n, err := nc.Read(make([]byte, 100))
			if read += n; err != nil {
				t.Fatalf("cut after %d bytes: %v", read, err)
			}
		}
	})
}

func TestWrite_BlockedReaderIsCut(t *testing.T) {
	inBubble(t, Options{WriteTimeout: 5 * time.Second}, func(t *testing.T, b *Broker) {
		nc := b.Dial()
		defer nc.Close()
		_, _ = nc.Write(control.AppendConnect(nil, &control.Connect{ClientID: "c"}))
		ping := control.AppendPingreq(nil)
		for {
			if _, err := nc.Write(ping); err != nil {
				break // nobody ever read a PINGRESP
			}
		}
		synctest.Wait()
		if b.Connected("c") {
			t.Error("it is still connected")
		}
	})
}
